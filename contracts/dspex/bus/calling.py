"""Calling what others offer: functions on subjects, and operations."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from dspex.bus import tracing
from dspex.bus.claims import packed, unpacked
from dspex.bus.core import NoResponders
from dspex.contracts import encoding, headers
from dspex.contracts.envelope import Failed, Reply, failure
from dspex.contracts.failures import BadRequest, BusUnavailable, Forbidden, ToolFailed
from dspex.contracts.subjects import covers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dspex.bus.audiences import Audience
    from dspex.bus.core import Bus

LONGEST = 256 * 1024
"""Longest answer of a function, bytes."""

_ASKING = 30.0
"""Seconds to wait for the answer of an operation."""

_SHOWN = 300


class Functions:
    """Calls functions on subjects, those that may be called.

    Args:
        bus: Where they are.
        allowed: Patterns of subjects beside the tenant's own ``tool.>``.
    """

    def __init__(self, bus: Bus, allowed: Sequence[str] = ()) -> None:
        self._bus = bus
        self._allowed = tuple(allowed)

    def check(self, subject: str, audience: Audience, path: str) -> None:
        """Refuse a subject that may not be called.

        Raises:
            Forbidden: It is neither the tenant's own nor allowed by configuration.
        """
        patterns = (audience.subjects.tools(), *self._allowed)
        if not any(covers(pattern, subject) for pattern in patterns):
            raise Forbidden(
                f"{path} {subject[:80]!r} may not be called. "
                f"Allowed: {', '.join(patterns)}.",
                field=path,
                hint="Offer the function there, or let the workers' configuration "
                "allow the subject under [tools].",
            )

    async def call(
        self, subject: str, arguments: Any, audience: Audience, timeout: float
    ) -> Any:
        """Call a function and return what it answers, any JSON value.

        Args:
            subject: Where it is; checked before.
            arguments: Sent as JSON.
            audience: Of the request for which it is called.
            timeout: Seconds to wait.

        Raises:
            ToolFailed: It is not there, was too slow, said that it failed, or
                answered what cannot be read.
        """
        until = time.time() + timeout
        if audience.deadline:
            until = min(until, audience.deadline / 1000)
        sent = tracing.inject(
            {
                headers.REQUEST: audience.request,
                headers.DEADLINE: f"{until * 1000:.0f}",
            }
        )
        wait = max(0.001, until - time.time())
        try:
            answer = await self._bus.request(
                subject, encoding.encode(arguments), headers=sent, timeout=wait
            )
        except NoResponders:
            raise ToolFailed(f"Nobody listens on {subject}.") from None
        except TimeoutError:
            raise ToolFailed(
                f"No answer came from {subject} within {wait:.3g} s."
            ) from None
        except (BusUnavailable, Forbidden, BadRequest) as failure:
            raise ToolFailed(f"{subject}: {failure.message}") from None
        said = answer.headers.get(headers.ERROR)
        code = answer.headers.get(headers.ERROR_CODE)
        if said is not None or code is not None:
            raise ToolFailed(f"{code or ''} {said or ''}".strip()[:_SHOWN])
        return _read(subject, answer.data, answer.headers.get(headers.CONTENT_TYPE))


class Operations:
    """Asks for operations, as any client does.

    Args:
        bus: Where the routers are.
    """

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def call(
        self, operation: str, body: Any, audience: Audience
    ) -> dict[str, Any]:
        """Ask for an operation, and return its outputs.

        Args:
            operation: Its name.
            body: As the operation wants it.
            audience: Of the request for which it is asked; its tenant asks.

        Raises:
            Failure: What it failed with, or that nobody answered.
        """
        until = time.time() + _ASKING
        if audience.deadline:
            until = min(until, audience.deadline / 1000)
        sent = tracing.inject(
            {headers.REQUEST: uuid4().hex, headers.DEADLINE: f"{until * 1000:.0f}"}
        )
        subjects, claims = audience.subjects, self._bus.claims
        data, sent = await packed(claims, subjects.tenant, encoding.encode(body), sent)
        try:
            answer = await self._bus.request(
                subjects.call(operation),
                data,
                headers=sent,
                timeout=max(0.001, until - time.time()),
            )
        except (NoResponders, TimeoutError):
            raise BusUnavailable(
                f"{operation} was not answered.",
                hint="See that a router and a state program run.",
            ) from None
        reply: Reply = encoding.decode(await unpacked(claims, answer), Reply)
        if isinstance(reply, Failed):
            raise failure(reply)
        return reply.outputs


def _read(subject: str, data: bytes, content_type: str | None) -> Any:
    if len(data) > LONGEST:
        raise ToolFailed(
            f"The answer of {subject} has {len(data)} bytes; at most {LONGEST} are "
            "taken."
        )
    try:
        return encoding.decode(data, Any, encoding.content_type(content_type))
    except BadRequest as failure:
        raise ToolFailed(
            f"The answer of {subject} cannot be read: {failure.message[:_SHOWN]}"
        ) from None
