"""How a program begins to journal, and hears of an operator's changes to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dspex.bus import logs
from dspex.bus.capture import Capture
from dspex.bus.provisioning import Names
from dspex.bus.stores import Blobs
from dspex.contracts import encoding
from dspex.contracts.envelope import failed
from dspex.contracts.failures import Failure
from dspex.contracts.journaling import JournalChange
from dspex.contracts.subjects import answerable

if TYPE_CHECKING:
    from dspex.bus.connection import NatsBus
    from dspex.bus.core import Message
    from dspex.bus.tasks import Tasks
    from dspex.contracts.configuration import Configuration


async def start(
    bus: NatsBus, configuration: Configuration, name: str, tasks: Tasks
) -> None:
    """Journal as the configuration says, and as operators say from now on.

    Args:
        bus: Whose telling is journaled.
        configuration: Its section ``[journal]``, and the prefix.
        name: Kind of this process, such as ``dspex-router``.
        tasks: Where answers to operators run.
    """
    subjects, section = configuration.subjects, configuration.journal
    capture = bus.capture = Capture(section)
    bucket = Names(subjects.prefix).journal_blobs
    capture.blobs = Blobs(bus, bucket, section.max_age)
    if capture.redacts:
        logs.scrub_with(capture.log_text)

    def change(message: Message) -> None:
        tasks.start(_change(bus, message, name), "journal")

    await bus.subscribe(subjects.admin("journal"), change)


async def _change(bus: NatsBus, message: Message, name: str) -> None:
    capture = bus.capture
    try:
        if message.data:
            capture.change(encoding.decode(message.data, JournalChange))
        said = encoding.encode(capture.state(name))
    except Failure as failure:
        said = encoding.encode(failed("", failure))
    if answerable(message.reply):
        await bus.publish(message.reply, said)
