"""What the journal keeps beside the events: every call of a model and of a tool.

A record is told on ``dspex.v1.record.<request>.<kind>``, fire and forget, by the
process that made the call, and is tagged by ``kind``. ``call`` counts the calls of one
attempt from 1, in the order in which they began, so a record that was lost leaves a
gap. Readers ignore fields they do not know.
"""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct, field

from dspex.contracts.failures import Category


class Cut(Struct, frozen=True, kw_only=True):
    """What a copy leaves out because no message could hold it.

    Attributes:
        bytes: Size of what is left out.
        blob: Name under which the journal's object store has the whole; empty: it is
            nowhere.
        why: In words.
    """

    bytes: int
    blob: str = ""
    why: str = ""


class CallFailure(Struct, frozen=True, kw_only=True):
    """Why a call gave nothing.

    Attributes:
        code: Leaf of the tree in ``dspex.contracts.failures``.
        category: Branch it hangs on.
        message: What was wrong.
        error: Class of the exception that the program saw.
        retry_after_ms: Milliseconds after which it may succeed.
    """

    code: str
    category: Category
    message: str
    error: str = ""
    retry_after_ms: int | None = None


class _Record(Struct, frozen=True, kw_only=True, tag_field="kind"):
    """What every record says.

    Attributes:
        request: Correlation id.
        attempt: Number of the dispatch.
        call: Counts the calls of an attempt from 1, in the order they began.
        at: Unix milliseconds when it began.
        ms: How long it took, milliseconds.
        worker: Incarnation that called.
        failure: Why it gave nothing; absent when it gave something.
        cut: What had no room here; then the fields it concerns are empty.
        type: Tells records from events.
    """

    request: str
    attempt: int
    call: int
    at: float
    ms: float
    worker: str = ""
    failure: CallFailure | None = None
    cut: Cut | None = None
    type: Literal["record"] = "record"


class LmCall(_Record, frozen=True, kw_only=True, tag="lm_call"):
    """One call of a language model, as the program made it and had it answered.

    Attributes:
        lm: Name of the language model in the worker's configuration.
        model: As DSPy names it.
        messages: The prompt; a plain text is one message of role ``user``.
        parameters: What the call said besides, defaults included and keys left out.
        outputs: What DSPy received, one per choice: a text, or an object with ``text``,
            ``tool_calls``, ``reasoning_content``, …; absent after a failure.
        usage: As the provider counted it.
        pieces: Of a streamed answer: milliseconds since the call began and characters,
            for each piece; they add up to the text.
        dspy: Version of DSPy.
    """

    lm: str
    model: str
    messages: list[Any]
    parameters: dict[str, Any] = field(default_factory=dict)
    outputs: list[Any] | None = None
    usage: dict[str, Any] = field(default_factory=dict)
    pieces: list[tuple[float, int]] = field(default_factory=list)
    dspy: str = ""


class ToolCall(_Record, frozen=True, kw_only=True, tag="tool_call"):
    """One call of a tool.

    Attributes:
        name: The tool, as the model knows it.
        subject: Where it was called; empty: in the process itself.
        arguments: What it was given.
        result: What it answered; null after a failure.
    """

    name: str
    subject: str = ""
    arguments: Any = None
    result: Any = None


Record = LmCall | ToolCall
