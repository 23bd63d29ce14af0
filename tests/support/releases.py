"""The releases of DSPy that workers are tested with: interpreters, and a stack."""

from __future__ import annotations

import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

ENVS = Path(__file__).parents[2] / ".envs"

INSTALLED = version("dspy")
"""The release that the tests' own environment has: the newest."""

RELEASES = ("2.6.27", "3.0.4", INSTALLED)


def python_of(release: str) -> str:
    """The interpreter that has a release.

    Raises:
        FileNotFoundError: There is no such environment; the message says how to make
            it.
    """
    if release == INSTALLED:
        return sys.executable
    python = ENVS / f"dspy-{release}" / "bin" / "python"
    if not python.exists():
        raise FileNotFoundError(f"{python} is not there: run `make envs`.")
    return str(python)


CONCURRENCY = 128
"""Requests that each of its workers runs at a time."""

MANY = 50
"""Language models of the stack, each with a name, temperature and key of its own."""


def key_of(number: int) -> str:
    return f"key-of-model-{number}"


def environ(model_url: str) -> dict[str, str]:
    """Configuration of a stack with a worker of every release."""
    found = {
        "DSPEX_POOLS_LIGHT_CONCURRENCY": str(CONCURRENCY),
        # What learns must draw alike in every process.
        "PYTHONHASHSEED": "0",
    }
    for number in range(MANY):
        section = f"DSPEX_LMS_M{number}"
        found |= {
            f"{section}_MODEL": f"openai/model-{number}",
            f"{section}_API_BASE": model_url,
            f"{section}_API_KEY": key_of(number),
            f"{section}_TEMPERATURE": f"{number / 100}",
        }
    return found


def on(release: str, body: dict[str, Any]) -> dict[str, Any]:
    """A request for the workers of one release."""
    return body | {"options": {"dspy": f"=={release}"}}
