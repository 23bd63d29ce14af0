"""Sections of the configuration about routers, and what they let pass."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct, field


class Router(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Section ``[router]``: how requests are admitted, retried and kept.

    Attributes:
        queue: Most requests that wait for one pool in one router.
        queue_timeout_s: Longest wait for a slot, seconds.
        retries: How often a request is tried again after its language model failed.
        slow_call_s: Calls of a language model that take longer are slow, and when all
            are, it is left alone for a while; absent: none is.
        cache: What holds for requests without ``Dspex-Cache``: ``off`` or ``use``.
        cache_mib: Most memory of kept answers, MiB; 0 keeps none.
        cache_ttl_s: How long an answer is kept, seconds.
        shared_cache: Whether routers share kept answers, in a NATS key-value bucket.
        decisions: How many of the last decisions are kept to look at.
    """

    queue: Annotated[int, Meta(ge=0, le=100_000)] = 1000
    queue_timeout_s: Annotated[float, Meta(gt=0)] = 30.0
    retries: Annotated[int, Meta(ge=0, le=100)] = 3
    slow_call_s: Annotated[float, Meta(gt=0)] | None = None
    cache: Literal["off", "use"] = "off"
    cache_mib: Annotated[float, Meta(ge=0)] = 64.0
    cache_ttl_s: Annotated[float, Meta(gt=0)] = 3600.0
    shared_cache: bool = False
    decisions: Annotated[int, Meta(ge=0, le=100_000)] = 1000


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
