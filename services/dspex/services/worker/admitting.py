"""Whether a turn that comes is taken, waits, goes elsewhere or is refused: pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from dspex.contracts.failures import Overloaded

if TYPE_CHECKING:
    from dspex.contracts.sessions import SessionSettings

WAITING = 16
"""Turns of one session that wait for the one that runs, at most."""


def admit(
    settings: SessionSettings, in_hand: int, has_room: bool
) -> Literal["take", "elsewhere"]:
    """Decide about a turn of a session that is held here.

    Args:
        settings: What the session was opened with.
        in_hand: Turns of it that run or wait.
        has_room: Whether a request more would run at once in this process.

    Returns:
        ``take``: it runs when it is its turn; ``elsewhere``: another process may have
        the session.

    Raises:
        Overloaded: It is refused.
    """
    if in_hand and settings.on_busy == "interrupt":
        return "take"
    fails_fast = settings.affinity == "strict_fail_fast"
    if in_hand and (settings.on_busy == "reject" or fails_fast):
        raise _busy("Another turn of the session is running.")
    if in_hand > WAITING:
        raise _busy(f"{WAITING} turns of the session are waiting already.")
    if in_hand or has_room:
        return "take"
    if fails_fast:
        raise _busy("The worker that holds the session has no free slot.")
    return "elsewhere" if settings.affinity == "hint" else "take"


def _busy(why: str) -> Overloaded:
    return Overloaded(
        why,
        hint="Send it again after the pause, or open the session with "
        "on_busy 'enqueue' and affinity 'strict_queue'.",
        retry_after_ms=500,
    )
