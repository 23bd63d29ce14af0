"""Types that are part of others only: what the values of those consist of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec import Struct

from dspex.native.types.constraints import constrained_shape
from dspex.native.types.tree import TypeExpr

if TYPE_CHECKING:
    from collections.abc import Callable

    from dspex.contracts.signatures import Constraints


class Property(Struct, frozen=True):
    """A key of an object and the type of its value.

    Attributes:
        name: The key.
        type: The type of its value.
        required: Whether the key must be there.
    """

    name: str
    type: TypeExpr
    required: bool = True


class ObjectType(TypeExpr, frozen=True):
    """An object with keys known by name.

    Attributes:
        properties: The keys known by name.
        rest: The type of the values of other keys; ``None`` where there are none.
    """

    properties: tuple[Property, ...]
    rest: TypeExpr | None = None

    @property
    def parts(self) -> tuple[TypeExpr, ...]:
        """The types of its values, that of the other keys last."""
        known = tuple(one.type for one in self.properties)
        return known if self.rest is None else (*known, self.rest)

    def describe(self, quote: Callable[[str], str] | None = None) -> str:
        """Write its keys."""
        return f"an object with {', '.join(one.name for one in self.properties)}"

    def shape(self) -> dict[str, Any]:
        """Describe an object."""
        return {
            "type": "object",
            "properties": {one.name: one.type.shape() for one in self.properties},
            "required": [one.name for one in self.properties if one.required],
            "additionalProperties": False if self.rest is None else self.rest.shape(),
        }


class Limited(TypeExpr, frozen=True):
    """A type whose values satisfy constraints.

    Attributes:
        type: The type.
        limits: The constraints.
    """

    type: TypeExpr
    limits: Constraints

    @property
    def parts(self) -> tuple[TypeExpr, ...]:
        """The type without the constraints."""
        return (self.type,)

    def describe(self, quote: Callable[[str], str] | None = None) -> str:
        """Write the type without the constraints."""
        return self.type.describe(quote)

    def shape(self) -> dict[str, Any]:
        """Describe the type under the constraints."""
        return constrained_shape(self.type, self.limits)


class Text(TypeExpr, frozen=True):
    """A string of a certain form, however long.

    Attributes:
        name: One of the keys of `TEXTS`.
    """

    name: str

    def describe(self, quote: Callable[[str], str] | None = None) -> str:
        """Say what it is."""
        return TEXTS[self.name][0]

    def shape(self) -> dict[str, Any]:
        """Describe a string that matches a pattern."""
        return {"type": "string", "pattern": f"^({TEXTS[self.name][1]})$"}


_WEB = "https?://[!-;=?-~]{1,8192}"
_DATA = "data:[a-zA-Z0-9.+-]+/[a-zA-Z0-9.+-]+(;[a-zA-Z0-9.=_-]+)*,[a-zA-Z0-9+/=_%-]*"
# No address of a local file: releases of DSPy before 3.3 would read it and send it on.
TEXTS: dict[str, tuple[str, str]] = {
    "image": ("a http or https address, or a data URI", f"{_WEB}|{_DATA}"),
    "file": ("a data URI", _DATA),
    "base64": ("data in base64", "[a-zA-Z0-9+/=_-]*"),
    "format": ("the name of an audio format", "[a-zA-Z0-9.+-]{1,40}"),
}
"""What a `Text` is in words, and the pattern of all of it."""
