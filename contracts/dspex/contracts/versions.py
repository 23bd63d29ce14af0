"""What has a name and versions: programs and datasets, as their buckets keep them."""

from __future__ import annotations

import re
from typing import Annotated, NamedTuple

from msgspec import Meta, Struct

from dspex.contracts.failures import BadRequest

Version = Annotated[int, Meta(ge=1)]

_REFERENCE = re.compile(r"([A-Za-z0-9_-]{1,64})(?:@([1-9][0-9]{0,8}))?")


class Reference(NamedTuple):
    """``name`` or ``name@version``.

    Attributes:
        name: Of the thing.
        version: Which; ``None``: the newest.
    """

    name: str
    version: int | None


class Record(Struct, frozen=True, kw_only=True):
    """What is stored of one version of anything.

    Attributes:
        version: Its number.
        at: When, unix milliseconds.
        digest: SHA-256 of what it is, in hexadecimal; empty: it was deleted here.
        note: For people.
        sequences: Where in the bucket's stream the versions before it are.
    """

    version: int
    at: float
    digest: str = ""
    note: str = ""
    sequences: dict[str, int] = {}

    @property
    def is_there(self) -> bool:
        """Whether there is such a thing from here on."""
        return bool(self.digest)


def read_reference(text: str, path: str, noun: str) -> Reference:
    """Read ``name`` or ``name@version``.

    Args:
        text: As a request says it.
        path: Of the field that says so.
        noun: What it names: ``program`` or ``dataset``.

    Raises:
        BadRequest: It is neither.
    """
    found = _REFERENCE.fullmatch(text)
    if found is None:
        raise BadRequest(
            f"{path} {text[:80]!r} is not the name of a {noun}: 1 to 64 characters of "
            "A-Z a-z 0-9 _ -, and perhaps @ and the number of a version.",
            field=path,
            hint=f"Write name or name@3, or send the {noun} itself.",
        )
    name, version = found.groups()
    return Reference(name, int(version) if version else None)
