"""What a chosen process tells the router about a request."""

from __future__ import annotations

from msgspec import Struct, field

from dspex.contracts.envelope import Done, Failed
from dspex.contracts.heartbeats import Count


class Word(Struct, frozen=True, kw_only=True, tag_field="word"):
    """What a chosen process tells the router.

    Attributes:
        request: Correlation id.
        queued: Requests waiting for a slot in that process.
        in_hand: Requests running or waiting there.
        yours: How many of those the router that is told has sent.
    """

    request: str
    queued: Count = 0
    in_hand: Count = 0
    yours: Count = 0


class AcceptedWord(Word, frozen=True, kw_only=True, tag="accepted"):
    """It has the request and will answer the client."""


class BusyWord(Word, frozen=True, kw_only=True, tag="busy"):
    """It has no room: choose another."""


class MovedWord(Word, frozen=True, kw_only=True, tag="moved"):
    """It does not hold the session that the request is a turn of: look who does."""


class ShortWord(Word, frozen=True, kw_only=True, tag="short"):
    """Its GPU has not free what the program declares: choose by that.

    Attributes:
        gpu_memory_mib: GPU memory that the request needs, MiB.
    """

    gpu_memory_mib: int


class RefusedWord(Word, frozen=True, kw_only=True, tag="refused"):
    """It cannot take the request, and neither could another; the router says so.

    Attributes:
        failure: What the client is to be told.
    """

    failure: Failed


class FailedWord(Word, frozen=True, kw_only=True, tag="failed"):
    """It could not answer, and told nobody: another try may, so the router decides.

    It wants an answer, of any content: without one it tells the client itself.

    Attributes:
        failure: What the client is to be told if nobody tries again.
    """

    failure: Failed


class Text(Struct, frozen=True, kw_only=True):
    """Text of an output field, as a ``delta`` told it.

    Attributes:
        field: Name of the output field.
        text: What follows the text so far.
    """

    field: str
    text: str


class FinishedWord(Word, frozen=True, kw_only=True, tag="finished"):
    """The client has its answer.

    Attributes:
        code: ``done``, or the code of the failure.
        reply: The answer, where the router asked for it.
        deltas: The deltas of a stream, where the router asked for the answer.
    """

    code: str
    reply: Done | None = None
    deltas: list[Text] = field(default_factory=list)


Words = (
    AcceptedWord
    | BusyWord
    | MovedWord
    | ShortWord
    | RefusedWord
    | FailedWord
    | FinishedWord
)
