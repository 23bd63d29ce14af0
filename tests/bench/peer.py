"""The same program over NATS and over HTTP."""

from __future__ import annotations

import asyncio
import collections
import contextlib
from typing import TYPE_CHECKING

import aiohttp
from tests.bench.measure import Call, Load, Window, closed_loop, middle, tell
from tests.bench.results import Bar, Findings, Result
from tests.bench.rig import KEY, LATENCIES, listening, program
from tests.support.nats_server import free_port
from tests.support.stack import Program

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.bench.rig import Rig

MODES = {
    "guide": "FastAPI as in the guide (`asyncify`, 8 threads a process)",
    "threads": "FastAPI tuned (`asyncify`, 64 threads a process)",
    "async": "FastAPI tuned (`await program.acall`)",
}
OURS = "DSPex"
CLIENTS = (1, 16, 64)
ROUNDS = 3
PROCESSES = 2
QUESTION = "Why is the sky blue?"
WINDOW = Window(warm_up=0.4, seconds=2.0)
NOTE = f"""\
## Beside FastAPI

The same program (`dspy.Predict("question -> answer")`) and the same scripted model with a latency of {LATENCIES["brisk"]:g} s, in one run and in turns: two of our worker processes against `uvicorn --workers {PROCESSES}`, DSPy's cache off in both.
The clients each ask again once they have their answer; they share one process on each side, with our Python client there and aiohttp here, which needs less of the processor than httpx.
What could hold the web server back is taken away: no access log, connections kept, and spread evenly over its processes, which uvicorn itself does not see to.
The first row of each kind is the deployment guide's program, with DSPy's default of 8 threads a process where the guide sets 4; the tuned ones go beyond the guide.
A single client waits for the model nearly all the time, so one client can at best be a draw; with more, the guide's server runs out of threads and all of them out of processor.
Ours has a router and nats-server on the same processor, and does more for each request: it checks inputs and outputs against the signature, publishes four events, counts tokens and says who answered."""  # noqa: E501 - one sentence per line


async def fastapi(rig: Rig) -> Findings:
    """Our throughput over FastAPI's, both with two processes that run DSPy."""
    async with contextlib.AsyncExitStack() as exits:
        sides: dict[str, Call] = {OURS: _ours(rig)}
        for mode in MODES:
            tell(f"  starting FastAPI: {mode}")
            url = await exits.enter_async_context(_served(rig, mode))
            sessions = await exits.enter_async_context(_connected(url))
            sides[mode] = _theirs(sessions, f"{url}/predict")
        for side in sides.values():
            await closed_loop(side, 64, Window(warm_up=0, seconds=1))
        loads = {
            clients: await _measured(sides, clients, ROUNDS) for clients in CLIENTS
        }
    return Findings(
        results=[
            _result(mode, clients, loads[clients])
            for mode in MODES
            for clients in CLIENTS
        ],
        note=NOTE,
        details=_details(loads),
    )


Loads = dict[str, list[Load]]
"""The rounds of each side."""


async def _measured(sides: dict[str, Call], clients: int, rounds: int) -> Loads:
    found: Loads = {name: [] for name in sides}
    for number in range(rounds):
        tell(f"  {clients} clients, round {number + 1} of {rounds}")
        for name, side in sides.items():
            found[name].append(await closed_loop(side, clients, WINDOW))
    return found


def _ours(rig: Rig) -> Call:
    body = {
        "signature": "question -> answer",
        "inputs": {"question": QUESTION},
        "lm": "brisk",
    }

    async def ask() -> None:
        await rig.client.call("predict", body)

    return ask


Sessions = collections.deque[aiohttp.ClientSession]


def _theirs(sessions: Sessions, url: str) -> Call:
    async def ask() -> None:
        session = sessions.popleft()
        try:
            async with session.post(url, json={"text": QUESTION}) as response:
                response.raise_for_status()
                assert (await response.json())["status"] == "success"
        finally:
            sessions.append(session)

    return ask


@contextlib.asynccontextmanager
async def _served(rig: Rig, mode: str) -> AsyncIterator[str]:
    """The peer behind uvicorn."""
    port = free_port()
    options = {
        "--workers": str(PROCESSES),
        "--host": "127.0.0.1",
        "--port": str(port),
        "--log-level": "warning",
        "--timeout-keep-alive": "300",
    }
    arguments = [part for option in options.items() for part in option]
    run = Program("uvicorn", "tests.bench.peer_app:app", "--no-access-log", *arguments)
    environ = {
        "PEER_MODE": mode,
        "PEER_MODEL_URL": rig.models["brisk"],
        "PEER_MODEL_KEY": KEY,
        # Its price list would be fetched from the internet, with retries.
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    }
    async with program(run, rig.folder / "logs", environ):
        await listening(port, run)
        yield f"http://127.0.0.1:{port}"


@contextlib.asynccontextmanager
async def _connected(url: str) -> AsyncIterator[Sessions]:
    """One connection for each client, evenly over the peer's processes and in turns.

    uvicorn does not see to that: whichever process is first takes a connection and
    keeps it, so that a busy one may hold most of them.
    """
    room = max(CLIENTS) // PROCESSES
    held: dict[int, list[aiohttp.ClientSession]] = {}
    async with contextlib.AsyncExitStack() as exits:
        async with asyncio.timeout(120):
            while sum(map(len, held.values())) < max(CLIENTS):
                session, process = await _connect(exits, url)
                of_process = held.setdefault(process, [])
                if len(of_process) < room:
                    of_process.append(session)
                else:
                    await session.close()
        turns = zip(*held.values(), strict=True)
        yield collections.deque(session for turn in turns for session in turn)


async def _connect(
    exits: contextlib.AsyncExitStack, url: str
) -> tuple[aiohttp.ClientSession, int]:
    """A session of one connection, and the process at its other end."""
    session = aiohttp.ClientSession(
        timeout=aiohttp.ClientTimeout(total=60),
        connector=aiohttp.TCPConnector(limit=1),
    )
    await exits.enter_async_context(session)
    async with session.get(f"{url}/process") as response:
        return session, await response.json()


def _result(mode: str, clients: int, loads: Loads) -> Result:
    pairs = zip(loads[OURS], loads[mode], strict=True)
    ratio, spread = middle(
        [ours.per_second / other.per_second for ours, other in pairs]
    )
    suffix = "" if mode == "guide" else f"_{mode}"
    return Result(
        name=f"fastapi{suffix}_{clients}",
        value=ratio,
        unit="x",
        bar=Bar(1.0, at_least=True) if mode == "guide" else None,
        spread=spread,
        how=f"our throughput over that of {MODES[mode]}, closed loop, clients: "
        f"{clients}; median of {ROUNDS} rounds of {WINDOW.seconds:g} s in turns.",
    )


def _details(loads: dict[int, Loads]) -> list[tuple[str, ...]]:
    table: list[tuple[str, ...]] = [
        ("clients", "served by", "answers/s", "p50 ms", "p99 ms")
    ]
    for clients, sides in loads.items():
        for name, rounds in sides.items():
            figures = (
                middle([load.per_second for load in rounds])[0],
                middle([load.ms(0.5) for load in rounds])[0],
                middle([load.ms(0.99) for load in rounds])[0],
            )
            said = (f"{figure:.1f}" for figure in figures)
            table.append((str(clients), MODES.get(name, name), *said))
    return table
