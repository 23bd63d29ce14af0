"""Where in the events of a request its reader is: a pure state machine.

Events come in the order in which they were stored. Inside an attempt they count from 1;
attempts overlap, for the router (attempt 0) tells beside the processes it chose. What
was stored up to the last event that a reader had counts as read.
"""

from __future__ import annotations

from dspex.contracts.envelope import FINAL_KINDS, Event, Requested
from dspex.contracts.failures import NotFound


class Position:
    """Says of each event whether its reader is to have it.

    Args:
        attempt: Attempt of the last event that the reader had; ``None``: it had none.
        after: Number of that event; 0: the one before the attempt's first.
    """

    def __init__(self, attempt: int | None, after: int) -> None:
        self.attempt = attempt or 0
        self.seq = after
        self.ended = False
        self.deadline: float | None = None
        self._from = None if attempt is None else (attempt, after)
        self._last: dict[int, int] = {}
        self._end: Event | None = None

    @property
    def found(self) -> bool:
        """Whether the event behind which to go on has come by."""
        return self._from is None

    def take(self, event: Event) -> list[Event]:
        """Take in the next event as it was stored.

        Returns:
            What the reader is to have now.

        Raises:
            NotFound: One before it is missing, so there is no going on without a gap.
        """
        if isinstance(event, Requested):
            self.deadline = event.deadline
        last = self._last.get(event.attempt, 0)
        if event.seq <= last:
            return []
        ends = event.__struct_config__.tag in FINAL_KINDS
        if self._is_read(event):
            self._last[event.attempt] = event.seq
            # The end may be stored before what another process told before it; who
            # had it would not ask.
            self._end = event if ends and not self.found else self._end
            self.ended = self.found and (ends or self._end is not None)
            return [self._end] if self.found and self._end is not None else []
        if event.seq > last + 1:
            raise NotFound(
                f"Event {last + 1} of attempt {event.attempt} of request "
                f"{event.request!r} is not in the journal: its stream cannot go on "
                "without a gap.",
                hint="Ask again from the beginning, or send the request again with "
                "the same id.",
            )
        self._last[event.attempt] = event.seq
        self.attempt, self.seq = event.attempt, event.seq
        self.ended = ends
        return [event]

    def _is_read(self, event: Event) -> bool:
        if self._from is None:
            return False
        attempt, after = self._from
        if event.attempt != attempt or event.seq < after:
            return True
        self._from = None
        return event.seq == after
