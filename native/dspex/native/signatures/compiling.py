"""Signatures made ready once and kept: what checking and rendering work from."""

from __future__ import annotations

import hashlib
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from dspex.contracts.signatures import Signature
from dspex.native.checking.accepting import acceptor
from dspex.native.keeping import Kept
from dspex.native.signatures.encoding import encoded, refuse_markers
from dspex.native.signatures.glancing import glance
from dspex.native.signatures.parsing import from_spec, instructions_of, parse

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dspex.contracts.signatures import Field, SignatureSpec
    from dspex.native.checking.accepting import Acceptor
    from dspex.native.signatures.glancing import Familiar
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


class Compiled:
    """A signature made ready.

    Attributes:
        signature: The signature as it is answered.
        inputs: Its inputs, in order.
        outputs: Its outputs, in order.
        acceptors: By the name of a field, what says whether values are of its type.
    """

    def __init__(
        self, signature: Signature, types: Iterable[TypeExpr], made: Iterable[Acceptor]
    ) -> None:
        slots = tuple(map(Slot, signature.fields, types))
        self.signature = signature
        self.inputs = tuple(one for one in slots if one.field.kind == "input")
        self.outputs = slots[len(self.inputs) :]
        self.acceptors = {
            slot.field.name: one for slot, one in zip(slots, made, strict=True)
        }

    @cached_property
    def digest(self) -> str:
        """SHA-256 of its meaning, in hexadecimal.

        Equal for two signatures exactly if they have the same instructions and fields.
        """
        return hashlib.sha256(encoded(self.signature)).hexdigest()


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
        key = encoded((isinstance(source, str), source, instructions))
        found = self._kept.get(key)
        if found is None:
            # Outside of its lock: two threads may do it twice, none has to wait.
            found = _compile(source, instructions)
            self._kept.keep(key, found, len(key))
        return found


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
        if instructions is None and (seen := glance(source)) is not None:
            return _seen(seen)
        parsed = parse(source, instructions)
    else:
        parsed = from_spec(source, instructions)
    refuse_markers(parsed.signature)
    return Compiled(parsed.signature, parsed.types, map(acceptor, parsed.types))


def _seen(fields: list[tuple[Field, Familiar]]) -> Compiled:
    said = [field for field, _ in fields]
    signature = Signature(instructions=instructions_of(said, None), fields=said)
    familiar = [one for _, one in fields]
    return Compiled(
        signature, [one.expr for one in familiar], [one.acceptor for one in familiar]
    )
