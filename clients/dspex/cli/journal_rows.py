"""One line per request."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dspex.contracts.lives import Life

HEAD = (
    "at",
    "request",
    "operation",
    "tenant",
    "worker",
    "took",
    "calls",
    "tokens",
    "end",
)


def row(life: Life) -> tuple[str, ...]:
    """The cells of a request."""
    return (
        clock(life.at),
        life.request,
        life.operation or "?",
        life.tenant,
        life.worker or "-",
        f"{life.ms:.0f} ms",
        str(life.lm_calls + life.tool_calls),
        str(life.tokens),
        ended(life),
    )


def ended(life: Life) -> str:
    """How it ended, and what is not there."""
    said = life.end or "no end yet"
    if life.attempts > 1:
        said += f", {life.attempts} attempts"
    if life.missing:
        said += f", {life.missing} missing"
    return said + (f", {life.cut} cut" if life.cut else "")


def clock(at: float) -> str:
    """A time of day, or a date and time when it is not today's."""
    found = datetime.datetime.fromtimestamp(at / 1000).astimezone()
    today = found.date() == datetime.datetime.now().astimezone().date()
    return found.strftime("%H:%M:%S.%f" if today else "%Y-%m-%d %H:%M:%S.%f")[:-3]
