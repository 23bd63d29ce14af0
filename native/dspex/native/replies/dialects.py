"""How the releases of DSPy differ in what they read, as switches."""

from __future__ import annotations

from functools import cache

from msgspec import Struct

from dspex.native.prompts.dialects import dialect


class Reading(Struct, frozen=True, kw_only=True):
    """What one release of DSPy reads.

    Attributes:
        left_out: Whether an output left out has its default, or ``None`` where the
            type allows it; outputs are then in the order of the signature.
        empty_fails: Whether an empty reply fails, instead of being all ``None``.
        union_text: Whether ``str | None`` and the like take the text as it is.
        union_printed: Whether such a union takes what Python prints of a value that
            is none of its types.
        literal_json: Whether a ``Literal`` reads ``2`` where 2 is one of its values.
        json_first: Whether a reply is read as JSON before braces are looked for.
        xml_nested: Whether XML is read by a parser, and may be nested.
    """

    left_out: bool
    empty_fails: bool
    union_text: bool
    union_printed: bool
    literal_json: bool
    json_first: bool
    xml_nested: bool


def reading(version: str) -> Reading:
    """Return what a release of DSPy reads.

    Args:
        version: Such as ``3.4.1``.

    Raises:
        Unsupported: The release is too old, or not known.
    """
    return _switched(dialect(version).version)


@cache
def _switched(found: tuple[int, ...]) -> Reading:
    return Reading(
        left_out=found >= (3, 3, 1),
        empty_fails=found >= (3, 2, 0),
        union_text=found >= (3, 0, 4),
        union_printed=found < (3, 0, 0),
        literal_json=found >= (3, 4, 0),
        json_first=found >= (3, 1, 2),
        xml_nested=found >= (3, 3, 1),
    )
