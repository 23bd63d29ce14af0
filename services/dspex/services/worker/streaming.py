"""DSPy's chunks as deltas of output fields that join to the field's text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dspy
from dspy.streaming import StreamListener, StreamResponse

from dspex.contracts.envelope import Delta
from dspex.contracts.failures import ParseFailed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from dspex.bus.events import Events


class FieldText:
    """The text of one field as it grows.

    DSPy strips a field's text once it is whole, so white space at its start is
    dropped here and white space at the end held back until more text follows:
    what was told always is a beginning of the final text.
    """

    def __init__(self) -> None:
        self.told = ""
        self._held = ""

    def add(self, chunk: str) -> str:
        """Take a chunk in and return what can be told now; may be empty."""
        text = self._held + chunk
        if not self.told:
            text = text.lstrip()
        fresh = text.rstrip()
        self._held = text[len(fresh) :]
        self.told += fresh
        return fresh

    def rest(self, final: Any) -> str:
        """What is missing of the final text; empty when it went another way."""
        if isinstance(final, str) and final.startswith(self.told):
            return final[len(self.told) :]
        return ""


async def run_streaming(
    module: dspy.Module, call: Mapping[str, Any], events: Events
) -> dspy.Prediction:
    """Run a module, tell its outputs as they are written, return them whole.

    Args:
        module: A predictor or something built of them.
        call: Keyword arguments of its call.
        events: Where deltas are told.

    Raises:
        ParseFailed: DSPy's stream ended without a prediction.
    """
    names = list(_output_fields(module))
    texts = {name: FieldText() for name in names}
    prediction: dspy.Prediction | None = None
    async for item in _chunks(module, names, call):
        if isinstance(item, StreamResponse):
            name = item.signature_field_name
            if text := texts[name].add(item.chunk):
                await events.emit(Delta, field=name, text=text)
        elif isinstance(item, dspy.Prediction):
            prediction = item
    if prediction is None:
        raise ParseFailed("The model's stream ended before its outputs were whole.")
    for name, text in texts.items():
        if rest := text.rest(prediction.get(name)):
            await events.emit(Delta, field=name, text=rest)
    return prediction


def _chunks(
    module: dspy.Module, names: list[str], call: Mapping[str, Any]
) -> AsyncIterator[Any]:
    # Listeners remember what they have seen, so each request gets its own.
    listeners = [StreamListener(signature_field_name=name) for name in names]
    stream: Callable[..., AsyncIterator[Any]] = dspy.streamify(
        module, stream_listeners=listeners, is_async_program=True
    )
    return stream(**call)


def _output_fields(module: dspy.Module) -> Mapping[str, Any]:
    fields: Mapping[str, Any] = module.predictors()[-1].signature.output_fields
    return fields
