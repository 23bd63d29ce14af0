"""Walking a request call by call: a person sees each call, and may change it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from msgspec import Struct, field
from msgspec.structs import replace

from dspex.bus.journal import Damaged
from dspex.bus.selecting import Wanted
from dspex.bus.tasks import Tasks
from dspex.contracts import encoding
from dspex.contracts.envelope import DoneEvent, Event, FailedEvent
from dspex.contracts.failures import NotFound
from dspex.contracts.records import LmCall, Record, ToolCall
from dspex.contracts.replays import FromRecord, Replayed, final_attempt, prompt_diff
from dspex.contracts.subjects import Subjects

if TYPE_CHECKING:
    from dspex.bus.connection import NatsBus
    from dspex.bus.core import Message
    from dspex.contracts.replays import Asked
    from dspex.services.replay.engine import Opened, Replay, Where
    from dspex.services.replay.lives import Chosen, Recorded, Selection


class Step(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A call that waits for a decision.

    Attributes:
        step: Number in this walk, from 1.
        call: Number of the call in its attempt; 0: it is a tool's.
        messages: The prompt.
        parameters: What the call says besides.
        subject: Where the tool is.
        arguments: What the tool is given.
        found: Whether the record has an answer to it.
        recorded: What was answered then: to this, else to the call of that number.
        failed: What it failed with then.
        diff: Against the prompt of then, where that was another one.
        problem: Why the last decision could not be taken.
    """

    step: int
    call: int = 0
    messages: list[Any] = field(default_factory=list)
    parameters: dict[str, Any] = field(default_factory=dict)
    subject: str = ""
    arguments: Any = None
    found: bool = False
    recorded: Any = None
    failed: str = ""
    diff: list[str] = field(default_factory=list)
    problem: str = ""


class _Decision(Struct, frozen=True, forbid_unknown_fields=True, tag_field="do"):
    pass


class Next(_Decision, frozen=True, tag="next"):
    """Go on with the recorded answer; without one, ask for real where that may be."""


class Ask(_Decision, frozen=True, tag="ask"):
    """Ask the language model, or call the tool, for real."""


class Prompt(_Decision, frozen=True, kw_only=True, tag="prompt"):
    """Ask this instead.

    Attributes:
        messages: The prompt, of a language model.
        arguments: What a tool is given.
    """

    messages: list[dict[str, Any]] | None = None
    arguments: Any = None


class Reply(_Decision, frozen=True, kw_only=True, tag="reply"):
    """Go on with this answer instead.

    Attributes:
        text: What a language model says.
        outputs: The same as it is recorded, one per choice.
        result: What a tool answers.
    """

    text: str | None = None
    outputs: list[Any] | None = None
    result: Any = None


class Stop(_Decision, frozen=True, tag="stop"):
    """Leave it there."""


Decision = Next | Ask | Prompt | Reply | Stop


