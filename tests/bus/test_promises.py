"""GPU memory is promised once by all processes of a host together."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

import pytest

from dspex.bus.gpu import Memory
from dspex.bus.promises import Promises
from dspex.bus.running import Short
from dspex.contracts.failures import NoWorker
from dspex.contracts.heartbeats import Gpu

if TYPE_CHECKING:
    from pathlib import Path

MIB = 1 << 20

_OTHER = """
import sys
from pathlib import Path
from dspex.bus.promises import Promises
promises = Promises(Path(sys.argv[1]))
promises.tell({"G": int(sys.argv[2])})
print("told", flush=True)
sys.stdin.read()
"""


def _gpus() -> list[Gpu]:
    return [Gpu(name="A", total=100 * MIB, free=100 * MIB, uuid="G")]


async def test_others_are_waited_for_and_the_dead_are_not(tmp_path: Path) -> None:
    """What another process holds is not promised again, until it is killed."""
    folder = tmp_path / "gpus"
    command = [sys.executable, "-c", _OTHER, str(folder), str(60 * MIB)]
    pipe = asyncio.subprocess.PIPE
    other = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe)
    try:
        assert other.stdout is not None
        assert await other.stdout.readline() == b"told\n"
        promises = Promises(folder)
        memory = Memory(_gpus, promises)
        async with memory.reserve(40):
            assert promises.others() == {"G": 60 * MIB}
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.7), memory.reserve(1):
                    pass
        other.kill()
        await other.wait()
        async with asyncio.timeout(5), memory.reserve(100):
            assert memory.read()[0].reserved == 100 * MIB
        assert memory.read()[0].reserved == 0
        assert len(list(folder.glob("*.json"))) == 1
        promises.close()
    finally:
        if other.returncode is None:
            other.kill()
    assert not list(folder.glob("*.json"))


async def test_two_in_one_host_never_exceed_the_card(tmp_path: Path) -> None:
    """Many at a time, through two ledgers: what runs together always fits."""
    ledgers = [Promises(tmp_path / "gpus") for _ in range(2)]
    memories = [Memory(_gpus, one) for one in ledgers]
    held, most = 0, 0

    async def hold(memory: Memory) -> None:
        nonlocal held, most
        async with memory.reserve(30):
            held += 30
            most = max(most, held)
            await asyncio.sleep(0.01)
            held -= 30

    async with asyncio.timeout(30):
        await asyncio.gather(*(hold(memories[n % 2]) for n in range(10)))

    assert most == 90
    for one in ledgers:
        assert one.others() == {} or set(one.others().values()) == {0}
        one.close()


async def test_what_a_router_did_not_know_goes_back_to_it() -> None:
    """It waits for memory that a router looked for, and for no more than that."""
    memory = Memory(_gpus)

    async with memory.reserve(60, 0):
        with pytest.raises(Short) as short:
            async with memory.reserve(50, 40):
                pass
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1), memory.reserve(50, 50):
                pass
        async with memory.reserve(40, 0):
            assert memory.read()[0].reserved == 100 * MIB
    assert short.value.said == {"gpu_memory_mib": 50}
    assert memory.read()[0].reserved == 0


async def test_what_never_fits_does_not_wait() -> None:
    """More than a card has goes back to the router; without one it is refused."""
    with pytest.raises(Short):
        async with Memory(_gpus).reserve(101, 101):
            pass
    with pytest.raises(NoWorker, match="has 100 MiB"):
        async with Memory(_gpus).reserve(101):
            pass


async def test_a_process_without_a_gpu() -> None:
    """It has nothing to hold: what a router sent goes back, what a client sent runs."""
    memory = Memory(list)

    with pytest.raises(Short):
        async with memory.reserve(1, 0):
            pass
    async with memory.reserve(1), memory.reserve(0, 0):
        assert memory.read() == []


def test_a_folder_of_somebody_else(tmp_path: Path) -> None:
    """A link in its place is not followed."""
    (tmp_path / "real").mkdir()
    (tmp_path / "gpus").symlink_to(tmp_path / "real")

    with pytest.raises(PermissionError):
        Promises(tmp_path / "gpus")
