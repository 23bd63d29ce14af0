"""``python -m tests.support.misbehaving``: a worker whose programs do mischief.

A pool's ``module`` may name it. What a question asks for is what its program does;
every other question is answered as by any worker.
"""

from __future__ import annotations

import ctypes
import os
import re
import subprocess
import sys
import time
from typing import TYPE_CHECKING, NoReturn

import dspy

from dspex.services.worker.__main__ import main

if TYPE_CHECKING:
    from collections.abc import Callable

    from dspex.bus.events import Events
    from dspex.bus.running import Outcome, Run
    from dspex.contracts.requests import Body

FLOOD = 40 << 20
"""Bytes written by a program that writes too much."""

_KEPT: list[object] = []


def _hog() -> None:
    while True:
        _KEPT.append(bytearray(32 << 20))


def _hog_and_forget() -> None:
    try:
        _hog()
    finally:
        _KEPT.clear()


def _spin() -> NoReturn:
    while True:
        pass


def _segfault() -> None:
    ctypes.string_at(0)


def _leave() -> None:
    sys.exit(3)


def _vanish() -> None:
    os._exit(7)


def _flood() -> None:
    for _ in range(FLOOD >> 16):
        sys.stdout.write("x" * ((1 << 16) - 1) + "\n")
    sys.stdout.flush()


def _multiply() -> None:
    for _ in range(40):
        _have_a_child()
    time.sleep(3)


def _keep() -> None:
    _KEPT.append(b"x" * (200 << 20))


def _escape() -> None:
    # Its parent ends at once, and it leaves the session: nobody it knows is left.
    script = 'setsid sleep 600 & echo $! > "$ESCAPED"'
    subprocess.run(["sh", "-c", script], check=True)


class Spins(dspy.Module):  # type: ignore[misc]  # DSPy ships no types
    """A program in Python that computes without end, in the thread it is given."""

    def forward(self, question: str) -> dspy.Prediction:
        """Never returns."""
        del question
        _spin()


class Locks(dspy.Module):  # type: ignore[misc]  # DSPy ships no types
    """The same in native code, which lets no other thread of the process run."""

    def forward(self, question: str) -> dspy.Prediction:
        """Never returns: each letter more takes twice as long."""
        re.match(r"(a+)+$", "a" * 200 + question)
        raise AssertionError("it came to an end")


OWN = """
[programs.spins]
path = "tests.support.misbehaving:Spins"
[programs.locks]
path = "tests.support.misbehaving:Locks"
"""
"""Sections that give these programs to a pool of such workers."""


def _have_a_child() -> None:
    _KEPT.append(subprocess.Popen(["sleep", "600"]))


DEEDS: dict[str, Callable[[], None]] = {
    "hog": _hog_and_forget,
    "spin": _spin,
    "segfault": _segfault,
    "leave": _leave,
    "vanish": _vanish,
    "flood": _flood,
    "multiply": _multiply,
    "have a child": _have_a_child,
    "keep": _keep,
    "escape": _escape,
}
"""Question -> what its program does first."""


def wrap(run: Run) -> Run:
    """Do the deed of a question, then answer it."""

    async def misbehave(operation: str, body: Body, events: Events) -> Outcome:
        inputs = getattr(body, "inputs", {})
        if deed := DEEDS.get(str(inputs.get("question"))):
            deed()
        return await run(operation, body, events)

    return misbehave


if __name__ == "__main__":
    sys.exit(main(wrap))
