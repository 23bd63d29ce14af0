"""What stands in for what, and what tenants may use: sections of the configuration."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct, field


class Fallback(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Section ``[fallbacks.<operation>]``, or ``"*"`` for all without their own.

    Attributes:
        pools: The pools that may answer, the preferred first; the next ones when
            those before them cannot. Empty: all pools alike.
        lms: For a language model, those to try in its place when it fails.
    """

    pools: list[str] = field(default_factory=list)
    lms: dict[str, list[str]] = field(default_factory=dict)


class Tenant(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Section ``[tenants.<name>]``, or ``"*"`` for all without their own.

    All routers together allow this much: each one its share.

    Attributes:
        rate_per_s: Requests per second; absent: any number.
        burst: Requests at once that a tenant may send after a pause.
        concurrency: Requests in hand at a time; absent: any number.
        weight: Its share where tenants wait for the same slots.
    """

    rate_per_s: Annotated[float, Meta(ge=1e-6, le=1e6)] | None = None
    burst: Annotated[int, Meta(ge=1)] = 10
    concurrency: Annotated[int, Meta(ge=1)] | None = None
    weight: Annotated[float, Meta(gt=0, le=1000)] = 1.0
