"""The body and the outputs of ``replay.run``."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct, field

from dspex.contracts.replays import Replayed
from dspex.contracts.requests import Body

Mode = Literal["exact", "diff", "live", "load"]
"""How recorded requests are sent again. ``exact``: models and tools answer from the
record; ``diff``: the same with the programs of now; ``live``: models are asked anew;
``load``: as they arrived, or faster."""

Id = Annotated[str, Meta(pattern="^[A-Za-z0-9_-]{1,64}$")]
Text = Annotated[str, Meta(max_length=1000)]


class RunReplay(Body, frozen=True, kw_only=True):
    """Send requests of the journal again, and say what is different.

    Something must select them; they are those of the tenant who asks.

    Attributes:
        mode: How.
        requests: Only these.
        since: Told of at this time or later, unix milliseconds.
        until: Not later than this.
        operation: What was asked.
        session: The session they are turns of, from its beginning.
        worker: Who ran them, or the pool of who did.
        failed: Only those that failed.
        slow_s: Only those that took so many seconds or longer.
        text: A text that the prompt, the answer or the failure holds.
        lm: Another language model.
        metric: Native metric of new outputs against the recorded ones.
        allow_tools: Whether tools are called again.
        speed: Of ``load``: how many times faster than they came.
        latency_s: Of ``load``: seconds that a model takes; absent: as long as it took.
    """

    mode: Mode = "exact"
    requests: Annotated[list[Id], Meta(max_length=10_000)] = field(default_factory=list)
    since: float | None = None
    until: float | None = None
    operation: Text = ""
    session: Text = ""
    worker: Text = ""
    failed: bool = False
    slow_s: Annotated[float, Meta(ge=0)] = 0.0
    text: Text = ""
    lm: str | None = None
    metric: Text = ""
    allow_tools: bool = False
    speed: Annotated[float, Meta(gt=0, le=10_000)] = 1.0
    latency_s: Annotated[float, Meta(ge=0, le=3600)] | None = None

    @property
    def selects(self) -> bool:
        """Whether it says which requests it is about."""
        named = (self.requests, self.operation, self.session, self.worker, self.text)
        timed = self.since is not None or self.until is not None
        return timed or self.failed or self.slow_s > 0 or any(named)


class ReplaySummary(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What came of a replay, in numbers.

    Attributes:
        replayed: Requests.
        identical: Those with the same end and the same events.
        changed: Those with others.
        diverged: Those that asked what the record has no answer to.
        failed: Those that could not be replayed, or were not answered.
        score: Mean of the scores, where a metric was asked for.
        answered: Of ``load``: those that were answered.
        seconds: Of ``load``: from the first request to the last answer.
        per_second: Of ``load``: answers.
        p50_ms: Of ``load``: half of the answers took no longer.
        p90_ms: Of ``load``: nine of ten took no longer.
        p99_ms: Of ``load``: 99 of 100 took no longer.
    """

    replayed: int
    identical: int = 0
    changed: int = 0
    diverged: int = 0
    failed: int = 0
    score: float | None = None
    answered: int | None = None
    seconds: float | None = None
    per_second: float | None = None
    p50_ms: float | None = None
    p90_ms: float | None = None
    p99_ms: float | None = None


class ReplayRun(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Outputs of ``replay.run``; a stream has each result as a line of JSON before.

    Attributes:
        summary: In numbers.
        results: Those that are not identical, the first hundred.
        passed_over: What of the journal is missing or cannot be read, in words.
    """

    summary: ReplaySummary
    results: list[Replayed] = field(default_factory=list)
    passed_over: list[str] = field(default_factory=list)
