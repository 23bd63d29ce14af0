"""How long a router waits for what, and how often it tries."""

from __future__ import annotations

from msgspec import Struct


class Settings(Struct, frozen=True, kw_only=True):
    """Waiting times, in seconds, and limits; tests change them.

    Attributes:
        default_timeout: Deadline of requests that bring none.
        learning: A new router waits this long for workers to answer its ``discover``.
        picks: Times one request is sent somewhere before it is given up.
        handshake: Without a word for this long a process is suspect.
        check: Between two looks whether the process of a request still lives.
        grace: Before the deadline, when the router answers itself: after the process,
            which knows more, and before the client stops waiting. Never more than
            half of what a process keeps (5 % of the time there was).
        silence: Without a heartbeat for this long a process counts as lost.
        expire: Between two looks for silent processes.
    """

    default_timeout: float = 120.0
    learning: float = 0.3
    picks: int = 64
    handshake: float = 0.25
    check: float = 0.5
    grace: float = 0.02
    silence: float = 3.0
    expire: float = 0.25


DEFAULTS = Settings()
"""What the router program uses."""
