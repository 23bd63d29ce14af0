"""What the journal takes in: the section ``[journal]``, and how it is changed.

Whether a request is journaled is one pure question, answered alike by every program
that tells of it: sampling goes by the request's id.
"""

from __future__ import annotations

import zlib
from typing import Annotated

from msgspec import Meta, Struct, field

DAY = 86_400.0

Share = Annotated[float, Meta(ge=0, le=1)]


class Redact(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Section ``[journal.redact]``: what is told to nobody but the client itself.

    Attributes:
        headers: Names of headers whose values are left out.
        fields: Paths of fields, such as ``inputs.*.ssn`` or ``messages[*].content``:
            ``*`` is any key or index, ``**`` any depth. A value that is found there is
            left out everywhere else in the same request too.
        patterns: Regular expressions; what matches is left out of every text.
    """

    headers: list[str] = field(default_factory=list)
    fields: list[str] = field(default_factory=list)
    patterns: list[str] = field(default_factory=list)


class Journal(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Section ``[journal]``: the copies of what happened.

    Attributes:
        on: Whether copies are kept.
        sample: Share of the requests that are, 0 to 1, by their ids.
        operations: For an operation, whether its requests are; those not named are.
        tenants: For a tenant, whether its requests are; those not named are.
        max_age: Seconds a copy is kept.
        max_mib: Largest size of all, MiB; the oldest leave first. Large prompts have
            a quarter of it for themselves.
        max_per_subject: Most copies of one kind about one request, such as deltas;
            the oldest leave first.
        redact: What is told to nobody but the client itself.
    """

    on: bool = True
    sample: Share = 1.0
    operations: dict[str, bool] = field(default_factory=dict)
    tenants: dict[str, bool] = field(default_factory=dict)
    max_age: Annotated[float, Meta(ge=1)] = 7 * DAY
    max_mib: Annotated[float, Meta(gt=0)] = 1024.0
    max_per_subject: Annotated[int, Meta(ge=1)] = 100_000
    redact: Redact = field(default_factory=Redact)

    def keeps(self, tenant: str, operation: str, request: str) -> bool:
        """Whether copies of a request are kept."""
        if not self.on or not self.tenants.get(tenant, True):
            return False
        if not self.operations.get(operation, True):
            return False
        if self.sample >= 1.0:
            return True
        return zlib.crc32(request.encode()) < self.sample * 2**32


class JournalChange(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Change what every process journals from now on, and until it ends.

    Attributes:
        on: Whether copies are kept; absent: as it is.
        sample: Share of the requests that are; absent: as it is.
        operations: For operations, whether their requests are; others: as they are.
        tenants: For tenants, the same.
    """

    on: bool | None = None
    sample: Share | None = None
    operations: dict[str, bool] = field(default_factory=dict)
    tenants: dict[str, bool] = field(default_factory=dict)


class JournalState(Struct, frozen=True, kw_only=True, tag="journal"):
    """What one process journals, and what became of its records.

    Attributes:
        name: Its kind, such as ``dspex-router``.
        pid: Its process id.
        on: Whether copies are kept.
        sample: Share of the requests that are.
        operations: Those switched on or off.
        tenants: Those switched on or off.
        redacts: Whether something is left out.
        counters: ``records`` told, ``bytes`` of them, ``lost`` (could not be sent),
            ``cut`` (left out for their size), ``blobs`` (large ones stored apart).
    """

    name: str
    pid: int
    on: bool
    sample: float
    operations: dict[str, bool]
    tenants: dict[str, bool]
    redacts: bool
    counters: dict[str, int]
