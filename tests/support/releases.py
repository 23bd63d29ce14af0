"""The releases of DSPy that workers are tested with, and their interpreters."""

from __future__ import annotations

import sys
from importlib.metadata import version
from pathlib import Path

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
