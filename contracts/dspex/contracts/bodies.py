"""Bodies too large for a message: the section ``[bodies]``, and how they are named.

A large body is an object of the object store ``dspex_blobs``; the message that would
have held it has its name in the header ``Dspex-Body`` instead: a claim. Names begin
with the tenant whose body it is, so nobody claims what is another's.
"""

from __future__ import annotations

import re
from typing import Annotated
from uuid import uuid4

from msgspec import Meta, Struct

from dspex.contracts.failures import BadRequest, Forbidden
from dspex.contracts.headers import BODY

ACCEPT = "accept"
"""In place of a name: the body is here, and that of the reply may be elsewhere."""

KIB = 1024
MIB = 1024 * 1024

_CLAIM = re.compile(r"([A-Za-z0-9_-]{1,64})\.[A-Za-z0-9_-]{1,64}")


class Bodies(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Section ``[bodies]``: requests and replies too large for a message.

    Attributes:
        inline_kib: Replies larger than this are objects, for clients that read them
            there, KiB.
        max_mib: Largest body, MiB.
        held_mib: Of the bodies that are objects, how much one process holds at a
            time, MiB; more wait.
        ttl_s: Seconds until the object of a reply ends.
    """

    inline_kib: Annotated[int, Meta(ge=1)] = 256
    max_mib: Annotated[float, Meta(gt=0, le=1024)] = 64.0
    held_mib: Annotated[float, Meta(gt=0)] = 256.0
    ttl_s: Annotated[int, Meta(ge=10, le=86_400)] = 3600

    @property
    def inline(self) -> int:
        """Bytes that travel in the message itself."""
        return self.inline_kib * KIB

    @property
    def largest(self) -> int:
        """Bytes of the largest body."""
        return int(self.max_mib * MIB)

    @property
    def held(self) -> int:
        """Bytes that a process holds at a time; one body has room always."""
        return max(int(self.held_mib * MIB), self.largest)


def new_claim(tenant: str) -> str:
    """A name for a body of a tenant's, which nobody can guess."""
    return f"{tenant}.{uuid4().hex}"


def read_claim(text: str, tenant: str, body: bytes) -> str:
    """The name that a request's ``Dspex-Body`` says; empty: the body is here.

    Args:
        text: The header.
        tenant: Whose request it is.
        body: That of the message.

    Raises:
        BadRequest: It is no name, or the message has a body besides.
        Forbidden: It is another tenant's.
    """
    if text in ("", ACCEPT):
        return ""
    found = _CLAIM.fullmatch(text)
    if found is None:
        raise BadRequest(
            f"{BODY} {text[:80]!r} names no body.",
            field=BODY,
            hint=f"It is {ACCEPT!r}, or <tenant>.<id>, the name of an object in the "
            "object store dspex_blobs; without a tenant, default.<id>.",
        )
    if found[1] != tenant:
        raise Forbidden(
            f"The body {text[:80]!r} is not tenant {tenant!r}'s.",
            field=BODY,
            hint=f"Store it under a name that begins with {tenant}.",
        )
    if body:
        raise BadRequest(
            f"The request has a body, and {BODY} names another.",
            field=BODY,
            hint=f"Send the header with an empty body, or {BODY}: {ACCEPT}.",
        )
    return text
