"""Signatures made ready once and kept: what checking and rendering work from."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from dspex.contracts.failures import InvalidSignature
from dspex.native.checking.accepting import acceptor
from dspex.native.keeping import Kept
from dspex.native.signatures.parsing import from_spec, parse

if TYPE_CHECKING:
    from dspex.contracts.signatures import Field, Signature, SignatureSpec
    from dspex.native.checking.accepting import Acceptor
    from dspex.native.types.tree import TypeExpr

ENTRY_LIMIT = 1024
"""The most signatures kept."""
SIZE_LIMIT = 4 * 1024 * 1024
"""The most bytes of the sources of the signatures kept, together."""


class Slot(NamedTuple):
    """A field and its type.

    Attributes:
        field: The field.
        type: Its type.
    """

    field: Field
    type: TypeExpr


class Compiled(NamedTuple):
    """A signature made ready.

    Attributes:
        signature: The signature as it is answered.
        inputs: Its inputs, in order.
        outputs: Its outputs, in order.
        acceptors: By the name of a field, what says whether values are of its type.
        digest: SHA-256 of its meaning, in hexadecimal: equal for two signatures
            exactly if they have the same instructions and fields.
    """

    signature: Signature
    inputs: tuple[Slot, ...]
    outputs: tuple[Slot, ...]
    acceptors: dict[str, Acceptor]
    digest: str


class SignatureCache:
    """Compiled signatures by their source, the least recently used leave first.

    Args:
        entries: The most signatures kept.
        size: The most bytes of their sources kept, together.
    """

    def __init__(self, entries: int = ENTRY_LIMIT, size: int = SIZE_LIMIT) -> None:
        self._kept: Kept[Compiled] = Kept(entries, size)

    def __len__(self) -> int:
        return len(self._kept)

    def compile(
        self, source: str | SignatureSpec, instructions: str | None = None
    ) -> Compiled:
        """Make a signature ready, or find it ready.

        Args:
            source: Its text, or its structured form.
            instructions: What to do, instead of the signature's own instructions.

        Raises:
            InvalidSignature: The signature is not sound.
        """
        key = _encoded((isinstance(source, str), source, instructions))
        found = self._kept.get(key)
        if found is None:
            # Outside of its lock: two threads may do it twice, none has to wait.
            found = _compile(source, instructions)
            self._kept.keep(key, found, len(key))
        return found


TYPE_MARKERS = ("CUSTOM-TYPE-START-IDENTIFIER", "CUSTOM-TYPE-END-IDENTIFIER")
"""Between these, in ``<<`` and ``>>``, DSPy writes content of its own into prompts."""

_CACHE = SignatureCache()


def compile_signature(
    source: str | SignatureSpec, instructions: str | None = None
) -> Compiled:
    """Make a signature ready, or find it ready in the cache of this process.

    Args:
        source: Its text, such as ``question -> answer``, or its structured form.
        instructions: What to do, instead of the signature's own instructions.

    Raises:
        InvalidSignature: The signature is not sound.
    """
    return _CACHE.compile(source, instructions)


def _compile(source: str | SignatureSpec, instructions: str | None) -> Compiled:
    if isinstance(source, str):
        parsed = parse(source, instructions)
    else:
        parsed = from_spec(source, instructions)
    encoded = _encoded(parsed.signature)
    _refuse_markers(encoded)
    pairs = zip(parsed.signature.fields, parsed.types, strict=True)
    slots = [Slot(field, expr) for field, expr in pairs]
    return Compiled(
        signature=parsed.signature,
        inputs=tuple(slot for slot in slots if slot.field.kind == "input"),
        outputs=tuple(slot for slot in slots if slot.field.kind == "output"),
        acceptors={slot.field.name: acceptor(slot.type) for slot in slots},
        digest=hashlib.sha256(encoded).hexdigest(),
    )


def _refuse_markers(encoded: bytes) -> None:
    for marker in TYPE_MARKERS:
        if marker.encode() in encoded:
            raise InvalidSignature(
                f"The signature holds {marker!r}, which DSPy reads as a "
                "mark of its own wherever it stands in a prompt.",
                hint="Leave it out of names, types, descriptions and instructions.",
            )


def _encoded(value: object) -> bytes:
    try:
        # Not JSON: it writes bytes as if they were text, and NaN as if it were null.
        return msgspec.msgpack.encode(value, order="deterministic")
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise InvalidSignature(
            f"The signature holds a value that cannot be written: {error}",
            hint="Defaults are JSON values; text is well-formed Unicode.",
        ) from error
