"""Who is told about one request."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from dspex.contracts import catalog, encoding
from dspex.contracts.subjects import Subjects

if TYPE_CHECKING:
    from dspex.bus.incoming import Request


class Audience(Struct, frozen=True, kw_only=True):
    """Who is told about one request.

    Attributes:
        subjects: As the request's tenant sees them.
        request: Correlation id.
        attempt: 0 for the router, then the number of the dispatch.
        reply: The client's reply subject; empty when it wants no answer.
        stream: ``events``, ``inbox`` or empty.
        media: Encoding of what goes to the reply subject.
        session: The session whose turn it is; empty: none.
        again: The request was told of before: only its reply subject is told.
        deadline: Unix milliseconds; 0: none is known.
        operation: What was asked; empty when that could not be read.
        body: The bytes of the request, from which is learnt what is left out.
        body_media: Their encoding.
        relays: The inbox gets the events of another request instead of its own.
        takes_claims: What is too large for a message may be an object for it.
        gpu_mib: GPU memory that a router looked for, MiB; ``None``: it came without.
    """

    subjects: Subjects
    request: str
    attempt: int = 0
    reply: str = ""
    stream: str = ""
    media: str = encoding.JSON
    session: str = ""
    again: bool = False
    deadline: float = 0.0
    operation: str = ""
    body: bytes = b""
    body_media: str = encoding.JSON
    relays: bool = False
    takes_claims: bool = False
    gpu_mib: int | None = None

    def event(self, kind: str) -> str:
        """Where an event of this kind is told."""
        if self.session:
            return self.subjects.session_event(self.session, self.request, kind)
        return self.subjects.event(self.request, kind)


def audience_of(request: Request, subjects: Subjects, attempt: int) -> Audience:
    """Who is told about a request.

    Args:
        request: As its headers describe it.
        subjects: Under which prefix.
        attempt: 0 for the router, then the number of the dispatch.
    """
    return Audience(
        subjects=subjects.of(request.tenant),
        request=request.id,
        attempt=attempt,
        reply=request.reply,
        stream=request.stream,
        media=request.media,
        session=request.session,
        deadline=request.deadline,
        operation=request.operation,
        body=request.body,
        body_media=request.media,
        relays=request.stream == "inbox" and catalog.relays(request.operation),
        takes_claims=request.takes_claims,
        gpu_mib=request.gpu_mib if request.router else None,
    )
