"""An answerer on a bus, and the client and router that use it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from tests.bus.hearing import Heard

from dspex.bus.answering import Answerer
from dspex.bus.events import Events
from dspex.bus.running import Identity, Outcome
from dspex.bus.serving import Endpoint, Service, ServiceInfo
from dspex.bus.slots import Slots
from dspex.contracts import encoding
from dspex.contracts.envelope import Event, Reply, Usage
from dspex.contracts.words import Words

if TYPE_CHECKING:
    from dspex.bus.core import Bus, Message, Replies
    from dspex.contracts.requests import Body
    from dspex.contracts.subjects import Subjects

BODY: dict[str, Any] = {"signature": "question -> answer", "inputs": {"question": "?"}}
DONE = Outcome(outputs={"answer": "42"}, usage=Usage(total_tokens=7, calls=1), lm="m")

Program = Callable[[Events], Awaitable[Outcome]]


class Rig:
    """An answerer of one slot, and the client and router that use it."""

    def __init__(self, serving: Bus, client: Bus, subjects: Subjects) -> None:
        self.client = client
        self.subjects = subjects
        self.slots = Slots(1, 1)
        self.program: Program = self.done
        self.begun = asyncio.Event()
        self.let_go = asyncio.Event()
        identity = Identity(
            subjects=subjects,
            pool="light",
            worker="w1",
            implementation="python",
            operations=frozenset({"predict"}),
            dspy="3.x",
        )
        self.answerer = Answerer(serving, identity, self.slots, self._run)
        info = ServiceInfo(name="answerer", version="1.0.0")
        self.service = Service(serving, subjects, info, self._endpoints())
        self.events = Heard()

    async def start(self) -> None:
        await self.service.start()
        await self.client.subscribe(f"{self.subjects.prefix}.v1.event.>", self.events)
        await self.client.flush()

    async def done(self, events: Events) -> Outcome:
        return DONE

    async def waits(self, events: Events) -> Outcome:
        self.begun.set()
        await self.let_go.wait()
        return DONE

    async def _run(self, operation: str, body: Body, events: Events) -> Outcome:
        return await self.program(events)

    async def direct(self, message: Message) -> None:
        await self.answerer.direct(message, message.headers["dspex-operation"])

    def _endpoints(self) -> list[Endpoint]:
        at = self.subjects
        found = {
            at.pool_run("light"): self.direct,
            at.worker_run("w1"): self.answerer.dispatched,
            at.worker_stop("w1"): self.answerer.drop,
            at.cancels(): self.answerer.cancel,
            at.tenant_cancels(): self.answerer.cancel,
        }
        return [
            Endpoint(name=subject, subject=subject, handler=handler)
            for subject, handler in found.items()
        ]

    async def send(
        self, subject: str, to: str, body: Any = None, /, **headers: str
    ) -> None:
        found = {"Dspex-Operation": "predict"} | {
            f"Dspex-{name.title()}": value for name, value in headers.items()
        }
        data = encoding.encode(BODY if body is None else body)
        await self.client.publish(subject, data, headers=found, reply=to)

    async def ask(self, body: Any = None, /, **headers: str) -> Any:
        """One direct request and its reply."""
        async with await self.client.replies() as replies:
            await self.send(
                self.subjects.pool_run("light"), replies.subject, body, **headers
            )
            return encoding.decode((await replies.next(10)).data, Reply)

    async def dispatch(
        self, words: Replies, answer: Replies, /, **headers: str
    ) -> None:
        """One request as a router sends it."""
        await self.send(
            self.subjects.worker_run("w1"),
            words.subject,
            reply=answer.subject,
            **headers,
        )

    def kinds(self, request: str) -> list[str]:
        found = [one for one in self.events.messages if f".{request}." in one.subject]
        return [one.subject.rpartition(".")[2] for one in found]


async def word(words: Replies) -> Any:
    return encoding.decode((await words.next(10)).data, Words)


async def event(replies: Replies) -> Any:
    return encoding.decode((await replies.next(10)).data, Event)
