"""Asking all routers or all supervisors at once; each one answers for itself."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from dspex.bus import connection
from dspex.bus.core import NoResponders
from dspex.cli.call import CONNECT_WITHIN
from dspex.contracts import encoding
from dspex.contracts.envelope import Failed, failure
from dspex.contracts.failures import NoWorker

if TYPE_CHECKING:
    from collections.abc import Callable

    from dspex.bus.connection import NatsBus
    from dspex.bus.core import Bus
    from dspex.contracts.configuration import Configuration

ANSWER_WITHIN = 2.0
"""Seconds in which the first one answers."""

AFTER_THE_LAST = 0.25
"""Seconds after the last answer in which one more may come."""


async def gather(
    bus: Bus,
    subject: str,
    asked: Any,
    kind: type[Any],
    how_many: Callable[[Any], int],
) -> list[Any]:
    """Publish a wish and read the answers until all have come.

    Args:
        bus: Where.
        subject: Of the wish.
        asked: The wish.
        kind: What each one answers.
        how_many: How many there are, as one answer says.

    Returns:
        The answers; empty if nobody is there.

    Raises:
        Failure: All who answered refused; the first refusal.
    """
    answers: list[Any] = []
    refused: list[Failed] = []
    until = time.monotonic() + ANSWER_WITHIN
    async with await bus.replies() as replies:
        replies.target = subject
        await bus.publish(subject, encoding.encode(asked), reply=replies.subject)
        while len(answers) < max(map(how_many, answers), default=1):
            left = until - time.monotonic()
            begun = bool(answers or refused)
            try:
                message = await replies.next(
                    max(0.0, min(left, AFTER_THE_LAST) if begun else left)
                )
            except (NoResponders, TimeoutError):
                break
            found: Any = encoding.decode(message.data, kind | Failed)
            (refused if isinstance(found, Failed) else answers).append(found)
    if refused and not answers:
        raise failure(refused[0])
    return answers


def nobody() -> NoWorker:
    """What is said where no supervisor is."""
    return NoWorker(
        "No supervisor answers on this NATS server.",
        hint="Start one: `dspex up`, or dspex-supervisor.",
    )


async def connected(url: str, found: Configuration, name: str) -> NatsBus:
    """A connection for a command that a person waits for."""
    return await connection.connect(
        connection.BusSettings(
            url=url,
            name=name,
            credentials=found.nats.credentials,
            connect_timeout=CONNECT_WITHIN,
        )
    )
