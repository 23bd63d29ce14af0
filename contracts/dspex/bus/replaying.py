"""Answers from the record: the replay that has them, and the worker that asks.

A worker that is started for a replay calls no language model and no tool. It asks
``dspex.v1.replay.call`` under its own prefix, and the replay answers there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from msgspec.structs import replace

from dspex.bus.core import NoResponders
from dspex.bus.tasks import Tasks
from dspex.contracts import encoding
from dspex.contracts.failures import (
    BadRequest,
    BusUnavailable,
    Failure,
    NotFound,
    ToolFailed,
)
from dspex.contracts.replays import Asked, FromRecord
from dspex.contracts.subjects import answerable

if TYPE_CHECKING:
    from dspex.bus.audiences import Audience
    from dspex.bus.calling import Functions
    from dspex.bus.core import Bus, Message, Subscription
    from dspex.contracts.replays import Script
    from dspex.contracts.subjects import Subjects

VARIABLE = "DSPEX_REPLAY"
"""Tells a worker to ask the record: ``lm`` for language models alone, ``lm,tools`` for
tools too; with ``live`` it has the keys to call a model all the same, if it is told to.
Only what starts a replay sets it."""

ANSWER_WITHIN = 30.0
"""Seconds in which the record is answered from."""

DECIDE_WITHIN = 10.0
"""Seconds after which a worker is told to ask again while a person decides."""

Person = Callable[[Asked, FromRecord], Coroutine[Any, Any, FromRecord]]
"""Has the last word on what the record answers, and takes any time for it."""


class Answers:
    """Asks the record, from any thread and any event loop.

    Args:
        bus: Of the event loop that makes this.
        subjects: Under the replay's prefix.
        real: Whether a language model may have to be called all the same.
    """

    def __init__(self, bus: Bus, subjects: Subjects, *, real: bool = False) -> None:
        self.real = real
        self._bus = bus
        self._subject = subjects.replayed()
        self._loop = asyncio.get_running_loop()

    def __deepcopy__(self, memo: object) -> Answers:
        return self

    async def ask(self, asked: Asked) -> FromRecord:
        """What the record answers to a call.

        Raises:
            NotFound: The call is not in the record.
            BusUnavailable: The replay is gone.
        """
        asked = replace(asked, id=uuid4().hex)
        here = asyncio.get_running_loop() is self._loop
        while True:
            asking = self._ask(asked) if here else self._from_elsewhere(asked)
            found: FromRecord = await asking
            if not found.later:
                return found

    def ask_from_thread(self, asked: Asked) -> FromRecord:
        """The same from a thread, which waits."""
        asked = replace(asked, id=uuid4().hex)
        while True:
            asking = asyncio.run_coroutine_threadsafe(self._ask(asked), self._loop)
            found: FromRecord = asking.result(ANSWER_WITHIN + 5)
            if not found.later:
                return found

    def _from_elsewhere(self, asked: Asked) -> asyncio.Future[FromRecord]:
        asking = asyncio.run_coroutine_threadsafe(self._ask(asked), self._loop)
        return asyncio.wrap_future(asking)

    async def _ask(self, asked: Asked) -> FromRecord:
        try:
            message = await self._bus.request(
                self._subject, encoding.encode(asked), timeout=ANSWER_WITHIN
            )
        except (NoResponders, TimeoutError):
            raise BusUnavailable(
                "The replay that this worker belongs to is gone.",
                hint="Start it again: `dspex replay`.",
            ) from None
        found: FromRecord = encoding.decode(message.data, FromRecord)
        if not (found.found or found.later or found.really):
            what = f"call {asked.call}" if asked.call else f"tool on {asked.subject}"
            raise NotFound(
                f"The record has no answer to this: {what}.",
                hint="`dspex replay` shows both prompts, and where they differ.",
            )
        return found


class RecordedFunctions:
    """Tools that are not called again: what they answered is in the record.

    Args:
        functions: Says what may be called, and calls what is to be called all the same.
        answers: Asks the record.
    """

    def __init__(self, functions: Functions, answers: Answers) -> None:
        self.check = functions.check
        self._functions = functions
        self._answers = answers

    async def call(
        self, subject: str, arguments: Any, audience: Audience, timeout: float
    ) -> Any:
        """What the function answered; as ``Functions.call``.

        Raises:
            ToolFailed: It failed then, or was not called so.
        """
        asked = Asked(
            request=audience.request,
            attempt=audience.attempt,
            subject=subject,
            arguments=arguments,
        )
        try:
            found = await self._answers.ask(asked)
        except Failure as failure:
            raise ToolFailed(failure.message) from None
        if found.really:
            given = arguments if found.arguments is None else found.arguments
            return await self._functions.call(subject, given, audience, timeout)
        if found.code:
            raise ToolFailed(found.message)
        return found.result


class Record:
    """Answers the workers of a replay.

    Args:
        bus: Where they ask.
        subjects: Under the replay's prefix.
        latency: Seconds that every answer takes; ``None``: as long as it took then.
        person: Has the last word; ``None``: nobody.

    Attributes:
        scripts: What was recorded, by the id of the request that replays it.
    """

    def __init__(
        self,
        bus: Bus,
        subjects: Subjects,
        latency: float | None = 0.0,
        person: Person | None = None,
    ) -> None:
        self._latency = latency
        self._person = person
        self._decisions: dict[str, asyncio.Task[FromRecord]] = {}
        self.scripts: dict[str, Script] = {}
        self._bus = bus
        self._subject = subjects.replayed()
        self._tasks = Tasks()
        self._hearing: Subscription | None = None

    async def start(self) -> None:
        """Answer from now on, until it is stopped."""

        def take(message: Message) -> None:
            self._tasks.start(self._answer(message), "replay")

        self._hearing = await self._bus.subscribe(self._subject, take)
        await self._bus.flush()

    async def stop(self) -> None:
        """Answer no more."""
        if self._hearing is not None:
            await self._hearing.unsubscribe()
        await self._tasks.cancel()

    async def _answer(self, message: Message) -> None:
        if not answerable(message.reply):
            return
        try:
            asked: Asked = encoding.decode(message.data, Asked)
        except BadRequest:
            return  # nobody of ours
        found = await self._found(asked)
        waits = found.ms / 1000 if self._latency is None else self._latency
        if waits:
            await asyncio.sleep(min(waits, ANSWER_WITHIN / 2))
        await self._bus.publish(message.reply, encoding.encode(found))

    async def _found(self, asked: Asked) -> FromRecord:
        if self._person is None:
            return self._from_script(asked)
        decision = self._decisions.get(asked.id)
        if decision is None:
            deciding = self._person(asked, self._from_script(asked))
            decision = self._tasks.start(deciding, "decision")
            self._decisions[asked.id] = decision
        done, _ = await asyncio.wait([decision], timeout=DECIDE_WITHIN)
        if not done:
            return FromRecord(found=False, later=True)
        del self._decisions[asked.id]
        return FromRecord(found=False) if decision.cancelled() else decision.result()

    def _from_script(self, asked: Asked) -> FromRecord:
        script = self.scripts.get(asked.request)
        return FromRecord(found=False) if script is None else script.answer(asked)
