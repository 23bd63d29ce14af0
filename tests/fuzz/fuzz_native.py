"""Feed native operations whatever coverage finds interesting; needs ``atheris``.

    python -m tests.fuzz.fuzz_native schema.validate 60

runs one operation for a minute, or all of them for a minute each if none is named.
Anything but outputs and failures, and a body that takes longer than some seconds, is a
finding: it is written to the current folder. Not part of ``make test``.
"""

from __future__ import annotations

import importlib
import subprocess
import sys
from typing import Any

import msgspec

atheris: Any = importlib.import_module("atheris")

with atheris.instrument_imports(include=["dspex.native", "liquid"]):
    from tests.fuzz.native_targets import TARGETS, Choices, ask

SLOWEST = 5
"""Seconds after which a body is a finding; instrumented code is slow."""


def fuzz(operation: str, seconds: int) -> None:
    """Run one operation; does not return."""
    target = TARGETS[operation]

    def one(data: bytes) -> None:
        provider = atheris.FuzzedDataProvider(data)
        if provider.ConsumeBool():
            ask(target, provider.ConsumeBytes(len(data)))
            return
        choices = Choices(
            lambda below: provider.ConsumeIntInRange(0, below - 1),
            lambda: provider.ConsumeUnicodeNoSurrogates(12),
        )
        ask(target, msgspec.json.encode(choices.value(target.body)))

    limits = [f"-max_total_time={seconds}", f"-timeout={SLOWEST}", "-max_len=2000"]
    atheris.Setup([sys.argv[0], *limits, "-rss_limit_mb=3000"], one)
    atheris.Fuzz()


def main() -> int:
    """Run what the command line names."""
    if len(sys.argv) == 3:
        fuzz(sys.argv[1], int(sys.argv[2]))
    seconds = sys.argv[1] if len(sys.argv) == 2 else "60"
    ran = [
        subprocess.run(
            [sys.executable, "-m", "tests.fuzz.fuzz_native", name, seconds], check=False
        )
        for name in TARGETS
    ]
    return max(one.returncode for one in ran)


if __name__ == "__main__":
    sys.exit(main())
