"""What all operations of this program have in common."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import msgspec

from dspex.bus.running import Outcome

if TYPE_CHECKING:
    from dspex.bus.events import Events

Operation = Callable[[Any, "Events"], Awaitable[Outcome]]
"""Does one operation: its body, and where its life is told."""


def tenant_of(events: Events) -> str:
    """Whose request it is."""
    return events.audience.subjects.tenant


def outcome(outputs: msgspec.Struct) -> Outcome:
    """Outputs as they go into the reply."""
    return Outcome(outputs=msgspec.to_builtins(outputs))
