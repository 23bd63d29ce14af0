"""What a signature means, with JSON Schema of what goes in and what comes out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec import UNSET, to_builtins

from dspex.contracts.failures import InvalidSignature
from dspex.contracts.native_requests import DescribedSignature
from dspex.native.signatures.compiling import compile_signature
from dspex.native.types.constraints import constrained_shape
from dspex.native.types.kinds import SchemaType
from dspex.native.types.tree import accepts_none, nodes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dspex.contracts.native_requests import DescribeSignature
    from dspex.native.signatures.compiling import Compiled, Slot


def describe_signature(body: DescribeSignature) -> DescribedSignature:
    """Say what a signature means, and what values go in and come out.

    Args:
        body: The signature.

    Raises:
        InvalidSignature: It is not sound.
    """
    compiled = compile_signature(body.signature, body.instructions)
    return DescribedSignature(
        signature=compiled.signature,
        text=text_of(compiled),
        inputs=object_schema(compiled.inputs),
        outputs=object_schema(compiled.outputs),
        digest=compiled.digest,
    )


def text_of(compiled: Compiled) -> str | None:
    """Write a signature as text; ``None`` where text cannot say all of it."""
    sides = (
        ", ".join(_declaration(slot) for slot in slots)
        for slots in (compiled.inputs, compiled.outputs)
    )
    text = " -> ".join(sides)
    if compiled.signature.types:
        return None
    # Whatever text cannot say, such as a default, is not there once it is read again.
    try:
        same = compile_signature(text).digest == compiled.digest
    except InvalidSignature:
        return None
    return text if same else None


def object_schema(slots: Sequence[Slot]) -> dict[str, Any]:
    """Describe the values of one side of a signature, as one object.

    Args:
        slots: The fields of the side.

    Returns:
        JSON Schema, complete in itself; required are the fields that have no default
        and do not take null.
    """
    properties: dict[str, Any] = {}
    definitions: dict[str, Any] = {}
    for field, expr in slots:
        schema = constrained_shape(expr, field.constraints)
        for node in nodes(expr):
            if isinstance(node, SchemaType):
                definitions |= node.definitions
        if field.description != f"${{{field.name}}}":
            schema["description"] = field.description
        if field.default is not UNSET:
            schema["default"] = to_builtins(field.default)
        properties[field.name] = schema
    needed = [f.name for f, t in slots if f.default is UNSET and not accepts_none(t)]
    return {
        "type": "object",
        "properties": properties,
        "required": needed,
        "additionalProperties": False,
        **({"$defs": definitions} if definitions else {}),
    }


def _declaration(slot: Slot) -> str:
    name, written = slot.field.name, slot.field.type
    return name if written == "str" else f"{name}: {written}"
