"""The section of the configuration that is about replays."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct


class Replaying(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Section ``[replay]``: replays that are asked for on the bus.

    Attributes:
        on: Whether ``dspex up`` starts the program that answers ``replay.run``.
        requests: Most requests of one replay.
    """

    on: bool = True
    requests: Annotated[int, Meta(ge=1)] = 1000
