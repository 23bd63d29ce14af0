"""When a request that stays without an answer is sent again."""

from __future__ import annotations

import math
import time

from dspex.contracts.failures import BusUnavailable

RESEND = 5.0
"""Seconds without an answer after which a request is sent again, and again after
twice as long: the same id means that it runs once, and a router that died with it
is the only one that did not hear of it."""

BACK = 5.0
"""Seconds after an outage in which routers may still be on their way back."""


AWAY = 10.0
"""Seconds without a server after which a request that waits for one is given up."""

LOOK = 0.5
"""Seconds between two looks whether the server is back."""


class Patience:
    """Whether silence means that a request was lost.

    Args:
        pause: Seconds without an answer after which it is sent again.
    """

    def __init__(self, pause: float) -> None:
        self._pause = pause
        self._taken = False
        self._looks = False
        self._lost_at = -math.inf
        self._back_until = -math.inf

    def wait(self, left: float, *, connected: bool) -> float:
        """Seconds to wait for an answer, of so many that are left."""
        self._looks = not connected
        return max(0.0, min(left, self._pause if connected else LOOK))

    def sends_again(self, silence: Exception, left: float) -> bool:
        """Whether to send it again, after so much silence, or to go on listening.

        Raises:
            Exception: The silence itself, where neither is of use.
        """
        if left <= 0:
            raise silence
        if isinstance(silence, TimeoutError):
            return self._after_a_look() if self._looks else self._anew(silence, left)
        now = time.monotonic()
        if isinstance(silence, BusUnavailable):
            if self._pause == math.inf:
                raise silence
            self._lost_at, self._back_until = now, now + BACK
            return True  # when the server is back
        if self._taken:
            return False  # its router is gone now, but a worker may have it
        # After an outage the routers come back as we do, or a moment later.
        if now > self._back_until:
            raise silence
        return True

    def _anew(self, silence: TimeoutError, left: float) -> bool:
        if left <= self._pause:
            raise silence
        self._taken, self._pause = True, self._pause * 2
        return True

    def _after_a_look(self) -> bool:
        now = time.monotonic()
        if now - self._lost_at > AWAY:
            raise _nowhere()
        self._back_until = now + BACK
        return False


def _nowhere() -> BusUnavailable:
    return BusUnavailable(
        f"The NATS server has been away for {AWAY:g} s.",
        hint="Send it again, under the same id, when the server is back.",
    )
