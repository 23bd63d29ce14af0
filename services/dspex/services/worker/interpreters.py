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

IMPORTS = Path(__file__).parent / "deno" / "imports.json"
"""Modules that Deno finds here instead of on the internet."""

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
    found = deno()
    if not hasattr(dspy, "PythonInterpreter") or found is None:
        return None
    if "--allow-read" in dspy.PythonInterpreter().deno_command:
        return functools.partial(_interpreter(), _confined(found))
    make: Interpreters = _interpreter()
    return make


def deno() -> str | None:
    """The Deno that DSPy would start; ``None``: there is none."""
    try:
        found: str = importlib.import_module("deno").find_deno_bin()
    except (ImportError, OSError):
        return shutil.which("deno")
    return found


def _interpreter() -> Any:
    """DSPy's class, which also says to models what its code may do."""
    base: Any = dspy.PythonInterpreter

    class Interpreter(base):  # type: ignore[misc]  # DSPy ships no types
        def __init__(self, command: list[str] | None = None) -> None:
            super().__init__(command)
            # Behind `deno run`: whatever else DSPy tells it, and may come to, stays.
            self.deno_command[2:2] = [f"--import-map={IMPORTS}"]

    return Interpreter


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
