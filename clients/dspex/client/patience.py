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


class Patience:
    """Whether silence means that a request was lost.

    Args:
        pause: Seconds without an answer after which it is sent again.
    """

    def __init__(self, pause: float) -> None:
        self.pause = pause
        self._taken = False
        self._away_until = -math.inf

    def sends_again(self, silence: Exception, left: float) -> bool:
        """Whether to send it again, after so much silence, or to go on listening.

        Raises:
            Exception: The silence itself, where neither is of use.
        """
        if left <= 0:
            raise silence
        match silence:
            case TimeoutError():
                if left <= self.pause:
                    raise silence
                self._taken, self.pause = True, self.pause * 2
            case BusUnavailable():
                if self.pause == math.inf:
                    raise silence
                self._away_until = time.monotonic() + BACK
            case _ if self._taken:
                return False  # its router is gone now, but a worker may have it
            case _:
                # After an outage the routers come back as we do, or a moment later.
                if time.monotonic() > self._away_until:
                    raise silence
        return True
