"""A router on the in-memory bus, workers played by the test, and a client."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from msgspec.structs import replace

from dspex.bus.tasks import Tasks
from dspex.bus.testing import MemoryBus, MemoryServer
from dspex.contracts import encoding, headers
from dspex.contracts.configuration import Configuration
from dspex.contracts.envelope import Done, Event, Metadata, Reply
from dspex.contracts.heartbeats import Heartbeat
from dspex.contracts.pools import WorkerNotice
from dspex.contracts.subjects import Subjects
from dspex.contracts.words import AcceptedWord, BusyWord, FinishedWord, Words
from dspex.router.service import Router
from dspex.router.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from dspex.bus.core import Bus, Message, Replies
    from dspex.router.tickets import Ticket

PATIENCE = 10.0
"""Seconds after which what a test waits for will not come any more."""

QUICK = Settings(
    learning=0,
    handshake=0.02,
    check=0.02,
    grace=0.3,
    expire=0.01,
    hope=0.05,
    reason=0.05,
)
"""Waiting times for tests; when a process is lost, the scene's own clock says."""

BODY: dict[str, Any] = {"signature": "question -> answer", "inputs": {"question": "?"}}


def beat_of(worker: str, **said: Any) -> Heartbeat:
    """A heartbeat of a ready DSPy worker, unless ``said`` otherwise."""
    usual: dict[str, Any] = {
        "pool": "light",
        "implementation": "python",
        "state": "ready",
        "seq": 1,
        "at": 0.0,
        "operations": ["predict", "chain_of_thought"],
        "concurrency": 4,
        "lms": ["default"],
    }
    return Heartbeat(worker=worker, **(usual | said))


class Inbox:
    """What arrived on some subjects, in order."""

    def __init__(self) -> None:
        self._arrived: asyncio.Queue[Message] = asyncio.Queue()

    def put(self, message: Message) -> None:
        self._arrived.put_nowait(message)

    def __len__(self) -> int:
        return self._arrived.qsize()

    async def next(self) -> Message:
        async with asyncio.timeout(PATIENCE):
            return await self._arrived.get()


class FakeWorker:
    """A worker that does nothing by itself: the test says its words."""

    def __init__(self, bus: Bus, subjects: Subjects, beat: Heartbeat) -> None:
        self.name = beat.worker
        self.runs = Inbox()
        self.cancels = Inbox()
        self._bus = bus
        self._subjects = subjects
        self._beat = beat
        self._tasks = Tasks()

    async def start(self) -> None:
        """Listen, and beat once."""
        subjects = self._subjects
        run = subjects.worker_run(self.name)
        self._listening = await self._bus.subscribe(run, self.runs.put)
        await self._bus.subscribe(subjects.worker_ping(self.name), self._pong)
        await self._bus.subscribe(subjects.cancels(), self.cancels.put)
        await self._bus.subscribe(subjects.tenant_cancels(), self.cancels.put)
        await self.beat()

    def _pong(self, message: Message) -> None:
        self._tasks.start(self._bus.publish(message.reply, b"{}"), "pong")

    async def stop_listening(self) -> None:
        """Take nothing new, as a worker that drains."""
        await self._listening.unsubscribe()

    async def beat(self, **said: Any) -> None:
        """Say how it is now."""
        self._beat = replace(self._beat, seq=self._beat.seq + 1, **said)
        subject = self._subjects.heartbeat(self._beat.pool, self.name)
        await self._bus.publish(subject, encoding.encode(self._beat))

    async def say(self, run: Message, word: Words) -> None:
        """Tell the router one word about a request."""
        await self._bus.publish(run.reply, encoding.encode(word))

    async def accept(self, run: Message) -> None:
        """Take a request on."""
        await self.say(run, AcceptedWord(request=run.headers[headers.REQUEST]))

    async def refuse(self, run: Message) -> None:
        """Have no room for it."""
        await self.say(run, BusyWord(request=run.headers[headers.REQUEST], queued=9))

    async def finish(self, run: Message) -> None:
        """Answer the client, then tell the router."""
        request = run.headers[headers.REQUEST]
        metadata = Metadata(
            implementation="python",
            pool="light",
            worker=self.name,
            attempts=int(run.headers[headers.ATTEMPT]),
            reason=run.headers[headers.REASON],
        )
        done = Done(request=request, outputs={"answer": "!"}, metadata=metadata)
        await self._bus.publish(run.headers[headers.REPLY], encoding.encode(done))
        await self.say(run, FinishedWord(request=request, code="done"))


