"""What runs the code that models write."""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING, Any

import dspy as untyped
import pytest
from tests.support import deno

from dspex.services.worker.interpreters import PerThread, sandbox

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.dspy

# DSPy's annotations do not say all that it takes.
dspy: Any = untyped


class Counted:
    """An interpreter that tells who it is."""

    def __init__(self) -> None:
        self.ended = False

    def execute(self, code: str, variables: Any = None) -> Any:
        return self

    def shutdown(self) -> None:
        self.ended = True


def test_each_thread_has_one_of_its_own() -> None:
    """Calls in one thread share an interpreter until it is ended."""
    shared = PerThread(Counted)
    other: list[Any] = []
    thread = threading.Thread(target=lambda: other.append(shared.execute("")))
    thread.start()
    thread.join()

    first, again = shared.execute(""), shared("")
    shared.shutdown()
    shared.shutdown()

    assert first is again
    assert first is not other[0]
    assert (first.ended, other[0].ended) == (True, False)
    assert shared.execute("") is not first


def test_there_is_none_without_deno(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where Deno is not installed, no code is run."""
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setitem(sys.modules, "deno", None)  # the package that brings it

    assert sandbox() is None


def test_it_reads_no_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """However a release starts Deno by itself, code gets no files to read."""
    monkeypatch.setenv("PATH", str(deno.folder(tmp_path)))

    made: Any = sandbox()

    assert "--allow-read" not in made().deno_command
