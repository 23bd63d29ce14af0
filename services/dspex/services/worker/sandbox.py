"""Where code runs that models write: DSPy's own sandbox, Pyodide in a Deno process."""

from __future__ import annotations

import importlib
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dspy

if TYPE_CHECKING:
    from collections.abc import Callable

IMPORTS = Path(__file__).parent / "deno" / "imports.json"
"""Modules that Deno finds here instead of on the internet."""


def deno() -> str | None:
    """The Deno that DSPy would start; ``None``: there is none."""
    try:
        found: str = importlib.import_module("deno").find_deno_bin()
    except (ImportError, OSError):
        return shutil.which("deno")
    return found


def sandbox() -> Callable[[], Any] | None:
    """What makes interpreters for code that models write, if Deno is installed."""
    if not hasattr(dspy, "PythonInterpreter") or deno() is None:
        return None
    return _interpreter


def _interpreter() -> Any:
    make: Any = dspy.PythonInterpreter
    made = make()
    # Behind `deno run`: whatever else DSPy tells it, and may come to tell it, stays.
    made.deno_command.insert(2, f"--import-map={IMPORTS}")
    return made
