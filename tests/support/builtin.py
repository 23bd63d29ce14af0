"""The built-in model as a process of its own, with the weights of this checkout."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

from dspex.services.model.weights import ensure_weights

KEY = "a-test-key"
ENDS_WITHIN = 60.0
MODELS = Path(os.environ.get("DSPEX_MODELS") or ".dspex/models").absolute()


def weights_folder() -> Path:
    """The folder of the weights, fetched if this checkout does not have them.

    Raises:
        WeightsError: They cannot be fetched.
    """
    return ensure_weights(MODELS, print).parent


@dataclasses.dataclass
class Running:
    """The program, and the line that it printed when it was ready."""

    process: subprocess.Popen[str]
    ready: dict[str, str]


def begin(models: Path) -> subprocess.Popen[str]:
    """Start the program; it is not ready yet."""
    environ = {**os.environ, "DSPEX_MODEL_KEY": KEY, "DSPEX_MODELS": str(models)}
    return subprocess.Popen(
        [sys.executable, "-m", "dspex.services.model"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environ,
        text=True,
    )


def start(models: Path) -> Running:
    """Start the program and wait until it is ready."""
    process = begin(models)
    assert process.stdout is not None
    return Running(process, json.loads(process.stdout.readline()))


def end(process: subprocess.Popen[str]) -> int:
    """Close the program's standard input and return its exit status."""
    with process:  # closes its pipes, and waits for its end
        assert process.stdin is not None
        process.stdin.close()
        try:
            return process.wait(timeout=ENDS_WITHIN)
        finally:
            process.kill()
