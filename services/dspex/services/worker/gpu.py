"""Free GPU memory by NVML; a machine without a GPU is a value, not an error."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dspex.contracts.heartbeats import Gpu

if TYPE_CHECKING:
    from collections.abc import Callable


def open_nvml() -> Callable[[], list[Gpu]]:
    """Start NVML and return what reads the GPUs; without NVML, that finds none."""
    try:
        import pynvml  # from nvidia-ml-py, in the extra `gpu`
    except ImportError:
        return _none
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return _none
    return lambda: read(pynvml)


def read(nvml: Any) -> list[Gpu]:
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
        except nvml.NVMLError:
            continue
        found.append(Gpu(name=str(name), total=memory.total, free=memory.free))
    return found


def _none() -> list[Gpu]:
    return []
