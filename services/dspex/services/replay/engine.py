"""Replays: what was chosen goes into a shadow, one after another or as load."""

from __future__ import annotations

import sys
from collections import Counter
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

from dspex.bus.journal import Damaged, Reader
from dspex.bus.replaying import Record
from dspex.bus.selecting import Wanted
from dspex.contracts.configuration import BUILTIN_MODEL, Configuration, Lm, to_environ
from dspex.contracts.failures import BadRequest
from dspex.contracts.replay_requests import Mode, ReplaySummary
from dspex.contracts.replays import Replayed
from dspex.contracts.subjects import Subjects
from dspex.services.replay import lives
from dspex.services.replay.again import Again, How
from dspex.services.replay.load import MOST, Load
from dspex.services.replay.shadow import Wish, shadow
from dspex.services.replay.stored import StoredBefore

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping

    from dspex.bus.connection import NatsBus
    from dspex.bus.replaying import Person
    from dspex.services.replay.lives import Chosen, Recorded, Selection

ANSWERED = frozenset({"live", "load"})
"""Modes in which an answer is enough, whatever it says."""

ANSWER_WITHIN = 120.0
"""Seconds for each request."""

WALK_WITHIN = 12 * 3600.0
"""Seconds for one that a person walks through."""

_END_OF_TIME = float("inf")


class What(Struct, frozen=True, kw_only=True):
    """What is replayed, and how.

    Attributes:
        mode: See ``Mode``.
        wanted: What the requests must be.
        requests: Only these; empty: all of them.
        lm: Another language model; empty: the recorded one.
        metric: Native metric of new outputs against the recorded ones; empty: none.
        allow_tools: Whether tools are called again.
        speed: Of ``load``: how many times faster than they came.
        latency: Of ``load``: seconds a model takes; ``None``: as long as it took.
        most: Requests that are taken at most.
    """

    mode: Mode = "exact"
    wanted: Wanted = Wanted()
    requests: list[str] = []
    lm: str = ""
    metric: str = ""
    allow_tools: bool = False
    speed: float = 1.0
    latency: float | None = None
    most: int = sys.maxsize

    @property
    def from_record(self) -> str:
        """What the record answers for."""
        lm = "" if self.mode == "live" else "lm"
        return ",".join(filter(None, (lm, "" if self.allow_tools else "tools")))


class Where(Struct, frozen=True, kw_only=True):
    """Where it runs.

    Attributes:
        url: Address of the NATS server.
        source: The configuration, which says where the journal is.
        prefix: First token of the replay's subjects.
        python: Interpreter of all workers; empty: of each pool its own.
        config: File that every program reads; ``None`` for the defaults.
        environ: Further variables of the workers.
        keep: Whether its journal stays.
        runs: Whether a stack runs there already.
    """

    url: str
    source: Configuration
    prefix: str
    python: str = ""
    config: Path | None = None
    environ: dict[str, str] = {}
    keep: bool = False
    runs: bool = False