class Question:
    """One request of a client: its reply, and what its tenant is told of it."""

    def __init__(self, name: str, replies: Replies, events: Inbox) -> None:
        self.name = name
        self.replies = replies
        self._events = events

    async def reply(self) -> Any:
        """The reply."""
        message = await self.replies.next(PATIENCE)
        return encoding.decode(message.data, Reply)

    async def event(self) -> Any:
        """The next event."""
        return encoding.decode((await self._events.next()).data, Event)

    async def events(self, last: str) -> list[Any]:
        """All events up to the first one of kind ``last``."""
        found = [await self.event()]
        while kind_of(found[-1]) != last:
            found.append(await self.event())
        return found


class Scene:
    """Use it as an async context manager.

    Attributes:
        seconds: What the routers' clock says.
    """

    def __init__(
        self,
        bus: type[MemoryBus] = MemoryBus,
        configuration: Configuration | None = None,
        settings: Settings | None = None,
    ) -> None:
        self.configuration = configuration or Configuration()
        self.settings = settings or QUICK
        self.server = MemoryServer()
        self.subjects = Subjects()
        self.bus = self.server.connect()
        self.seconds = 0.0
        self.routers = [self._router(bus(self.server))]

    @property
    def router(self) -> Router:
        return self.routers[0]

    async def __aenter__(self) -> Scene:
        await self.router.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        for router in self.routers:
            await router.stop(grace=0)
        await self.bus.close()

    async def second_router(self) -> Router:
        """One more router on the same bus."""
        router = self._router(self.server.connect())
        self.routers.append(router)
        await router.start()
        return router

    def _router(self, bus: Bus) -> Router:
        return Router(bus, self.configuration, self.settings, lambda: self.seconds)

    async def worker(self, name: str, **said: Any) -> FakeWorker:
        """One more worker."""
        beat = beat_of(name, **said)
        worker = FakeWorker(self.server.connect(), self.subjects, beat)
        await worker.start()
        await self.bus.flush()
        return worker

    async def ask(
        self,
        body: Any = BODY,
        *,
        operation: str = "predict",
        tenant: str = "default",
        headers: Mapping[str, str] | None = None,
    ) -> Question:
        """Send a request as a client does."""
        subjects = self.subjects.of(tenant)
        sent = {"Dspex-Request": f"r-{uuid4().hex}"} | dict(headers or {})
        name = sent["Dspex-Request"]
        data = body if isinstance(body, bytes) else encoding.encode(body)
        events, replies = Inbox(), await self.bus.replies()
        await self.bus.subscribe(subjects.events(name), events.put)
        await self.bus.publish(
            subjects.call(operation), data, headers=sent, reply=replies.subject
        )
        return Question(name, replies, events)

    def ticket(self, question: Question) -> Ticket:
        """What the router holds of a request."""
        [(_, tickets)] = [
            item
            for item in self.router._handler._in_hand.items()
            if item[0][1] == question.name
        ]
        return tickets[0]

    async def lose(self, name: str) -> None:
        """Let a worker say nothing until its router has noticed."""
        async with asyncio.timeout(PATIENCE):
            while name in self.router.targets:
                # More than once: a router that did not run for a while forgives.
                self.seconds += 3.1
                await asyncio.sleep(0.01)

    async def tell_busy(self, name: str, reason: str) -> None:
        """Say that a worker was ended for its CPU time, as its supervisor does."""
        notice = WorkerNotice(
            supervisor="supervisor-1",
            host="here",
            pool="light",
            name="light-1",
            worker=name,
            pid=1,
            state="ended",
            code="resource_cpu",
            reason=reason,
            at=0,
        )
        subject = self.subjects.notice("worker")
        await self.bus.publish(subject, encoding.encode(notice))

    async def until(self, holds: Callable[[], bool]) -> None:
        """Let the router take in what it was told, until something holds."""
        for _ in range(1000):
            if holds():
                return
            await self.bus.flush()
        raise AssertionError("it never came to hold")

    async def cancel(self, question: Question, tenant: str = "default") -> None:
        """Ask to stop a request as its client does."""
        await self.bus.publish(self.subjects.of(tenant).cancel(question.name))


def kind_of(event: Any) -> str:
    """The kind of an event."""
    return str(event.__struct_config__.tag)
