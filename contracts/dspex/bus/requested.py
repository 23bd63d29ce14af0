"""The copy of a request, told by whoever received it from the client."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from dspex.contracts import encoding, headers
from dspex.contracts.envelope import Requested
from dspex.contracts.records import Cut
from dspex.contracts.redaction import known_headers

if TYPE_CHECKING:
    from dspex.bus.events import Events
    from dspex.bus.incoming import Request
    from dspex.contracts.requests import Body

_EVENT_FIELDS = 2048
"""Bytes the fields of an event take beside the body it copies."""


async def tell_requested(events: Events, request: Request, body: Body) -> None:
    """Tell what was asked.

    Args:
        events: Where.
        request: As it came.
        body: As it was read; an Arrow stream is not.
    """
    copy, cut = request.body, None
    if request.media == encoding.MSGPACK:
        copy = encoding.encode(body)
    table = request.media == encoding.ARROW
    if table or len(copy) > events.max_payload - _EVENT_FIELDS:
        blob = events.keep_apart("body", request.body)
        why = "an Arrow stream" if table else "larger than a message"
        cut = Cut(bytes=len(request.body), blob=blob, why=why)
    await events.emit(
        Requested,
        body=None if cut else msgspec.Raw(copy),
        operation=request.operation,
        tenant=request.tenant,
        deadline=int(request.deadline),
        headers=known_headers(request.headers, headers.TOLD),
        cut=cut,
    )
