"""Reading a request off a message: its headers, once, at the door."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from uuid import uuid4

from msgspec import Struct
from msgspec.structs import replace

from dspex.bus.clock import now_ms
from dspex.contracts import encoding, headers
from dspex.contracts.bodies import read_claim
from dspex.contracts.failures import BadRequest, DeadlineExceeded
from dspex.contracts.headers import Headers
from dspex.contracts.subjects import DEFAULT_TENANT, answerable, token

if TYPE_CHECKING:
    from dspex.bus.core import Message

STREAMS = ("", "events", "inbox")
CACHES = ("", "use", "refresh", "off")
DIRECT = "direct"
"""Why a process answers that no router chose."""

LONGEST = 24 * 3600.0
"""Longest time a request may ask for, seconds."""

_TIME = re.compile(r"[0-9]{1,15}(\.[0-9]{1,9})?")
_FENCE = re.compile(r"[0-9]{1,18}")
_NUMBER = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?")


class Request(Struct, frozen=True, kw_only=True):
    """One request as its headers describe it.

    Attributes:
        operation: What to do.
        id: Correlation id.
        tenant: Whose it is.
        body: Its bytes.
        media: Their encoding.
        deadline: Unix milliseconds.
        reply: The client's reply subject; empty when it wants no answer.
        stream: Where deltas go: ``events``, ``inbox`` or empty.
        route: The client's wish who answers.
        attempt: Number of this dispatch; 1 when it came without a router.
        reason: Why the router chose this process.
        elapsed_ms: How long the router had it.
        router: Which router sent it; empty when it came without one.
        lm: Language model to use instead of the one asked for; empty: that one.
        returns: Whether the router wants to have the answer too.
        known: Whether it was sent here before, and must not run twice.
        cache: Whether a kept answer will do: ``use``, ``refresh``, ``off`` or empty.
        session: The session it is a turn of; empty: none.
        fence: That of the session's holder, as the router knows it.
        gpu_mib: GPU memory that the router looked for, MiB.
        claim: Name of its body, where that is in the object store; empty: it is here.
        takes_claims: Whether the body of the reply may be there.
        headers: All headers, for trace context and for passing on.
    """

    operation: str
    id: str
    tenant: str
    body: bytes
    media: str
    deadline: float
    reply: str
    headers: Headers
    stream: str = ""
    route: str = "auto"
    attempt: int = 1
    reason: str = DIRECT
    elapsed_ms: float = 0.0
    router: str = ""
    lm: str = ""
    returns: bool = False
    known: bool = False
    cache: str = ""
    session: str = ""
    fence: int = 0
    gpu_mib: int = 0
    claim: str = ""
    takes_claims: bool = False

    def remaining(self, now: float) -> float:
        """Seconds until the deadline, at unix milliseconds ``now``."""
        return (self.deadline - now) / 1000


def read(
    message: Message, operation: str, tenant: str, default_timeout: float
) -> Request:
    """Read what a client sent.

    Args:
        message: As it arrived.
        operation: What its subject names.
        tenant: Whose subject it was.
        default_timeout: Seconds, for requests without a deadline.

    Raises:
        BadRequest: A header is wrong; the failure's ``field`` names it.
        Forbidden: It claims the body of another tenant.
        DeadlineExceeded: The deadline has passed.
    """
    found = message.headers
    now = now_ms()
    deadline = _deadline(found.get(headers.DEADLINE), now, default_timeout)
    request = Request(
        operation=operation,
        id=request_id(message),
        tenant=tenant,
        body=message.data,
        media=encoding.content_type(found.get(headers.CONTENT_TYPE)),
        deadline=deadline,
        reply=_reply(message.reply),
        headers=found,
        stream=_stream(found.get(headers.STREAM, "")),
        route=found.get(headers.ROUTE) or "auto",
        cache=_cache(found.get(headers.CACHE, "")),
        claim=read_claim(found.get(headers.BODY, ""), tenant, message.data),
        takes_claims=headers.BODY in found,
    )
    if deadline <= now:
        raise DeadlineExceeded(
            f"The deadline passed {now - deadline:.0f} ms before the request came.",
            field=headers.DEADLINE,
            hint="Send a later Dspex-Deadline (unix milliseconds), and compare clocks.",
        )
    return request


def read_dispatched(message: Message, default_timeout: float) -> Request:
    """Read what a router sent: the client's request and the router's headers."""
    found = message.headers
    tenant = token(found.get(headers.TENANT, DEFAULT_TENANT), headers.TENANT)
    request = read(message, found.get(headers.OPERATION, ""), tenant, default_timeout)
    return _with_router_headers(request, message)


def request_id(message: Message) -> str:
    """The correlation id a message brings, or a new one.

    Raises:
        BadRequest: It cannot stand in a subject.
    """
    given = message.headers.get(headers.REQUEST)
    return token(given, headers.REQUEST) if given else uuid4().hex


def _with_router_headers(request: Request, message: Message) -> Request:
    found = message.headers
    session = found.get(headers.SESSION, "")
    return replace(
        request,
        reply=_reply(found.get(headers.REPLY, "")),
        attempt=int(_number(found.get(headers.ATTEMPT, "1"), headers.ATTEMPT)),
        reason=found.get(headers.REASON, "router"),
        elapsed_ms=_number(found.get(headers.ELAPSED, "0"), headers.ELAPSED),
        router=found.get(headers.ROUTER, "")[:64],
        lm=found.get(headers.LM, ""),
        returns=found.get(headers.RETURN) == "reply",
        known=found.get(headers.KNOWN) == "once",
        session=token(session, headers.SESSION) if session else "",
        fence=_fence(found.get(headers.FENCE, "0")),
        gpu_mib=int(_number(found.get(headers.GPU_MEMORY, "0"), headers.GPU_MEMORY)),
    )


def _number(value: str, what: str) -> float:
    if not _NUMBER.fullmatch(value):
        raise BadRequest(f"{what} {value[:40]!r} is not a number.", field=what)
    return float(value)


def _fence(value: str) -> int:
    if not _FENCE.fullmatch(value):
        raise BadRequest(f"{headers.FENCE} {value[:40]!r} is no fence.")
    return int(value)


def _reply(reply: str) -> str:
    if reply and not answerable(reply):
        raise BadRequest(
            f"The reply subject {reply[:80]!r} is not an inbox.",
            hint="Use the request call of your NATS client, which makes one.",
        )
    return reply


def _stream(value: str) -> str:
    if value not in STREAMS:
        raise BadRequest(
            f"{headers.STREAM} {value[:40]!r} is unknown. Allowed: events, inbox.",
            field=headers.STREAM,
            hint="'inbox' sends the events to your reply subject too.",
        )
    return value


def _cache(value: str) -> str:
    if value not in CACHES:
        raise BadRequest(
            f"{headers.CACHE} {value[:40]!r} is unknown. Allowed: use, refresh, off.",
            field=headers.CACHE,
            hint="'use' takes a kept answer to the same request, where there is one.",
        )
    return value


def _deadline(value: str | None, now: float, default_timeout: float) -> float:
    if value is None:
        return now + default_timeout * 1000
    deadline = float(value) if _TIME.fullmatch(value) else float("nan")
    if not deadline < now + LONGEST * 1000:
        raise BadRequest(
            f"{headers.DEADLINE} {value[:40]!r} is not unix milliseconds "
            "within the next 24 hours.",
            field=headers.DEADLINE,
            hint="Send the current unix time in milliseconds plus your timeout.",
        )
    return deadline
