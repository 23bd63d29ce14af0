"""The body and the outputs of ``stream.resume``."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, Struct, field

from dspex.contracts.requests import Body


class ResumeStream(Body, frozen=True, kw_only=True):
    """Go on with the events of a request, behind the last one that arrived.

    Attributes:
        request: Its id; of the same tenant.
        attempt: Attempt of the last event that arrived; absent: the newest one.
        after: Number (``seq``) of that event; 0: none of that attempt arrived.
    """

    request: Annotated[str, Meta(pattern="^[A-Za-z0-9_-]{1,64}$")]
    attempt: Annotated[int, Meta(ge=0, le=1_000_000)] | None = None
    after: Annotated[int, Meta(ge=0)] = 0


class ResumedStream(Struct, frozen=True, kw_only=True):
    """Where a stream is.

    Attributes:
        request: Whose events they are.
        attempt: Attempt of the last event told.
        after: Its number; what to ask for next.
        ended: Whether the last one ends the request.
        events: The events, unless they went to the inbox; a page of them at most.
    """

    request: str
    attempt: int
    after: int
    ended: bool
    events: list[dict[str, Any]] = field(default_factory=list)
