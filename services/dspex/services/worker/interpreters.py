"""What runs the code that models write: Deno, which gives it nothing of the host."""

from __future__ import annotations

import functools
import importlib
import json
import os
import shutil
import subprocess
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dspy

if TYPE_CHECKING:
    from collections.abc import Callable

    Interpreters = Callable[[], Any]

_ANSWERS_WITHIN = 30.0
"""Seconds in which Deno says where its cache is."""


class PerThread:
    """An interpreter for each thread that calls a module.

    Releases of DSPy before 3.4 give a module one for all its calls, and end it with
    the first of them. Each call runs in one thread.

    Args:
        make: Makes one.
    """

    def __init__(self, make: Interpreters) -> None:
        self._make = make
        self._own = threading.local()

    def __deepcopy__(self, memo: object) -> PerThread:
        return self

    def execute(self, code: str, variables: dict[str, Any] | None = None) -> Any:
        """Run code; what it printed or gave."""
        if not hasattr(self._own, "one"):
            self._own.one = self._make()
        return self._own.one.execute(code, variables)

    __call__ = execute

    def shutdown(self) -> None:
        """End the one of this thread, if there is one."""
        one = self._own.__dict__.pop("one", None)
        if one is not None:
            one.shutdown()


def sandbox() -> Interpreters | None:
    """What makes interpreters for code that models write, if Deno is installed."""
    if not hasattr(dspy, "PythonInterpreter"):
        return None
    try:
        found = importlib.import_module("deno").find_deno_bin()
    except (ImportError, OSError):
        found = shutil.which("deno")
    if not found:
        return None
    if "--allow-read" in dspy.PythonInterpreter().deno_command:
        return functools.partial(dspy.PythonInterpreter, _confined(found))
    make: Interpreters = dspy.PythonInterpreter
    return make


def _confined(deno: str) -> list[str]:
    """How to start Deno so that code reads nothing but what it is run by.

    Releases before 3.1 let it read every file that the worker may read.
    """
    runner = Path(dspy.__file__).resolve().with_name("primitives") / "runner.js"
    readable = [str(runner), *_cache_of(deno)]
    allowed = f"--allow-read={','.join(readable)}"
    return [deno, "run", "--no-config", "--no-lock", allowed, str(runner)]


def _cache_of(deno: str) -> list[str]:
    """Where Deno keeps Pyodide, which the code is run by."""
    if known := os.environ.get("DENO_DIR"):
        return [os.path.realpath(known)]
    try:
        said = subprocess.run(
            [deno, "info", "--json"],
            capture_output=True,
            check=True,
            timeout=_ANSWERS_WITHIN,
        )
        return [os.path.realpath(json.loads(said.stdout)["denoDir"])]
    except (OSError, subprocess.SubprocessError, ValueError, KeyError):
        return []  # then Pyodide is not found, and the code's failure says so
