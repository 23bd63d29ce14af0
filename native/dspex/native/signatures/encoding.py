"""Signatures as bytes: what they are known by, and what none may hold."""

from __future__ import annotations

import msgspec

from dspex.contracts.failures import InvalidSignature

TYPE_MARKERS = ("CUSTOM-TYPE-START-IDENTIFIER", "CUSTOM-TYPE-END-IDENTIFIER")
"""Between these, in ``<<`` and ``>>``, DSPy writes content of its own into prompts."""


def encoded(value: object) -> bytes:
    """Return a signature, or a part of one, as bytes: the same for what is equal.

    Raises:
        InvalidSignature: It holds a value that has no bytes.
    """
    try:
        # Not JSON: it writes bytes as if they were text, and NaN as if it were null.
        return msgspec.msgpack.encode(value, order="deterministic")
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise InvalidSignature(
            f"The signature holds a value that cannot be written: {error}",
            hint="Defaults are JSON values; text is well-formed Unicode.",
        ) from error


def refuse_markers(value: object) -> None:
    """Refuse what DSPy would not read as it is meant.

    Raises:
        InvalidSignature: A mark of DSPy's own is in it.
    """
    said = encoded(value)
    for marker in TYPE_MARKERS:
        if marker.encode() in said:
            raise InvalidSignature(
                f"The signature holds {marker!r}, which DSPy reads as a "
                "mark of its own wherever it stands in a prompt.",
                hint="Leave it out of names, types, descriptions and instructions.",
            )
