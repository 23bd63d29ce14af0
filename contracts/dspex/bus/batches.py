"""Reading a stream by batches of direct gets, which leave no consumer behind."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec

from dspex.bus.core import NoResponders
from dspex.bus.durable import API
from dspex.contracts.failures import BusUnavailable
from dspex.contracts.headers import STATUS

if TYPE_CHECKING:
    from dspex.bus.connection import NatsBus
    from dspex.bus.core import Message

SEQUENCE = "Nats-Sequence"
SUBJECT = "Nats-Subject"
STORED = "Nats-Time-Stamp"
PENDING = "Nats-Num-Pending"

MESSAGES = 256
"""Messages of a batch."""

BYTES = 2 * 1024 * 1024
"""Size of a batch, beyond which only its first message goes."""


async def batch(
    bus: NatsBus,
    stream: str,
    after: int,
    subject: str = "",
    since: float | None = None,
) -> list[Message]:
    """The next messages of a stream, with where they are in their headers.

    Args:
        bus: Where.
        stream: Its name.
        after: Sequence behind which to begin.
        subject: Only those of this one, which may hold wildcards; empty: all.
        since: Begin with what was stored at unix milliseconds; then ``after`` counts
            for nothing.

    Returns:
        Empty: there are no more.

    Raises:
        BusUnavailable: The stream does not answer.
    """
    wanted: dict[str, Any] = {"batch": MESSAGES}
    if subject:
        wanted["next_by_subj"] = subject
    if since is None:
        wanted["seq"] = after + 1
    else:
        wanted["start_time"] = datetime.fromtimestamp(since / 1000, UTC).isoformat()
    found, _ = await _ask(bus, stream, wanted)
    return found


async def page(
    bus: NatsBus, stream: str, after: int, subject: str, most: int
) -> tuple[list[Message], bool]:
    """As ``batch``: at most so many, and whether there are more."""
    wanted = {"batch": most, "seq": after + 1, "next_by_subj": subject}
    return await _ask(bus, stream, wanted)


async def _ask(
    bus: NatsBus, stream: str, wanted: dict[str, Any]
) -> tuple[list[Message], bool]:
    found: list[Message] = []
    async with await bus.replies() as replies:
        await bus.publish(
            f"{API}.DIRECT.GET.{stream}",
            msgspec.json.encode({**wanted, "max_bytes": BYTES}),
            reply=replies.subject,
        )
        while True:
            try:
                message = await replies.next(5)
            except (TimeoutError, NoResponders):
                raise silent(stream) from None
            if message.headers.get(STATUS):  # the end of the batch, or none left
                left = message.headers.get(PENDING, "0")
                return found, bool(found) and left != "0"
            found.append(message)


def silent(stream: str) -> BusUnavailable:
    """The failure of a stream that does not answer."""
    return BusUnavailable(
        f"Stream {stream!r} does not answer.",
        hint="Start dspex-state, which makes the streams, or wait for JetStream.",
    )


def sequence_of(message: Message) -> int:
    """Where in its stream a message is."""
    return int(message.headers[SEQUENCE])
