"""DSPy's chunks as deltas of output fields that join to the field's text.

DSPy's own stream listeners are not used: they give no deltas when a reply comes in
one piece, and markup or the next field's name when it comes in many. The raw chunks
are read by ``dspex.native.replies.incremental`` instead.
"""

from __future__ import annotations

import dataclasses
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import dspy

from dspex.contracts.envelope import Delta
from dspex.contracts.failures import ParseFailed
from dspex.native.replies.incremental import Format, reader

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from dspex.bus.events import Events


class FieldText:
    """The text of one field as it grows.

    DSPy strips a field's text once it is whole, except in JSON, so white space at
    its start is dropped here and white space at the end held back until more text
    follows: what was told always is a beginning of the final text.

    Args:
        strips: Whether the adapter strips texts.
    """

    def __init__(self, *, strips: bool = True) -> None:
        self._told: list[str] = []
        self._strips = strips
        self._held = ""

    def add(self, chunk: str) -> str:
        """Take a chunk in and return what can be told now; may be empty."""
        if not self._strips:
            self._told.append(chunk)
            return chunk
        text = self._held + chunk
        if not self._told:
            text = text.lstrip()
        fresh = text.rstrip()
        self._held = text[len(fresh) :]
        if fresh:
            self._told.append(fresh)
        return fresh

    def rest(self, final: Any) -> str:
        """What is missing of the final text; empty when it went another way."""
        told = "".join(self._told)
        if isinstance(final, str) and final.startswith(told):
            return final[len(told) :]
        return ""


@dataclasses.dataclass(frozen=True)
class Last:
    """The predictor whose outputs are told as they are written.

    Attributes:
        predict: It; DSPy asks its listeners for an attribute of this name.
        names: For an output of it, the name under which it is told.
    """

    predict: Any
    names: dict[str, str]

    @classmethod
    def of(cls, module: dspy.Module) -> Last:
        """The one of a module that is one, or calls just one."""
        predictor: Any = module.predictors()[-1]
        return cls(
            predictor, {name: name for name in predictor.signature.output_fields}
        )


async def run_streaming(
    module: Any, call: Mapping[str, Any], last: Last, events: Events
) -> dspy.Prediction:
    """Run a module, tell its outputs as they are written, return them whole.

    Args:
        module: One predictor, or something that calls one.
        call: Keyword arguments of its call.
        last: Whose outputs are told.
        events: Where deltas are told.

    Raises:
        ParseFailed: DSPy's stream ended without a prediction.
    """
    written = written_by(dspy.settings.adapter)
    texts = {name: FieldText(strips=written != "json") for name in last.names}
    reply = reader(written, list(last.predict.signature.output_fields))
    prediction: dspy.Prediction | None = None
    async for item in chunks(module, call):
        if isinstance(item, dspy.Prediction):
            prediction = item
            continue
        for name, pieces in groupby(reply.feed(_text(item)), key=itemgetter(0)):
            piece = "".join(text for _, text in pieces)
            if name in texts and (text := texts[name].add(piece)):
                await events.emit(Delta, field=last.names[name], text=text)
    if prediction is None:
        raise ParseFailed("The model's stream ended before its outputs were whole.")
    for name, grown in texts.items():
        if rest := grown.rest(prediction.get(last.names[name])):
            await events.emit(Delta, field=last.names[name], text=rest)
    return prediction


def chunks(module: Any, call: Mapping[str, Any]) -> AsyncIterator[Any]:
    """DSPy's own stream: the model's raw chunks, then the prediction."""
    stream: Any = dspy.streamify(module, is_async_program=True)
    found: AsyncIterator[Any] = stream(**call)
    return found


def written_by(adapter: dspy.Adapter) -> Format:
    """The format an adapter asks the model for."""
    if isinstance(adapter, dspy.JSONAdapter):
        return "json"
    return "xml" if type(adapter).__name__ == "XMLAdapter" else "chat"


def _text(chunk: Any) -> str:
    choices = getattr(chunk, "choices", None)
    if not choices:
        return ""  # usage, or an event of the program itself
    content = getattr(choices[0].delta, "content", None)
    if not isinstance(content, str):
        return ""
    # Half of a surrogate pair cannot be sent; the outputs will be refused for it.
    return content.encode("utf-8", "replace").decode()
