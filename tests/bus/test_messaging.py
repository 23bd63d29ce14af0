"""Publishing and subscribing, alike on both buses."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from tests.bus.hearing import Heard

from dspex.contracts.failures import BadRequest, BusUnavailable

if TYPE_CHECKING:
    from tests.bus.conftest import Connect

BAD_SUBJECTS = ["", "a b", "a..b", ".a", "a.", "a.*", "a.>", "a\r\nb", "x" * 1025]


async def test_a_subscriber_hears(connect: Connect, root: str) -> None:
    """What is published on a subject comes to its subscriber."""
    bus, heard = await connect(), Heard()
    await bus.subscribe(f"{root}.a", heard)

    await bus.publish(f"{root}.a", b"hello", reply="_INBOX.x")

    assert await heard.count(1) == [b"hello"]
    assert heard.messages[0].subject == f"{root}.a"
    assert heard.messages[0].reply == "_INBOX.x"


async def test_between_connections(connect: Connect, root: str) -> None:
    """Connections to one server hear each other."""
    one, other, heard = await connect(), await connect(), Heard()
    await one.subscribe(f"{root}.a", heard)
    await one.flush()

    await other.publish(f"{root}.a", b"hello")

    assert await heard.count(1) == [b"hello"]


async def test_order(connect: Connect, root: str) -> None:
    """Messages of one publisher come in its order, over all their subjects."""
    bus, heard = await connect(), Heard()
    await bus.subscribe(f"{root}.>", heard)

    for number in range(300):
        await bus.publish(f"{root}.{number % 3}", b"%d" % number)

    assert await heard.count(300) == [b"%d" % number for number in range(300)]


@pytest.mark.parametrize(
    ("pattern", "hears"),
    [
        ("*", ["a", "b"]),
        (">", ["a", "b", "a.b", "a.b.c"]),
        ("a.*", ["a.b"]),
        ("a.>", ["a.b", "a.b.c"]),
        ("*.b", ["a.b"]),
        ("*.*.c", ["a.b.c"]),
        ("a", ["a"]),
    ],
)
async def test_wildcards(
    connect: Connect, root: str, pattern: str, hears: list[str]
) -> None:
    """``*`` stands for one token, a last ``>`` for one or more."""
    bus, heard, all_of_it = await connect(), Heard(), Heard()
    await bus.subscribe(f"{root}.{pattern}", heard)
    await bus.subscribe(f"{root}.>", all_of_it)

    for subject in ("a", "b", "a.b", "a.b.c"):
        await bus.publish(f"{root}.{subject}")
    await all_of_it.count(4)
    await heard.count(len(hears))

    assert [one.subject for one in heard.messages] == [f"{root}.{one}" for one in hears]


async def test_a_queue_group_shares(connect: Connect, root: str) -> None:
    """Each message goes to one member of a queue group, and all members work."""
    bus, first, second, rest = await connect(), Heard(), Heard(), Heard()
    await bus.subscribe(f"{root}.a", first, queue="workers")
    await bus.subscribe(f"{root}.a", second, queue="workers")
    await bus.subscribe(f"{root}.a", rest)

    for _ in range(100):
        await bus.publish(f"{root}.a")
    await rest.count(100)
    await bus.flush()
    await first.until(lambda: len(first.messages) + len(second.messages) == 100)

    assert first.messages
    assert second.messages


async def test_every_queue_group_hears(connect: Connect, root: str) -> None:
    """Groups do not take messages from each other."""
    bus, one, other = await connect(), Heard(), Heard()
    await bus.subscribe(f"{root}.a", one, queue="one")
    await bus.subscribe(f"{root}.a", other, queue="other")

    await bus.publish(f"{root}.a", b"x")

    assert await one.count(1) == [b"x"]
    assert await other.count(1) == [b"x"]


async def test_a_group_spans_patterns(connect: Connect, root: str) -> None:
    """Members of one group share a message even if they subscribed differently."""
    bus, exact, pattern, rest = await connect(), Heard(), Heard(), Heard()
    await bus.subscribe(f"{root}.a", exact, queue="workers")
    await bus.subscribe(f"{root}.*", pattern, queue="workers")
    await bus.subscribe(f"{root}.a", rest)

    for _ in range(20):
        await bus.publish(f"{root}.a")
    await rest.count(20)
    await exact.until(lambda: len(exact.messages) + len(pattern.messages) >= 20)

    assert len(exact.messages) + len(pattern.messages) == 20


async def test_headers(connect: Connect, root: str) -> None:
    """Headers are strings, looked up without case."""
    bus, heard = await connect(), Heard()
    await bus.subscribe(f"{root}.a", heard)

    await bus.publish(f"{root}.a", headers={"Dspex-Request": "r1", "x": "ü"})
    await heard.count(1)

    headers = heard.messages[0].headers
    assert headers["dspex-request"] == headers["DSPEX-REQUEST"] == "r1"
    assert headers["X"] == "ü"
    assert {type(value) for value in headers.values()} == {str}


async def test_no_headers(connect: Connect, root: str) -> None:
    """A message without headers has an empty set of them."""
    bus, heard = await connect(), Heard()
    await bus.subscribe(f"{root}.a", heard)

    await bus.publish(f"{root}.a", headers={})
    await heard.count(1)

    assert dict(heard.messages[0].headers) == {}
    assert heard.messages[0].is_end()


async def test_headers_are_those_of_the_moment(connect: Connect, root: str) -> None:
    """A publisher may change its headers afterwards."""
    bus, heard = await connect(), Heard()
    await bus.subscribe(f"{root}.a", heard)
    headers = {"x": "1"}

    await bus.publish(f"{root}.a", headers=headers)
    headers["x"] = "2"
    await heard.count(1)

    assert heard.messages[0].headers["x"] == "1"


async def test_unsubscribe(connect: Connect, root: str) -> None:
    """Nothing comes after unsubscribing, and doing it twice is harmless."""
    bus, heard, rest = await connect(), Heard(), Heard()
    subscription = await bus.subscribe(f"{root}.a", heard)
    await bus.subscribe(f"{root}.a", rest)

    await subscription.unsubscribe()
    await subscription.unsubscribe()
    await bus.publish(f"{root}.a")
    await rest.count(1)

    assert heard.messages == []


async def test_drain_handles_what_arrived(connect: Connect, root: str) -> None:
    """Draining returns after the messages sent before it were handled."""
    bus, heard = await connect(), Heard()
    subscription = await bus.subscribe(f"{root}.a", heard)
    for number in range(50):
        await bus.publish(f"{root}.a", b"%d" % number)

    await subscription.drain()
    await bus.publish(f"{root}.a", b"late")
    await bus.flush()

    assert heard.bodies == [b"%d" % number for number in range(50)]
    await subscription.drain()


async def test_a_failing_handler(connect: Connect, root: str) -> None:
    """A handler that raises gets the next message all the same."""
    bus, heard = await connect(), Heard()
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda *_: None)

    def handler(message: object) -> None:
        heard(message)  # type: ignore[arg-type]
        raise RuntimeError("a defect")

    await bus.subscribe(f"{root}.a", handler)
    for _ in range(2):
        await bus.publish(f"{root}.a")
    await heard.count(2)
    loop.set_exception_handler(None)


async def test_too_large(connect: Connect, root: str) -> None:
    """A body over the limit is refused with both sizes named."""
    bus = await connect()

    with pytest.raises(BadRequest, match=r"1048577 bytes.*1048576 at most"):
        await bus.publish(f"{root}.a", b"x" * (bus.max_payload + 1))


async def test_headers_count(connect: Connect, root: str) -> None:
    """Headers count against the limit, and a refusal leaves the connection whole."""
    bus, heard = await connect(), Heard()
    await bus.subscribe(f"{root}.a", heard)

    with pytest.raises(BadRequest, match="at most"):
        await bus.publish(f"{root}.a", b"x" * bus.max_payload, headers={"a": "b"})
    block = len("NATS/1.0\r\na: b\r\n\r\n")
    await bus.publish(f"{root}.a", b"x" * (bus.max_payload - block), headers={"a": "b"})
    await bus.publish(f"{root}.a", b"y" * bus.max_payload)

    assert len(await heard.count(2)) == 2


@pytest.mark.parametrize("subject", BAD_SUBJECTS)
async def test_bad_subject(connect: Connect, subject: str) -> None:
    """A subject that no message can go to is refused, as is such a reply."""
    bus = await connect()

    with pytest.raises(BadRequest, match="Cannot publish on"):
        await bus.publish(subject)
    if subject:
        with pytest.raises(BadRequest, match="Cannot publish on"):
            await bus.publish("a", reply=subject)


@pytest.mark.parametrize("subject", ["", "a b", "a..b", "a.>.b", "a*.b", ".a"])
async def test_bad_subscription(connect: Connect, subject: str) -> None:
    """A pattern that is none is refused."""
    bus = await connect()

    with pytest.raises(BadRequest, match="Cannot subscribe to"):
        await bus.subscribe(subject, Heard())


@pytest.mark.parametrize("name", ["", "a b", "a:b", "a\r\nb", "ä"])
async def test_bad_header(connect: Connect, root: str, name: str) -> None:
    """A header's name that cannot be sent is refused."""
    bus = await connect()

    with pytest.raises(BadRequest, match="name of a header"):
        await bus.publish(f"{root}.a", headers={name: "x"})