class Replay:
    """One replay.

    Args:
        bus: Where the journal is.
        what: What is replayed.
        where: Where it runs.
        damaged: Called with what is missing in the journal or cannot be read.
        say: Called with a line of progress now and then.

    Attributes:
        known: What an earlier run came to; that is not sent again.
        total: How many requests were chosen.
    """

    def __init__(
        self,
        bus: NatsBus,
        what: What,
        where: Where,
        damaged: Callable[[Damaged], None],
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.known: Mapping[str, Replayed] = {}
        self.total = 0
        self._bus = bus
        self._found = where.source
        self._what = what
        self._where = where
        self._damaged = damaged
        self._say = say
        self._reader = Reader(bus, where.source.subjects)
        self._counts: Counter[str] = Counter()
        self._scores: list[float] = []
        self._load: Load | None = None

    async def results(self) -> AsyncGenerator[Replayed, None]:
        """What came of each request, as it comes.

        Raises:
            BadRequest: There is nothing to be replayed, or too much.
            NoWorker: The processes of the replay cannot be started.
        """
        selection = await self.select(self._what.wanted, self._what.requests)
        async with aclosing(self._results(selection)) as results:
            async for one in results:
                self._counts[one.status] += 1
                if one.score is not None:
                    self._scores.append(one.score)
                yield one

    @property
    def summary(self) -> ReplaySummary:
        """What came of all so far, in numbers."""
        scores = self._scores
        found = ReplaySummary(
            replayed=self._counts.total(),
            score=round(sum(scores) / len(scores), 4) if scores else None,
            **self._counts,
        )
        return found if self._load is None else self._load.measured.added_to(found)

    @property
    def good(self) -> bool:
        """Whether all are identical; where an answer is enough: answered."""
        enough = self._what.mode in ANSWERED
        bad = {"failed"} if enough else {*self._counts} - {"identical"}
        return bool(self._counts) and not any(self._counts[one] for one in bad)

    async def select(self, wanted: Wanted, requests: list[str]) -> Selection:
        """The requests that are wanted, in the order in which they came.

        Raises:
            BadRequest: There are none, or more than are taken.
        """
        found = await lives.choose(self._reader, wanted, requests, self._damaged)
        self.total = len(found.chosen)
        if not found.chosen:
            raise BadRequest(
                "No request in the journal matches.",
                hint="`dspex journal ls` lists what there is.",
            )
        if self.total > self._what.most:
            raise BadRequest(
                f"These are {self.total} requests; at most {self._what.most} are "
                "replayed at once.",
                hint="Select fewer: a shorter time, one session, or their ids.",
            )
        return found

    @asynccontextmanager
    async def opened(
        self, selection: Selection, person: Person | None = None
    ) -> AsyncIterator[Opened]:
        """The processes of the replay, while the block runs.

        Args:
            selection: What they are for.
            person: Has the last word on every answer from the record.

        Raises:
            NoWorker: One of them cannot be started.
        """
        what, where = self._what, self._where
        record = None
        async with shadow(self._bus, self._wish(selection, person), self._say):
            programs = StoredBefore(self._bus, self._found.prefix, where.prefix)
            await programs.read()
            if what.from_record or person is not None:
                latency = what.latency if what.mode == "load" else 0.0
                record = Record(self._bus, Subjects(where.prefix), latency, person)
                await record.start()
            try:
                again = self._again(record, walked=person is not None)
                exact, take = what.mode == "exact", self._damaged
                yield Opened(self._reader, again, programs, take, exact=exact)
            finally:
                if record is not None:
                    await record.stop()

    async def _results(self, selection: Selection) -> AsyncGenerator[Replayed, None]:
        if self._where.runs:
            async with aclosing(self._loaded(selection, self._again(None))) as loaded:
                async for one in loaded:
                    yield one
            return
        async with self.opened(selection) as opened:
            if self._what.mode == "load":
                await opened.programs.put(_END_OF_TIME)
                async with aclosing(self._loaded(selection, opened.again)) as loaded:
                    async for one in loaded:
                        yield one
                return
            for chosen in selection.chosen:
                known = self.known.get(chosen.request)
                if (found := await opened.replayed(chosen, known)) is not None:
                    yield found

    async def _loaded(
        self, selection: Selection, again: Again
    ) -> AsyncGenerator[Replayed, None]:
        requests: list[Recorded] = []
        for one in selection.chosen[:MOST]:
            recorded = await lives.read(self._reader, one)
            if isinstance(recorded, Damaged):
                self._damaged(recorded)
            elif recorded is not None and not (recorded.state or recorded.session):
                requests.append(recorded)
        if not requests:
            raise BadRequest("None of these can be sent without its session.")
        load = self._load = Load(again, self._what.speed)
        async with aclosing(load.results(requests)) as results:
            async for result in results:
                yield result

    def _again(self, record: Record | None, *, walked: bool = False) -> Again:
        how = How(
            lm=self._what.lm,
            timeout=WALK_WITHIN if walked else ANSWER_WITHIN,
            metric=self._what.metric,
            answered=walked or self._what.mode in ANSWERED,
            pools=frozenset(self._found.pools),
        )
        return Again(self._bus, Subjects(self._where.prefix), record, how)

    def _wish(self, selection: Selection, person: Person | None) -> Wish:
        where, subjects = self._where, self._found.subjects
        tenants = sorted({one.tenant for one in selection.chosen})
        theirs = [subjects.of(tenant).tools() for tenant in tenants]
        asked = self._what.from_record
        if person is not None:  # who is asked about every call, also about real ones
            asked = f"lm,tools,{self._what.mode}"
        return Wish(
            url=where.url,
            prefix=where.prefix,
            pools=self._found.pools,
            from_record=asked,
            python=where.python,
            config=where.config,
            tools=[*self._found.tools.subjects, *theirs],
            environ=self._models(selection) | where.environ,
            keep=where.keep,
        )

    def _models(self, selection: Selection) -> dict[str, str]:
        """Variables of language models that the record knows and nobody configured."""
        found: dict[str, str] = {}
        for name, model in selection.models.items():
            if name not in self._found.lms:
                builtin = model.startswith("builtin/")
                found |= to_environ(name, Lm(model=BUILTIN_MODEL if builtin else model))
        return found


class Opened:
    """A replay whose processes run.

    Attributes:
        again: Sends requests to them.
        programs: What is stored there.
    """

    def __init__(
        self,
        reader: Reader,
        again: Again,
        programs: StoredBefore,
        damaged: Callable[[Damaged], None],
        *,
        exact: bool,
    ) -> None:
        self.again = again
        self.programs = programs
        self._reader = reader
        self._damaged = damaged
        self._exact = exact

    async def read(self, chosen: Chosen) -> Recorded | Damaged | None:
        """A request whole, when the programs are stored that it found then."""
        await self.programs.put(chosen.at if self._exact else _END_OF_TIME)
        return await lives.read(self._reader, chosen)

    async def replayed(
        self, chosen: Chosen, known: Replayed | None = None
    ) -> Replayed | None:
        """What comes of one; ``None``: it is not one to be sent again.

        Args:
            chosen: The one.
            known: What came of it before, which will do where nothing depends on it.
        """
        recorded = await self.read(chosen)
        if isinstance(recorded, Damaged):
            self._damaged(recorded)
            return Replayed(
                request=chosen.request,
                replayed_as=None,
                status="failed",
                why=recorded.why,
            )
        if recorded is None:
            return None
        if known is None or recorded.session or recorded.state:
            return await self.again.replay(recorded)
        return known
