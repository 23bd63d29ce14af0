"""Language models that answer from the record, for the workers of a replay.

The answer is put in where DSPy would make the call, above its engines: no address is
looked up, no key is needed, and every release of DSPy is served alike.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dspy

from dspex.contracts.failures import BY_CODE, Failure, Internal, Unsupported
from dspex.services.worker.carriers import CarriedLM
from dspex.services.worker.failures import to_failure
from dspex.services.worker.recorded import RecordedLM, asked, asked_instead
from dspex.services.worker.stoppable import in_loop

if TYPE_CHECKING:
    from dspex.bus.replaying import Answers
    from dspex.contracts.replays import Asked, FromRecord


class _FromRecord(CarriedLM):
    """A language model that is not called: the record answers, unless it says not."""

    answers: Answers | None = None

    async def acall(
        self, prompt: Any = None, *, messages: Any = None, **kwargs: Any
    ) -> Any:
        """What was answered then."""
        source, call = self._source()
        found = await source.ask(call)
        if found.really:
            given = asked_instead(found.messages) or messages
            return await super().acall(prompt, messages=given, **kwargs)
        for chunk in self._told(found):
            await dspy.settings.send_stream.send(chunk)
        return self._given(found)

    def __call__(
        self, prompt: Any = None, *, messages: Any = None, **kwargs: Any
    ) -> Any:
        """The same in a thread."""
        source, call = self._source()
        found = source.ask_from_thread(call)
        if found.really:
            given = asked_instead(found.messages) or messages
            return super().__call__(prompt, messages=given, **kwargs)
        for chunk in self._told(found):
            in_loop(dspy.settings.send_stream.send(chunk))
        return self._given(found)

    def _source(self) -> tuple[Answers, Asked]:
        call = asked()
        if call is None or self.answers is None:
            raise Unsupported(
                "A replay tells the calls of language models by their records, which "
                "this request has none of.",
                hint="Leave the journal of the replay on.",
            )
        return self.answers, call

    def _told(self, found: FromRecord) -> list[Any]:
        """The chunks of a stream that somebody reads."""
        if dspy.settings.send_stream is None or not found.outputs or found.code:
            return []
        first = found.outputs[0]
        text = first.get("text") if isinstance(first, dict) else first
        if not isinstance(text, str) or not text:
            return []
        _note_emitted()
        return [_chunk(piece, self.model) for piece in _pieces(text, found.pieces)]

    def _given(self, found: FromRecord) -> Any:
        tracker = dspy.settings.usage_tracker
        if tracker and found.usage:
            tracker.add_usage(self.model, dict(found.usage))
        if found.code:
            raise _error(found)
        return found.outputs


class ReplayedLM(RecordedLM, _FromRecord):
    """The same, and its calls are recorded as those of any other."""


def _pieces(text: str, sizes: list[int]) -> list[str]:
    if sum(sizes) != len(text):
        return [text]
    found, at = [], 0
    for size in sizes:
        found.append(text[at : at + size])
        at += size
    return found


def _chunk(text: str, model: str) -> Any:
    """A piece of a stream as this release of DSPy hands it around."""
    choice: Any = {"index": 0, "delta": {"content": text}, "finish_reason": None}
    try:
        from dspy.clients.call_result import attributes
        from dspy.clients.engines.streaming import EngineChunk
    except ImportError:  # before 3.4 it was LiteLLM's
        from litellm import ModelResponseStream

        choices: Any = [choice]  # it makes its own class of them
        return ModelResponseStream(model=model, choices=choices)
    return EngineChunk({"model": model, "choices": [attributes(choice)]})


def _note_emitted() -> None:
    """Tell DSPy that something was told: then it does not ask in another format."""
    try:
        from dspy.clients.call_context import stream_emitted
    except ImportError:  # before 3.4 nobody asks
        return
    stream_emitted()


def _error(found: FromRecord) -> Exception:
    """The exception that the program saw then, as far as it can be made again."""
    leaf = BY_CODE.get(found.code, Internal)
    known = leaf(found.message, retry_after_ms=found.retry_after_ms)
    kind = getattr(dspy, found.error, None)
    if not isinstance(kind, type) or not issubclass(kind, Exception):
        return known
    try:
        error: Any = kind(found.message)
    except TypeError:
        return known
    if found.retry_after_ms is not None:
        error.retry_after = found.retry_after_ms / 1000
    if found.code == "lm_timeout":
        error.__cause__ = TimeoutError()
    return error if _says(error) == (found.code, found.message) else known


def _says(error: Exception) -> tuple[str, str]:
    failure: Failure = to_failure(error)
    return failure.code, failure.message
