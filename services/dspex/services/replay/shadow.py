"""Where a replay runs: processes of its own, under a prefix that nobody else uses."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from dspex.bus.children import Child, Ended, Program, Role
from dspex.bus.core import NoResponders
from dspex.bus.durable import api
from dspex.bus.provisioning import declared
from dspex.bus.readiness import News, Readiness, Waiting, hostname
from dspex.bus.replaying import VARIABLE
from dspex.bus.tasks import Tasks
from dspex.contracts import encoding
from dspex.contracts.failures import Failure, NoWorker
from dspex.contracts.pooling import Pool
from dspex.contracts.subjects import Subjects

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable

    from dspex.bus.connection import NatsBus

READY_WITHIN = 120.0
GRACE = 10.0
AGAIN = 0.1
JOURNAL_MIB = "64"

_SERVICES: dict[Role, str] = {
    "router": "dspex.router",
    "native": "dspex.native",
    "state": "dspex.services.state",
}


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """What to start.

    Attributes:
        url: Address of the NATS server.
        prefix: First token of every subject.
        pools: A worker is started for each of them.
        from_record: What of ``lm`` and ``tools`` the record answers.
        python: Interpreter of all workers; empty: of each pool its own.
        config: File that every program reads; ``None`` for the defaults.
        tools: Patterns of subjects on which tools may be called.
        environ: Further variables of the workers.
        keep: Whether streams and buckets stay when the processes end.
    """

    url: str
    prefix: str
    pools: dict[str, Pool]
    from_record: str
    python: str = ""
    config: Path | None = None
    tools: list[str] = []
    environ: dict[str, str] = {}
    keep: bool = False


@asynccontextmanager
async def shadow(
    bus: NatsBus, wish: Wish, say: Callable[[str], None]
) -> AsyncIterator[None]:
    """Router, native-ops, state and workers of a replay, while the block runs.

    Raises:
        NoWorker: One of them cannot be started.
    """
    with tempfile.TemporaryDirectory(prefix="dspex-replay-") as folder:
        children = [Child(one, Path(folder) / one.name) for one in _programs(wish)]
        watching = Tasks()
        try:
            say(f"starting {len(children)} processes under {wish.prefix}")
            await _start(bus, Subjects(wish.prefix), children, watching)
            yield
        finally:
            await watching.cancel()
            await asyncio.gather(*(one.stop(GRACE) for one in children))
            if not wish.keep:
                await _remove(bus, Subjects(wish.prefix))


def _programs(wish: Wish) -> list[Program]:
    environ = {
        "DSPEX_NATS_URL": wish.url,
        "DSPEX_PREFIX": wish.prefix,
        "DSPEX_PARENT_PIPE": "1",
        # What a replay is asked and told goes by records, so all of it is kept.
        "DSPEX_JOURNAL_ON": "true",
        "DSPEX_JOURNAL_SAMPLE": "1.0",
        "DSPEX_JOURNAL_MAX_MIB": JOURNAL_MIB,
        # Requests name tools where they were, under the prefix of then.
        "DSPEX_TOOLS_SUBJECTS": encoding.encode(wish.tools).decode(),
        # The last attempt is replayed, and ends as it did.
        "DSPEX_ROUTER_RETRIES": "0",
    }
    config = ("--config", str(wish.config)) if wish.config else ()
    found = [
        Program(
            name=role,
            role=role,
            argv=(sys.executable, "-m", module, *config),
            environ=environ,
        )
        for role, module in _SERVICES.items()
    ]
    asks = {VARIABLE: wish.from_record} if wish.from_record else {}
    special = wish.environ | asks
    for name, pool in wish.pools.items():
        python = wish.python or pool.python or sys.executable
        found.append(
            Program(
                name=f"worker-{name}",
                role="worker",
                argv=(python, "-m", pool.module, "--pool", name, *config),
                environ=pool.env | environ | special,
            )
        )
    return found


async def _start(
    bus: NatsBus, subjects: Subjects, children: Iterable[Child], watching: Tasks
) -> None:
    news: News = asyncio.Queue(1024)
    waiting = Waiting(bus, subjects, news, lambda _: None)
    try:
        for child in children:
            await child.start()
            watching.start(_report(child, news), f"end of {child.program.name}")
        others = {
            one.pid: one.program.name
            for one in children
            if one.program.role != "router"
        }
        async with asyncio.timeout(READY_WITHIN):
            await waiting.until_ready(Readiness(others, hostname(), router=True))
            await _router_answers(bus, subjects)
            await bus.publish(subjects.discover())
    except (Ended, OSError) as error:  # a timeout is one too
        tails = "\n".join(one.tail() for one in children)
        raise NoWorker(
            f"The processes of the replay did not get ready. {error}\n{tails}"
        ) from None


async def _report(child: Child, news: News) -> None:
    await child.wait()
    await news.put(child)


async def _router_answers(bus: NatsBus, subjects: Subjects) -> None:
    body = encoding.encode({"signature": "question -> answer"})
    while True:
        try:
            answer = await bus.request(subjects.call("signature.parse"), body)
        except (NoResponders, TimeoutError):
            await asyncio.sleep(AGAIN)
            continue
        if encoding.decode(answer.data, dict).get("type") == "done":
            return
        await asyncio.sleep(AGAIN)


async def _remove(bus: NatsBus, subjects: Subjects) -> None:
    for one in declared(subjects):
        try:
            await api(bus, f"STREAM.DELETE.{one.name}")
        except Failure:
            continue  # it was never made
