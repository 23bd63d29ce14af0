"""Signatures as they are asked for and as they are answered: data only.

A signature has two forms. The text ``question -> answer: int`` is the short one;
`SignatureSpec` says the same field by field and can also carry defaults,
descriptions and constraints. `Signature` is what either of them means, and is
itself a valid `SignatureSpec` once encoded: an answer can be sent back.
"""

from __future__ import annotations

from typing import Any, Literal

from msgspec import UNSET, Struct, UnsetType
from msgspec import field as attribute

Kind = Literal["input", "output"]


class Constraints(
    Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    """What a value must satisfy beyond its type.

    In a union such as ``int | None`` they hold for every member but ``None``.

    Attributes:
        ge: The number is at least this (``int``, ``float``, ``Decimal``).
        le: The number is at most this.
        gt: The number is greater than this.
        lt: The number is less than this.
        multiple_of: The number divided by this leaves nothing.
        min_length: Fewest characters, bytes, elements or keys.
        max_length: Most characters, bytes, elements or keys.
        pattern: Regular expression found somewhere in the ``str``; the dialect is
            the one that can be matched in linear time (no look-around, no
            back-references).
    """

    ge: int | float | None = None
    le: int | float | None = None
    gt: int | float | None = None
    lt: int | float | None = None
    multiple_of: int | float | None = None
    min_length: int | None = None
    max_length: int | None = None
    pattern: str | None = None


class FieldSpec(
    Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    """One field of a requested signature.

    Attributes:
        name: Its name, a Python identifier.
        kind: ``input`` or ``output``.
        type: Its type as in signature text: ``list[str]``, ``Literal['a', 'b']``,
            ``dspy.Image``, or with a name of the signature's ``types``.
        description: What the model is told about it; by default nothing.
        default: Value used where none is given; left out, a value is required.
        constraints: What its value must satisfy beyond the type.
        schema: JSON Schema of its values, as an answer carries it. It follows from
            the type and the constraints, so it may be left out, and must agree
            with them if it is given.
        prefix: Label that follows from the name, as an answer carries it; may be
            left out, and must agree if it is given.
    """

    name: str
    kind: Kind
    type: str = "str"
    description: str | None = None
    default: Any | UnsetType = UNSET
    constraints: Constraints | None = None
    schema: dict[str, Any] | None = None
    prefix: str | None = None


class SignatureSpec(
    Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    """A requested signature, field by field.

    Attributes:
        fields: Its fields, inputs and outputs in the order the prompt shows them.
        instructions: What to do; by default made from the names of the fields.
        types: Enumerations and objects by the names that fields call them, each as
            JSON Schema. They refer to one another as ``#/$defs/<name>``, and may
            bring further ones in ``$defs`` of their own.
    """

    fields: list[FieldSpec]
    instructions: str | None = None
    types: dict[str, dict[str, Any]] = attribute(default_factory=dict)


class Field(
    Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    """One field of a signature that has been read.

    Attributes:
        name: Its name.
        kind: ``input`` or ``output``.
        type: Its type as DSPy prints it: ``list[str]``, ``Union[int, NoneType]``.
            Only so that it can be read again is a ``Literal`` with control
            characters or backslashes spelled with escapes instead, and a type of
            DSPy's own called ``dspy.Image``, ``dspy.Code['java']``.
        schema: JSON Schema of its values on the wire.
        description: ``${name}`` unless one was given, as in DSPy.
        prefix: The name as a label: ``Exact Answer:``.
        default: Value used where none is given; left out, a value is required.
        constraints: What its value must satisfy beyond the type.
    """

    name: str
    kind: Kind
    type: str
    schema: dict[str, Any]
    description: str
    prefix: str
    default: Any | UnsetType = UNSET
    constraints: Constraints | None = None


class Signature(
    Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    """A signature that has been read.

    Attributes:
        instructions: What to do, given or made from the names of the fields.
        fields: The inputs, then the outputs, each in the order they were given.
        types: The enumerations and objects that its fields use, by their names, and
            those that these refer to as ``#/$defs/<name>``; left out if there are none.
    """

    instructions: str
    fields: list[Field]
    types: dict[str, dict[str, Any]] = attribute(default_factory=dict)


class Fault(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One thing wrong with a value.

    Attributes:
        path: Where: ``inputs.people[2].age``, ``outputs.counts["two words"]``.
        found: What is there, shortened: ``"yes" (string)``, ``nothing``.
        expected: What is allowed there: ``int``, ``at most 5``.
        message: The two as a sentence, with what to do where that is known.
    """

    path: str
    found: str
    expected: str
    message: str
