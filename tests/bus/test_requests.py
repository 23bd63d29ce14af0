"""Asking and being answered, alike on both buses."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from tests.bus.hearing import Heard

from dspex.bus.core import BACKLOG, Bus, Message, NoResponders, Replies
from dspex.bus.tasks import Tasks
from dspex.contracts.failures import BusUnavailable, Overloaded

if TYPE_CHECKING:
    from tests.bus.conftest import Connect

DEDICATED = pytest.mark.parametrize("dedicated", [False, True])


async def echo(bus: Bus, subject: str, times: int = 1) -> Tasks:
    """Answer on ``subject`` with the body that came, so many times."""
    tasks = Tasks()

    async def answer(message: Message) -> None:
        for _ in range(times):
            await bus.publish(message.reply, message.data, headers={"echo": "1"})

    def take(message: Message) -> None:
        tasks.start(answer(message), "echo")

    await bus.subscribe(subject, take)
    await bus.flush()
    return tasks


async def test_request(connect: Connect, root: str) -> None:
    """A request gets the answer published to its reply subject."""
    server, client = await connect(), await connect()
    await echo(server, f"{root}.a")

    answer = await client.request(f"{root}.a", b"hello")

    assert answer.data == b"hello"
    assert answer.headers["Echo"] == "1"


async def test_many_at_once(connect: Connect, root: str) -> None:
    """Requests side by side each get their own answer."""
    server, client = await connect(), await connect()
    await echo(server, f"{root}.a")

    answers = await asyncio.gather(
        *(client.request(f"{root}.a", b"%d" % number) for number in range(100))
    )

    assert [answer.data for answer in answers] == [b"%d" % n for n in range(100)]


async def test_no_responders(connect: Connect, root: str) -> None:
    """A request that nobody listens for fails at once, not at its timeout."""
    bus = await connect()

    async with asyncio.timeout(5):
        with pytest.raises(NoResponders, match=root):
            await bus.request(f"{root}.nobody", timeout=60)


async def test_no_responders_after_unsubscribing(connect: Connect, root: str) -> None:
    """Who has unsubscribed is nobody."""
    server, client = await connect(), await connect()
    subscription = await server.subscribe(f"{root}.a", Heard())
    await subscription.unsubscribe()
    await server.flush()

    with pytest.raises(NoResponders):
        await client.request(f"{root}.a", timeout=60)


async def test_timeout(connect: Connect, root: str) -> None:
    """A request that is heard and not answered fails at its timeout."""
    bus, heard = await connect(), Heard()
    await bus.subscribe(f"{root}.a", heard)

    with pytest.raises(TimeoutError):
        await bus.request(f"{root}.a", timeout=0.05)

    await heard.count(1)


async def test_late_answers_are_dropped(connect: Connect, root: str) -> None:
    """An answer after the timeout goes to no later request."""
    bus, heard = await connect(), Heard()
    await bus.subscribe(f"{root}.slow", heard)
    await echo(bus, f"{root}.a")
    with pytest.raises(TimeoutError):
        await bus.request(f"{root}.slow", timeout=0.05)

    await bus.publish(heard.messages[0].reply, b"late")

    assert (await bus.request(f"{root}.a", b"mine")).data == b"mine"


@DEDICATED
async def test_many_replies(connect: Connect, root: str, dedicated: bool) -> None:
    """Answers to one message come in their order."""
    server, client = await connect(), await connect()
    await echo(server, f"{root}.a", times=200)

    async with await client.replies(dedicated=dedicated) as replies:
        await client.flush()
        await client.publish(f"{root}.a", b"x", reply=replies.subject)
        found = [(await replies.next(5)).data for _ in range(200)]

    assert found == [b"x"] * 200


@DEDICATED
async def test_replies_without_responders(
    connect: Connect, root: str, dedicated: bool
) -> None:
    """A message that nobody listens for says so to its replies."""
    bus = await connect()

    async with await bus.replies(dedicated=dedicated) as replies:
        await bus.publish(f"{root}.nobody", reply=replies.subject)
        with pytest.raises(NoResponders):
            await replies.next(5)


async def test_a_closed_dedicated_inbox_is_nobody(connect: Connect, root: str) -> None:
    """Who sends to a dedicated inbox can be told that its owner has gone."""
    server, client = await connect(), await connect()
    replies = await client.replies(dedicated=True)
    await client.flush()

    await replies.close()
    await client.flush()

    with pytest.raises(NoResponders):
        await server.request(replies.subject, b"still there?", timeout=60)


async def test_closed_replies_take_nothing(connect: Connect, root: str) -> None:
    """What comes to a closed shared inbox is dropped."""
    bus = await connect()
    replies = await bus.replies()
    await replies.close()

    await bus.publish(replies.subject, b"late")
    await bus.flush()

    with pytest.raises(TimeoutError):
        await replies.next(0.01)


async def test_a_slow_reader_is_failed() -> None:
    """Replies hold a bounded number of messages; a reader behind that is failed."""
    replies = Replies("_INBOX.x", lambda _: None)
    for number in range(2 * BACKLOG):
        replies.put(Message("_INBOX.x", b"%d" % number))

    for _ in range(BACKLOG - 1):
        await replies.next(1)

    with pytest.raises(Overloaded, match="not read in time"):
        await replies.next(1)
    with pytest.raises(TimeoutError):
        await replies.next(0.01)


async def test_close_fails_requests(connect: Connect, root: str) -> None:
    """A request in flight when its connection closes fails, and says what to do."""
    server, client, heard = await connect(), await connect(), Heard()
    await server.subscribe(f"{root}.a", heard)
    await server.flush()
    waiting = asyncio.ensure_future(client.request(f"{root}.a", timeout=60))
    await heard.count(1)

    await client.close()

    with pytest.raises(BusUnavailable) as caught:
        await waiting
    assert "send it again" in caught.value.hint
