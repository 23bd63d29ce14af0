"""The options by which a command is told which requests of the journal it is about."""

from __future__ import annotations

import argparse
import re
import time
from datetime import datetime

from dspex.bus.selecting import Wanted

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_AGO = re.compile(r"([0-9]+(?:\.[0-9]+)?)([smhd])")


def add(found: argparse.ArgumentParser) -> None:
    """The options that select requests."""
    found.add_argument("--since", type=moment, metavar="T", help="10m, 2h, or a time")
    found.add_argument("--until", type=moment, metavar="T", help="the same")
    for name, said in (
        ("operation", "such as predict"),
        ("session", "a session's id"),
        ("tenant", "a tenant's name"),
        ("worker", "a worker or a pool"),
        ("text", "a text that its prompt, answer or failure holds"),
    ):
        found.add_argument(f"--{name}", default="", metavar=name.upper(), help=said)
    found.add_argument("--failed", action="store_true", help="only those that failed")
    found.add_argument(
        "--slow", type=float, default=0.0, metavar="S", help="took S seconds or longer"
    )


def wanted(given: argparse.Namespace) -> Wanted:
    """What the options select."""
    names = ("since", "until", "operation", "session", "tenant", "worker")
    said = {name: getattr(given, name) for name in names}
    return Wanted(
        **said,
        failed=given.failed,
        slow=given.slow * 1000,
        text=given.text,
        request=getattr(given, "request", "") or "",
    )


def moment(text: str) -> float:
    """A time in unix milliseconds: so long ago, or a date and time as ISO 8601."""
    if ago := _AGO.fullmatch(text):
        return (time.time() - float(ago[1]) * _UNITS[ago[2]]) * 1000
    try:
        return datetime.fromisoformat(text).timestamp() * 1000
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no time: it takes 30s, 10m, 2h, 7d, or 2026-01-31T12:00"
        ) from None