async def test_a_header_stays_on_its_line(connect: Connect, root: str) -> None:
    """A line break in a header's value cannot make a second header."""
    bus, heard = await connect(), Heard()
    await bus.subscribe(f"{root}.a", heard)

    await bus.publish(f"{root}.a", headers={"x": " 1\r\ny: 2"})
    await heard.count(1)

    assert dict(heard.messages[0].headers) == {"x": "1  y: 2"}


async def test_after_close(connect: Connect, root: str) -> None:
    """A closed connection refuses everything, and closing twice is harmless."""
    bus = await connect()
    await bus.close()
    await bus.close()

    with pytest.raises(BusUnavailable):
        await bus.publish(f"{root}.a")
    with pytest.raises(BusUnavailable):
        await bus.subscribe(f"{root}.a", Heard())
    with pytest.raises(BusUnavailable):
        await bus.flush()


async def test_closing_ends_subscriptions(connect: Connect, root: str) -> None:
    """A closed connection hears nothing more; ending its subscription is harmless."""
    closed, other, heard, rest = await connect(), await connect(), Heard(), Heard()
    subscription = await closed.subscribe(f"{root}.a", heard)
    await other.subscribe(f"{root}.a", rest)

    await closed.close()
    await subscription.drain()
    await subscription.unsubscribe()
    await other.publish(f"{root}.a")
    await rest.count(1)

    assert heard.messages == []


async def test_flush(connect: Connect, root: str) -> None:
    """After a flush the server knows the subscriptions made before it."""
    one, other, heard = await connect(), await connect(), Heard()
    for _ in range(5):
        await one.subscribe(f"{root}.a", heard)
        await one.flush()

    await other.publish(f"{root}.a")

    assert len(await heard.count(5)) == 5
