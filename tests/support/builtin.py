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


def start(models: Path) -> Running:
    environ = {**os.environ, "DSPEX_MODEL_KEY": KEY, "DSPEX_MODELS": str(models)}
    process = subprocess.Popen(
        [sys.executable, "-m", "dspex.services.model"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environ,
        text=True,
    )
    assert process.stdout is not None
    return Running(process, json.loads(process.stdout.readline()))


def end(running: Running) -> int:
    """Close the program's standard input and return its exit status."""
    process = running.process
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.close()
    try:
        return process.wait(timeout=10)
    finally:
        process.kill()
        process.stdout.close()
