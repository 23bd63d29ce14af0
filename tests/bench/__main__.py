"""``python -m tests.bench``: measure, print a table, write ``docs/benchmarks.md``."""

from __future__ import annotations

import argparse
import asyncio
import datetime
import signal
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvloop
from tests.bench import (
    caching,
    cancelling,
    deciding,
    hops,
    jobs,
    journal,
    load,
    memory,
    native_metrics,
    native_prompts,
    native_replies,
    native_schemas,
    native_signatures,
    peer,
    pools,
    results,
    scaling,
    sessions,
)
from tests.bench.machine import machine
from tests.bench.measure import tell
from tests.bench.rig import rig

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.bench.results import Findings

REPOSITORY = Path(__file__).parents[2]
DOCUMENT = REPOSITORY / "docs" / "benchmarks.md"
NUMBERS = REPOSITORY / "build" / "bench.json"

ALONE: dict[str, Callable[[None], Awaitable[Findings]]] = {
    "decision": deciding.decision,
    "native_signatures": native_signatures.native_signatures,
    "native_prompts": native_prompts.prompts,
    "native_replies": native_replies.native_replies,
    "schema_validate": native_schemas.schema_validate,
    "native_metrics": native_metrics.native_metrics,
}
"""What needs no running system."""

ON_THE_RIG: dict[str, Callable[[Any], Awaitable[Findings]]] = {
    "router_hop": hops.router_hop,
    "native_hop": hops.native_hop,
    "first_event": hops.first_event,
    "cached": caching.cached,
    "cancel": cancelling.cancel,
    "concurrency_128": load.concurrency,
    "job_throughput": jobs.job_throughput,
    "job_durability": jobs.job_durability,
    "scaling": scaling.scaling,
    "fastapi": peer.fastapi,
    "session_turn": sessions.turn,
    "session_rebuild": sessions.rebuild,
    "session_memory": sessions.many,
    "pools": pools.pools,
    "memory": memory.memory,
    "journal": journal.journal,
}

LONG = frozenset({"memory", "pools", "session_memory"})
"""What takes minutes, so it is measured when it is named, or with ``--all``."""


def main() -> int:
    """Run what the command line asks for; a missed bar is no failure."""
    arguments = _arguments()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        about = machine()
        found = runner.run(_measure(_chosen(arguments)))
    numbers = [result for findings in found for result in findings.results]
    results.write_json(NUMBERS, numbers)
    if arguments.only is None:
        today = datetime.datetime.now(datetime.UTC).date()
        DOCUMENT.write_text(results.document(found, about, today), encoding="utf-8")
    if arguments.json:
        print(results.as_json(numbers))
        return 0
    print(results.aligned(results.rows(numbers)))
    for findings in found:
        if findings.details:
            print("\n" + results.aligned(findings.details))
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--only", choices=[*ALONE, *ON_THE_RIG], help="measure one")
    parser.add_argument(
        "--all", action="store_true", help="measure what takes long too"
    )
    parser.add_argument("--json", action="store_true", help="print JSON, no table")
    return parser.parse_args()


def _chosen(arguments: argparse.Namespace) -> set[str]:
    if arguments.only:
        return {arguments.only}
    return {*ALONE, *ON_THE_RIG} - (set() if arguments.all else LONG)


async def _measure(chosen: set[str]) -> list[Findings]:
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    alone = {name: run for name, run in ALONE.items() if name in chosen}
    on_the_rig = {name: run for name, run in ON_THE_RIG.items() if name in chosen}
    found = []
    for name, run in alone.items():
        tell(name)
        found.append(await run(None))
    if not on_the_rig:
        return found
    tell("starting nats-server, models, router, native-ops, two workers")
    with tempfile.TemporaryDirectory(prefix="dspex-bench-") as folder:
        async with rig(Path(folder)) as system:
            for name, one in on_the_rig.items():
                tell(name)
                found.append(await one(system))
    return found


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (KeyboardInterrupt, asyncio.CancelledError):
        sys.exit(130)  # told to stop: what was started has ended