class Answered(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a call that was made for real brought.

    Attributes:
        call: Its number.
        outputs: What the language model answered.
        result: What the tool answered.
        failed: What it failed with.
    """

    call: int
    outputs: list[Any] | None = None
    result: Any = None
    failed: str = ""


class Walked(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Where a walk ended.

    Attributes:
        replayed: What came of the request; absent: the walk was stopped.
        outputs: What it answered.
        failed: What it failed with.
    """

    replayed: Replayed | None = None
    outputs: dict[str, Any] | None = None
    failed: str = ""


Decide = Callable[[Step], Awaitable[Decision]]


class Walk:
    """Asks a person about each call of one request.

    Args:
        recorded: The request.
        decide: The person.
        answered: Called with what calls brought that were made for real.
        real: Which calls may be made for real: ``lm``, ``tools``.

    Attributes:
        request: Id of the request that is walked.
        stopped: Set when the person has had enough.
    """

    def __init__(
        self,
        recorded: Recorded,
        decide: Decide,
        answered: Callable[[Answered], None],
        real: frozenset[str],
    ) -> None:
        self.request = str(uuid4())
        self.stopped = asyncio.Event()
        self.end: DoneEvent | FailedEvent | None = None
        self._decide = decide
        self._tell = answered
        self._real = real
        self._steps = 0
        self._made: set[int] = set()
        self._one_at_a_time = asyncio.Lock()
        last = final_attempt(recorded.said)
        self._calls = {
            one.call: one
            for one in recorded.said
            if isinstance(one, LmCall) and one.attempt == last
        }

    async def person(self, asked: Asked, found: FromRecord) -> FromRecord:
        """What a call is answered with."""
        async with self._one_at_a_time:
            if self.stopped.is_set():
                return FromRecord(found=False)
            self._steps += 1
            return await self._answer(asked, found)

    def hear_event(self, message: Message) -> None:
        """Take in how the request ended."""
        said: Event = encoding.decode(message.data, Event)
        if isinstance(said, DoneEvent | FailedEvent):
            self.end = said

    def hear_record(self, message: Message) -> None:
        """Take in what a call brought that was made for real."""
        said: Record = encoding.decode(message.data, Record)
        call = said.call if isinstance(said, LmCall) else 0
        if call not in self._made:
            return
        self._made.discard(call)
        self._tell(
            Answered(
                call=call,
                outputs=said.outputs if isinstance(said, LmCall) else None,
                result=said.result if isinstance(said, ToolCall) else None,
                failed="" if said.failure is None else said.failure.message,
            )
        )

    async def _answer(self, asked: Asked, found: FromRecord) -> FromRecord:
        now, problem = asked, ""
        while True:
            known = found if now == asked else FromRecord(found=False)
            decision = await self._decide(self._step(now, known, problem))
            if isinstance(decision, Stop):
                self.stopped.set()
                return FromRecord(found=False)
            if isinstance(decision, Prompt):
                now, problem = _changed(now, decision), ""
                continue
            answer = self._taken(decision, now, known)
            if answer is not None:
                return answer
            problem = _problem(decision, asked)

    def _taken(
        self, decision: Decision, now: Asked, known: FromRecord
    ) -> FromRecord | None:
        """What a decision gives; ``None``: that cannot be."""
        if isinstance(decision, Reply):
            return _replied(decision, now)
        if isinstance(decision, Next) and known.found:
            return known
        if ("lm" if now.call else "tools") not in self._real:
            return None
        self._made.add(now.call)
        return FromRecord(
            found=True, really=True, messages=now.messages, arguments=now.arguments
        )

    def _step(self, now: Asked, known: FromRecord, problem: str) -> Step:
        then = self._calls.get(now.call)
        recorded, failed = known.outputs if now.call else known.result, known.message
        diff: list[str] = []
        if then is not None and not known.found:
            recorded, failed = (
                then.outputs,
                then.failure.message if then.failure else "",
            )
            diff = prompt_diff(then.messages, now.messages)
        return Step(
            step=self._steps,
            call=now.call,
            messages=now.messages,
            parameters=now.parameters,
            subject=now.subject,
            arguments=now.arguments,
            found=known.found,
            recorded=recorded,
            failed=failed,
            diff=diff,
            problem=problem,
        )


class Stepping:
    """Walks one request of a replay; a turn's session is made again up to it.

    Args:
        bus: Where.
        replay: Chooses and opens.
        where: Where it runs.
        real: Which calls may be made for real: ``lm``, ``tools``.
    """

    def __init__(
        self, bus: NatsBus, replay: Replay, where: Where, real: frozenset[str]
    ) -> None:
        self._bus = bus
        self._replay = replay
        self._subjects = Subjects(where.prefix)
        self._real = real
        self._walk: Walk | None = None

    async def walk(
        self,
        request: str,
        decide: Decide,
        answered: Callable[[Answered], None],
        before: Callable[[Replayed], None],
    ) -> Walked:
        """Walk it.

        Args:
            request: Its id.
            decide: Asked about each call.
            answered: Called with what calls brought that were made for real.
            before: Called with what came of each earlier request of its session.

        Raises:
            NotFound: The journal does not have it whole.
        """
        selection, chosen = await self._chosen(request)
        async with self._replay.opened(selection, self._person) as opened:
            for one in selection.chosen[:-1]:
                if (earlier := await opened.replayed(one)) is not None:
                    before(earlier)
            recorded = await _whole(opened, chosen)
            self._walk = Walk(recorded, decide, answered, self._real)
            return await self._walked(opened, recorded, self._walk)

    async def _chosen(self, request: str) -> tuple[Selection, Chosen]:
        found = await self._replay.select(Wanted(request=request), [request])
        chosen = found.chosen[-1]
        if not chosen.session:
            return replace(found, chosen=[chosen]), chosen
        session = Wanted(session=chosen.session, tenant=chosen.tenant)
        whole = await self._replay.select(session, [])
        before = [one for one in whole.chosen if one.at < chosen.at]
        return replace(whole, chosen=[*before, chosen]), chosen

    async def _person(self, asked: Asked, found: FromRecord) -> FromRecord:
        walk = self._walk
        if walk is None or asked.request != walk.request:
            return found
        return await walk.person(asked, found)

    async def _walked(self, opened: Opened, recorded: Recorded, walk: Walk) -> Walked:
        tasks = Tasks()
        subjects = self._subjects.of(recorded.tenant)
        wanted = (
            (subjects.records(walk.request), walk.hear_record),
            (subjects.events(walk.request), walk.hear_event),
            (subjects.session_events(walk.request), walk.hear_event),
        )
        hearing = [await self._bus.subscribe(*one) for one in wanted]
        replaying = tasks.start(opened.again.replay(recorded, walk.request), "replay")
        stopped = tasks.start(walk.stopped.wait(), "stop")
        try:
            await asyncio.wait([replaying, stopped], return_when="FIRST_COMPLETED")
            if not replaying.done():
                return Walked()
            return _walked(replaying.result(), walk.end)
        finally:
            await tasks.cancel()
            for one in hearing:
                await one.unsubscribe()


async def _whole(opened: Opened, chosen: Chosen) -> Recorded:
    recorded = await opened.read(chosen)
    if isinstance(recorded, Damaged):
        raise NotFound(f"{chosen.request} cannot be walked: {recorded.why}.")
    if recorded is None:
        raise NotFound(
            f"{chosen.request} is not a request that can be sent again.",
            hint="Of a job, walk its submission.",
        )
    return recorded


def _walked(replayed: Replayed, end: DoneEvent | FailedEvent | None) -> Walked:
    if isinstance(end, FailedEvent):
        return Walked(replayed=replayed, failed=f"{end.code}: {end.message}")
    outputs = end.outputs if isinstance(end, DoneEvent) else None
    return Walked(replayed=replayed, outputs=outputs)


def _changed(now: Asked, decision: Prompt) -> Asked:
    if now.call:
        messages = now.messages if decision.messages is None else decision.messages
        return replace(now, messages=messages)
    return replace(now, arguments=decision.arguments)


def _replied(decision: Reply, now: Asked) -> FromRecord | None:
    if not now.call:
        return FromRecord(found=True, result=decision.result)
    outputs = decision.outputs
    if outputs is None and decision.text is not None:
        outputs = [decision.text]
    return FromRecord(found=True, outputs=outputs) if outputs else None


def _problem(decision: Decision, asked: Asked) -> str:
    if isinstance(decision, Reply):
        return "A reply takes the text that the language model says."
    what = "this prompt" if asked.call else "these arguments"
    allow = "walk with `live`" if asked.call else "walk with --allow-tools"
    said = "" if isinstance(decision, Ask) else f"The record has no answer to {what}. "
    return f"{said}Type a reply, or {allow} to ask for real."
