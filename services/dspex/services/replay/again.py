"""Sending one recorded request again, hearing what becomes of it, and judging that."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from msgspec import Struct
from msgspec.structs import replace

from dspex.bus.claims import Claims, packed, unpacked
from dspex.bus.core import NoResponders
from dspex.contracts import encoding, headers
from dspex.contracts.envelope import Done, DoneEvent, Event, FailedEvent, Reply
from dspex.contracts.failures import Failure
from dspex.contracts.native_requests import ScoreMetric
from dspex.contracts.replays import (
    Difference,
    Replayed,
    ReplayStatus,
    Script,
    compare,
    first_difference,
    own,
)
from dspex.native.metrics.catalog import score_metric
from dspex.services.replay.lives import SUBMIT

if TYPE_CHECKING:
    from dspex.bus.connection import NatsBus
    from dspex.bus.core import Message
    from dspex.bus.replaying import Record as FromRecord
    from dspex.contracts.records import Record
    from dspex.contracts.subjects import Subjects
    from dspex.services.replay.lives import Recorded

TOLD_WITHIN = 10.0
"""Seconds after a reply in which its event comes."""

_KEPT = (headers.CONTENT_TYPE, headers.ROUTE, headers.CACHE)


class How(Struct, frozen=True, kw_only=True):
    """How requests are sent again.

    Attributes:
        lm: Language model instead of the recorded one; empty: that one.
        timeout: Seconds for each.
        metric: Native metric of new outputs against the recorded ones; empty: none.
        answered: Whether an answer is enough, whatever it says.
        pools: Those of the replay.
    """

    lm: str = ""
    timeout: float = 120.0
    metric: str = ""
    answered: bool = False
    pools: frozenset[str] = frozenset()


class Again:
    """Sends recorded requests again.

    Args:
        bus: Where.
        subjects: Under the replay's prefix.
        record: What answers the workers of the replay; ``None``: nothing does.
        how: As it was asked for.

    Attributes:
        record: What answers the workers of the replay.
    """

    def __init__(
        self, bus: NatsBus, subjects: Subjects, record: FromRecord | None, how: How
    ) -> None:
        self._bus = bus
        self._claims = Claims(bus, subjects.prefix)
        self._subjects = subjects
        self.record = record
        self._how = how

    @property
    def timeout(self) -> float:
        """Seconds for each request."""
        return self._how.timeout

    async def replay(self, recorded: Recorded, new: str = "") -> Replayed:
        """Send one again, and say what came of it.

        Args:
            recorded: The one.
            new: Id that it has now; default: any.
        """
        new = new or str(uuid4())
        script = Script(recorded.said, goes_on=bool(recorded.session))
        if self.record is not None:
            self.record.scripts[new] = script
        try:
            said = await self._said(recorded, new)
        except (Failure, TimeoutError, NoResponders) as error:
            why = error.message if isinstance(error, Failure) else "no answer came"
            return Replayed(
                request=recorded.asked.request,
                replayed_as=new,
                status="failed",
                why=f"{why} {'; '.join(recorded.damaged)}".strip(),
            )
        finally:
            if self.record is not None:
                self.record.scripts.pop(new, None)
        return self._judged(recorded, new, script.difference, said)

    async def send(self, recorded: Recorded, new: str) -> Reply:
        """Send one again and return its reply."""
        subject = self._subject(recorded)
        sent = {
            name: recorded.asked.headers[key]
            for name in _KEPT
            for key in recorded.asked.headers
            if key.lower() == name.lower()
        }
        if sent.get(headers.ROUTE, "").startswith("worker:"):
            del sent[headers.ROUTE]  # that process is not here
        sent.pop(headers.CONTENT_TYPE, None)  # copies are JSON
        if any(key.lower() == headers.STREAM.lower() for key in recorded.asked.headers):
            sent[headers.STREAM] = "events"
        sent[headers.REQUEST] = new
        sent[headers.OPERATION] = recorded.asked.operation
        sent[headers.DEADLINE] = f"{(time.time() + self._how.timeout) * 1000:.0f}"
        body = encoding.encode(self._body(recorded, new))
        data, sent = await packed(self._claims, recorded.tenant, body, sent)
        try:
            message = await self._bus.request(
                subject, data, headers=sent, timeout=self._how.timeout + 1
            )
        except asyncio.CancelledError:  # nobody waits: what runs for it may end
            await self._bus.publish(self._subjects.of(recorded.tenant).cancel(new))
            raise
        found: Reply = encoding.decode(await unpacked(self._claims, message), Reply)
        return found

    async def _said(self, recorded: Recorded, new: str) -> list[Event | Record]:
        """All that is told of the replay, up to its end."""
        heard: list[Event | Record] = []
        ended = asyncio.Event()
        job = recorded.asked.operation == SUBMIT and recorded.said == own(recorded.said)

        def hear(message: Message) -> None:
            try:
                one: Event = encoding.decode(message.data, Event)
            except Failure:
                return
            heard.append(one)
            if _ends(own([one]) if job else [one]):
                ended.set()

        subjects = self._subjects.of(recorded.tenant)
        wanted = (subjects.events(new), subjects.session_events(new))
        hearing = [await self._bus.subscribe(one, hear) for one in wanted]
        await self._bus.flush()
        try:
            reply = await self.send(recorded, new)
            async with asyncio.timeout(self._how.timeout if job else TOLD_WITHIN):
                await ended.wait()
        finally:
            for one in hearing:
                await one.unsubscribe()
        heard = [_whole(one, reply) for one in heard]
        return own(heard) if job else heard

    def _subject(self, recorded: Recorded) -> str:
        subjects = self._subjects.of(recorded.tenant)
        operation = recorded.asked.operation
        if recorded.session:
            return subjects.session_call(recorded.session, operation)
        # Where providers failed, a router would soon send nothing any more.
        if _blamed(recorded) and recorded.pool in self._how.pools:
            return subjects.pool_run(recorded.pool)
        return subjects.call(operation)

    def _body(self, recorded: Recorded, new: str) -> Any:
        asked, lm = recorded.asked, self._how.lm
        body = asked.body
        if not isinstance(body, dict):
            return body
        if asked.operation == SUBMIT:
            late = ("not_before", "deadline")
            body = {key: one for key, one in body.items() if key not in late}
            inner = body.get("body")
            if lm and isinstance(inner, dict):
                body["body"] = inner | {"lm": lm}
            return body | {"job": new}
        if asked.operation == "session.open":
            body = {"session": asked.request} | body
        if asked.operation == "session.fork":
            body = {"as": asked.request} | body
        takes = not recorded.state or asked.operation == "session.open"
        return body | {"lm": lm} if lm and takes and recorded.pool != "native" else body

    def _judged(
        self,
        recorded: Recorded,
        new: str,
        diverged: Difference | None,
        said: list[Event | Record],
    ) -> Replayed:
        found = _ends_differ(recorded, said)
        if not found and (recorded.asked.operation == SUBMIT or not recorded.state):
            found = compare(recorded.said, said)
        status: ReplayStatus = "identical" if found is None else "changed"
        if diverged is not None and not self._how.answered:
            status, found = "diverged", diverged
        score = None if status == "diverged" else self._score(recorded.said, said)
        return Replayed(
            request=recorded.asked.request,
            replayed_as=new,
            status=status,
            first_difference=found,
            why="; ".join(recorded.damaged) if found else "",
            score=score,
        )

    def _score(
        self, before: list[Event | Record], after: list[Event | Record]
    ) -> float | None:
        """The mean over the texts among the recorded outputs."""
        if not self._how.metric:
            return None
        old, new = _outputs(before), _outputs(after)
        scores = [
            float(
                score_metric(
                    ScoreMetric(
                        metric=self._how.metric,
                        prediction=str(new.get(name, "")),
                        answers=[text],
                    )
                ).score
            )
            for name, text in old.items()
            if isinstance(text, str)
        ]
        return sum(scores) / len(scores) if scores else None


def _ends_differ(recorded: Recorded, said: list[Event | Record]) -> Difference | None:
    """Whether one failed and the other did not, or otherwise."""
    return first_difference(_code(recorded.said), _code(said))


def _code(said: list[Event | Record]) -> dict[str, str]:
    for one in reversed(said):
        if isinstance(one, FailedEvent):
            return {"code": one.code}
        if isinstance(one, DoneEvent):
            return {"code": "done"}
    return {"code": ""}


def _whole(said: Event | Record, reply: Reply) -> Event | Record:
    """What was told, with outputs that were too large for an event."""
    cut = isinstance(said, DoneEvent) and said.cut is not None
    if cut and isinstance(reply, Done):
        return replace(said, outputs=reply.outputs, cut=None)
    return said


def _ends(said: list[Event | Record]) -> bool:
    return any(isinstance(one, DoneEvent | FailedEvent) for one in said)


def _outputs(said: list[Event | Record]) -> dict[str, Any]:
    found = [one.outputs for one in said if isinstance(one, DoneEvent)]
    return found[-1] if found else {}


def _blamed(recorded: Recorded) -> bool:
    return any(
        isinstance(one, FailedEvent) and one.category == "provider"
        for one in recorded.said
    )
