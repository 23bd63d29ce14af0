"""The replay program: the only file of this package that sees the bus's messages."""

from __future__ import annotations

import logging
import time
from collections import Counter
from contextlib import aclosing
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import msgspec
from msgspec.structs import replace

from dspex.bus.program import VERSION, Context
from dspex.bus.responder import Profile, Responder
from dspex.bus.running import Identity, Outcome
from dspex.bus.selecting import Wanted
from dspex.bus.serving import ServiceInfo
from dspex.bus.slots import Slots
from dspex.contracts import catalog, headers
from dspex.contracts.envelope import Delta, Status
from dspex.contracts.failures import BadRequest
from dspex.contracts.redaction import MARK
from dspex.contracts.replay_requests import ReplayRun, RunReplay
from dspex.contracts.subjects import REPLAY_POOL
from dspex.services.replay.engine import Replay, What, Where

if TYPE_CHECKING:
    from dspex.bus.events import Events
    from dspex.bus.journal import Damaged
    from dspex.bus.running import Run
    from dspex.contracts.configuration import Configuration
    from dspex.contracts.replays import Replayed

_log = logging.getLogger(__name__)

AT_A_TIME = 1
"""Replays that run at a time: each starts processes."""

QUEUE = 8
"""Replays that wait beyond that."""

GRACE = 15.0
"""Seconds to end the processes of a replay when told to stop."""

SHOWN = 100
"""Results that stand in the reply, of those that are not identical."""

SHOWN_BYTES = 256 * 1024
"""All of those together."""

LONGEST = 16 * 1024
"""Bytes of one result; what differs is shortened beyond that."""

WHYS = 20
"""Different kinds of damage that are told."""

TELL_EVERY = 1.0
"""Seconds between two words on how far it is."""


class Runs:
    """Answers ``replay.run``.

    Args:
        context: Of this program.
    """

    def __init__(self, context: Context) -> None:
        self._bus = context.bus
        self._configuration = context.configuration
        self._config = context.arguments.config

    async def run(self, operation: str, body: Any, events: Events) -> Outcome:
        """Replay what is selected; each result is told when it comes.

        Raises:
            BadRequest: Nothing selects requests, or there are none, or too many.
            NoWorker: The processes of the replay cannot be started.
        """
        passed_over: Counter[str] = Counter()

        def damaged(found: Damaged) -> None:
            if len(passed_over) < WHYS or found.why in passed_over:
                passed_over[found.why] += 1

        tenant = events.audience.subjects.tenant
        what = asked(body, tenant, self._configuration.replay.requests)
        replay = Replay(self._bus, what, self._where(), damaged)
        results = await _told(replay, events)
        run = ReplayRun(
            summary=replay.summary,
            results=results,
            passed_over=[f"{count} x {why}" for why, count in passed_over.items()],
        )
        return Outcome(outputs=msgspec.to_builtins(run))

    def _where(self) -> Where:
        return Where(
            url=self._bus.settings.url,
            source=self._configuration,
            prefix=f"replay{uuid4().hex[:8]}",
            config=self._config,
        )


def asked(body: RunReplay, tenant: str, most: int) -> What:
    """What a request wants replayed: what is its tenant's own.

    Raises:
        BadRequest: Nothing in it says which requests.
    """
    if not body.selects:
        raise BadRequest(
            "A replay says which requests it is about.",
            hint="Give requests, session, operation, worker, text, since, until, "
            "failed or slow_s.",
            field="requests",
        )
    names = ("since", "until", "operation", "session", "worker", "failed", "text")
    said = {name: getattr(body, name) for name in names}
    return What(
        mode=body.mode,
        wanted=Wanted(**said, tenant=tenant, slow=body.slow_s * 1000),
        requests=body.requests,
        lm=body.lm or "",
        metric=body.metric,
        allow_tools=body.allow_tools,
        speed=body.speed,
        latency=body.latency_s,
        most=most,
    )


def told(one: Replayed, *, redacts: bool) -> Replayed:
    """A result as it may be told: what a message can hold, and nothing to be left out.

    Args:
        one: The result.
        redacts: Whether rules say what no copy may have; they know the places of a
            request, and not those of a difference.
    """
    found = one.first_difference
    if found is not None and redacts:
        found = replace(found, replayed=MARK, diff=[])
    elif found is not None and len(msgspec.json.encode(one)) > LONGEST:
        before, after = _short(found.recorded), _short(found.replayed)
        found = replace(found, recorded=before, replayed=after)
    return replace(one, first_difference=found)


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    most = LONGEST // 8
    return text if len(text) <= most else f"{text[:most]}…"


async def _told(replay: Replay, events: Events) -> list[Replayed]:
    """Tell each result as a line; returns those that the reply has."""
    different: list[Replayed] = []
    room, count, last = SHOWN_BYTES, 0, time.monotonic()
    async with aclosing(replay.results()) as results:
        async for result in results:
            one, count = told(result, redacts=events.redaction is not None), count + 1
            line = msgspec.json.encode(one).decode()
            await events.emit(Delta, field="results", text=f"{line}\n")
            if time.monotonic() - last >= TELL_EVERY:
                last, total = time.monotonic(), replay.total
                await events.emit(Status, message="replaying", done=count, total=total)
            if one.status != "identical" and len(different) < SHOWN:
                room -= len(line)
                different += [one] if room >= 0 else []
    return different


def profile(configuration: Configuration, served: list[str]) -> Profile:
    """What a new replay program is."""
    subjects = configuration.subjects
    worker = f"{REPLAY_POOL}-{uuid4().hex[:12]}"
    return Profile(
        info=ServiceInfo(
            name="dspex-replay",
            version=VERSION,
            description="Requests of the journal again, in processes of their own.",
            metadata={"pool": REPLAY_POOL, "worker": worker},
            id=worker,
        ),
        identity=Identity(
            subjects=subjects,
            pool=REPLAY_POOL,
            worker=worker,
            implementation="replay",
            operations=frozenset(served),
        ),
        direct=(subjects.pool_run(REPLAY_POOL), subjects.tenant_pool_runs(REPLAY_POOL)),
        queue=REPLAY_POOL,
        operation_of=lambda message: message.headers.get(headers.OPERATION, ""),
        operations=served,
        lms=sorted(configuration.lms),
        versions=VERSION,
    )


async def main(context: Context) -> None:
    """Serve until told to stop; a replay that runs then is ended with its processes."""
    found = profile(context.configuration, catalog.served_by("replay"))
    run: Run = Runs(context).run
    responder = Responder(context, found, Slots(AT_A_TIME, QUEUE), run)
    await responder.start()
    await responder.open()
    _log.info("replay ready", extra={"worker": found.identity.worker})
    await context.stop.wait()
    await responder.stop(GRACE)
