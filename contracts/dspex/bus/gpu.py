"""GPU memory by NVML: what there is, what is free, what is promised.

A machine without a GPU is a value, not an error.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from dspex.bus.running import Short
from dspex.contracts.failures import NoWorker
from dspex.contracts.heartbeats import Gpu

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractContextManager

    from dspex.bus.promises import Promises

VISIBLE = "CUDA_VISIBLE_DEVICES"
"""Variable that names the GPUs a process may use, by UUID or index."""

SOON = 0.01
"""Seconds until a request looks again that found another process promising."""

LOOK_AGAIN = 0.5
"""Seconds until a request that waits for memory looks whether others freed some."""


def open_nvml(visible: str | None = None) -> Callable[[], list[Gpu]]:
    """Start NVML and return what reads the GPUs; without NVML, that finds none.

    Args:
        visible: Those to read, as in ``CUDA_VISIBLE_DEVICES``; ``None``: all.
    """
    try:
        import pynvml  # from nvidia-ml-py, in the extra `gpu`
    except ImportError:
        return _none
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return _none
    wanted = None if visible is None else visible.replace(" ", "").split(",")
    return lambda: read(pynvml, wanted)


def read(nvml: Any, wanted: list[str] | None = None) -> list[Gpu]:
    """The GPUs as they are now; those that cannot be read are left out."""
    try:
        count = nvml.nvmlDeviceGetCount()
    except nvml.NVMLError:
        return []
    found = []
    for index in range(count):
        try:
            handle = nvml.nvmlDeviceGetHandleByIndex(index)
            memory = nvml.nvmlDeviceGetMemoryInfo(handle)
            name = nvml.nvmlDeviceGetName(handle)
            uuid = str(nvml.nvmlDeviceGetUUID(handle))
        except nvml.NVMLError:
            continue
        if wanted is None or str(index) in wanted or uuid in wanted:
            gpu = Gpu(name=str(name), total=memory.total, free=memory.free, uuid=uuid)
            found.append(gpu)
    return found


class Memory:
    """GPU memory that running requests declared: never more than there is.

    Args:
        gpus: Reads the GPUs.
        promises: What all processes of the host have promised; ``None``: this one is
            alone with its GPUs.
    """

    def __init__(
        self, gpus: Callable[[], list[Gpu]], promises: Promises | None = None
    ) -> None:
        self._gpus = gpus
        self._promises = promises
        self._reserved: dict[str, int] = {}
        self._freed = asyncio.Condition()

    def read(self) -> list[Gpu]:
        """The GPUs, with what is reserved on them; safe from another thread."""
        reserved = self._reserved.copy()
        return [
            replace(gpu, reserved=reserved.get(gpu.uuid, 0)) for gpu in self._gpus()
        ]

    @asynccontextmanager
    async def reserve(
        self, mib: int, looked_for: int | None = None
    ) -> AsyncIterator[None]:
        """Hold ``mib`` MiB of one GPU; wait until one has them free.

        A process without a GPU has nothing to hold: what was sent to it runs.

        Args:
            mib: How much.
            looked_for: How much of it the router looked for that sent the request, and
                can send it elsewhere; ``None``: no router did.

        Raises:
            Short: The request is to go elsewhere: no GPU here is large enough, or none
                has so much free now and the router did not know.
            NoWorker: No GPU here is large enough, and no router can look further.
        """
        gpus = self._gpus() if mib else []
        if not mib or (looked_for is None and not gpus):
            yield
            return
        most = max((gpu.total for gpu in gpus), default=0) >> 20
        if mib > most:
            raise _too_large(mib, most) if looked_for is None else Short(mib)
        uuid = await self._wait_for(mib, waits=looked_for is None or mib <= looked_for)
        try:
            yield
        finally:
            self._reserved[uuid] -= mib << 20
            self._tell()
            async with self._freed:
                self._freed.notify_all()

    async def _wait_for(self, mib: int, *, waits: bool) -> str:
        size = mib << 20
        while True:
            with self._alone() as alone:
                if alone and (uuid := self._find(size)):
                    self._reserved[uuid] = self._reserved.get(uuid, 0) + size
                    self._tell()
                    return uuid
            if alone and not waits:
                raise Short(mib)
            try:
                async with asyncio.timeout(LOOK_AGAIN if alone else SOON), self._freed:
                    await self._freed.wait()
            except TimeoutError:
                continue  # another process may have freed some, unheard

    def _find(self, size: int) -> str:
        """The GPU with the most room, if that is enough; else nothing."""
        others = self._promises.others() if self._promises else {}
        rooms = {gpu.uuid: _room(gpu) - others.get(gpu.uuid, 0) for gpu in self.read()}
        roomy = max(rooms, key=lambda uuid: rooms[uuid], default="")
        return roomy if rooms.get(roomy, 0) >= size else ""

    def _alone(self) -> AbstractContextManager[bool]:
        return self._promises.locked() if self._promises else nullcontext(True)

    def _tell(self) -> None:
        if self._promises is not None:
            self._promises.tell(self._reserved)


def _too_large(mib: int, most: int) -> NoWorker:
    return NoWorker(
        f"The request needs {mib} MiB of GPU memory. "
        f"The largest GPU of this worker has {most} MiB.",
        hint="Send it to a router, or to a pool with a larger GPU.",
    )


def _room(gpu: Gpu) -> int:
    return gpu.free - gpu.reserved


def _none() -> list[Gpu]:
    return []
