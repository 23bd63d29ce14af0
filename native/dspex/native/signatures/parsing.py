"""Signatures: the text ``question -> answer: int`` and its structured form.

Text means what it means to DSPy, field by field and letter by letter in the prompt,
as far as DSPy reads it soundly. Where DSPy drops or mangles a part in silence the
text is refused with the reason.
"""

from __future__ import annotations

import inspect
import keyword
import re
import unicodedata
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

from dspex.contracts.failures import InvalidSignature
from dspex.contracts.signatures import Field, FieldSpec, Kind, Signature, SignatureSpec
from dspex.native.checking.checking import checked_default
from dspex.native.types.constraints import constrained_schema, pattern_size, verify
from dspex.native.types.definitions import PATTERNS_LIMIT, read_types
from dspex.native.types.expressions import parse_type
from dspex.native.types.kinds import SchemaType
from dspex.native.types.tokens import TEXT_LIMIT, Cursor, bounded, shortened, tokenize
from dspex.native.types.tree import Scalar, TypeExpr, nodes, spelled

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from dspex.native.types.tokens import Token

FIELD_LIMIT = 256
"""The most fields of a signature."""
NAME_LIMIT = 128
"""The longest name of a field, in characters."""
DESCRIPTION_LIMIT = 16 * 1024
"""The longest description of a field, in characters."""
SCHEMAS_LIMIT = 4 * TEXT_LIMIT
"""The most bytes of the types that fields use, each counted for each field."""

RESERVED = frozenset(
    # Attributes of every DSPy signature: a field would break or hide them.
    "append append_instructions delete dump_state equals fields "  # noqa: SIM905 - words
    "input_fields insert "
    "instructions load_state output_fields prepend signature with_instructions "
    "with_updated_fields mro register "
    # Attributes of every pydantic model.
    "construct copy dict from_orm json model_computed_fields model_config "
    "model_construct model_copy model_dump model_dump_json model_extra model_fields "
    "model_fields_set model_json_schema model_parametrized_name model_post_init "
    "model_rebuild model_validate model_validate_json model_validate_strings "
    "parse_file parse_obj parse_raw schema schema_json update_forward_refs validate "
    # Arguments that DSPy's calls take for themselves.
    "completions config demos instance lm new_signature prediction self".split()
)
"""Names that a field may not have."""

# Where one word of a name ends and the next begins, applied in this order.
_BORDERS = (
    re.compile(r"(.)([A-Z][a-z]+)"),
    re.compile(r"([a-z0-9])([A-Z])"),
    re.compile(r"([a-zA-Z])(\d)"),
    re.compile(r"(\d)([a-zA-Z])"),
)
_SEPARATORS = {
    "*": "DSPy drops starred and keyword-only fields; list every field by its name.",
    "/": "DSPy drops positional-only fields; leave the '/' out.",
    "=": "DSPy drops defaults in text; give them in the structured form "
    "of the signature: {'name': ..., 'default': ...}.",
    ":": "A field reads 'name: type'.",
    "->": "Fields are named on both sides: 'question -> answer'.",
}
_EXAMPLE = "A signature reads 'question, context: list[str] -> answer: int'."


class Parsed(NamedTuple):
    """A signature and the types of its fields.

    Attributes:
        signature: The signature as it is answered.
        types: One type for each of its fields, in their order.
    """

    signature: Signature
    types: tuple[TypeExpr, ...]


def parse(text: str, instructions: str | None = None) -> Parsed:
    """Read signature text.

    Args:
        text: Such as ``question, context: list[str] -> answer: int``.
        instructions: What to do; by default made from the names of the fields.

    Raises:
        InvalidSignature: The text is not a signature, or DSPy would misread it.
    """
    tokens = tokenize(text)
    _count_arrows(tokens, text)
    cursor = Cursor(tokens)
    declared = [*_side(cursor, "input")]
    cursor.take()
    declared += _side(cursor, "output")
    return _assemble(declared, instructions)


def from_spec(spec: SignatureSpec, instructions: str | None = None) -> Parsed:
    """Read the structured form of a signature.

    Args:
        spec: Its fields.
        instructions: What to do, instead of the instructions of ``spec``.

    Raises:
        InvalidSignature: A field is not sound, or contradicts itself.
    """
    if sum(len(field.type) for field in spec.fields[: FIELD_LIMIT + 1]) > TEXT_LIMIT:
        raise InvalidSignature(
            f"The types have more than {TEXT_LIMIT} characters together.",
            hint="Use dict or Any for the largest of them.",
        )
    declared: list[_Declared] = []
    types = read_types(spec.types)
    for field in spec.fields[: FIELD_LIMIT + 1]:
        _verify_name(field.name)
        declared.append((field, type_of(field, types)))
    if instructions is None:
        instructions = spec.instructions
    return _assemble(declared, instructions)


def infer_prefix(name: str) -> str:
    """Write a name as DSPy labels it: ``rawHTML_text2`` as ``Raw HTML Text 2``."""
    if not (name.islower() and name.replace("_", "").isalpha()):
        for border in _BORDERS:
            name = border.sub(r"\1_\2", name)
    words = name.split("_")
    return " ".join(w if w.isupper() else w.capitalize() for w in words)


_Declared = tuple[FieldSpec, TypeExpr]


def _count_arrows(tokens: list[Token], text: str) -> None:
    arrows = sum(token.kind == "arrow" for token in tokens)
    if arrows != 1:
        raise InvalidSignature(
            f"A signature has one '->' outside of quotes, found {arrows} "
            f"in {shortened(text)!r}.",
            hint=_EXAMPLE,
        )


def _side(cursor: Cursor, kind: Kind) -> Iterable[_Declared]:
    while cursor.token.kind not in ("arrow", "end"):
        cursor.field = None
        yield _declaration(cursor, kind)
        if not cursor.skip(","):
            break
    if cursor.token.kind != ("arrow" if kind == "input" else "end"):
        hint = _SEPARATORS.get(cursor.token.text, "Put a comma between two fields.")
        cursor.fail(f"unexpected {cursor.token}.", hint)


def _declaration(cursor: Cursor, kind: Kind) -> _Declared:
    if cursor.token.kind != "name":
        hint = _SEPARATORS.get(cursor.token.text, _EXAMPLE)
        cursor.fail(f"expected the name of a field, found {cursor.token}.", hint)
    name = cursor.take().text
    _verify_name(name)
    cursor.field = name
    expr = parse_type(cursor) if cursor.skip(":") else Scalar("str")
    return FieldSpec(name=name, kind=kind, type=""), expr


def type_of(field: FieldSpec, own: Mapping[str, TypeExpr]) -> TypeExpr:
    """Read the type of a field.

    Args:
        field: The field.
        own: The client's own types, by their names.

    Raises:
        InvalidSignature: It is none.
    """
    cursor = Cursor(tokenize(field.type), own)
    cursor.field = field.name
    expr = parse_type(cursor)
    if cursor.token.kind != "end":
        cursor.fail(f"unexpected {cursor.token} after the type.")
    return expr


def _verify_name(name: str) -> None:
    problem = _name_problem(name)
    if problem:
        shown = shortened(name)
        raise InvalidSignature(
            f"A field cannot be named {shown!r}: the name {problem}.",
            hint=f"Choose another name, such as {_suggestion(shown)!r}.",
            field=shown,
        )


def _name_problem(name: str) -> str:
    if len(name) > NAME_LIMIT:
        return f"is longer than {NAME_LIMIT} characters"
    if not name.isidentifier():
        return "is not an identifier (letters, digits and underscores)"
    if unicodedata.normalize("NFKC", name) != name:
        return "holds characters that Python would replace (it is not in NFKC form)"
    if keyword.iskeyword(name):
        return "is a keyword of Python, in which the program runs"
    if name.startswith("_"):
        return "starts with an underscore, which DSPy keeps for itself"
    if name in RESERVED:
        return "would break or hide something of that name in DSPy"
    return ""


def _suggestion(name: str) -> str:
    stem = re.sub(r"\W+", "_", name).strip("_")
    return f"{stem[:40]}_value" if stem and not stem[0].isdigit() else "value"


def _assemble(declared: list[_Declared], instructions: str | None) -> Parsed:
    if len(declared) > FIELD_LIMIT:
        raise InvalidSignature(
            f"A signature has at most {FIELD_LIMIT} fields.",
            hint="Gather fields in a dict or a list.",
        )
    _verify_unique([field for field, _ in declared])
    ordered = sorted(declared, key=lambda pair: pair[0].kind)
    _verify_sides([field for field, _ in ordered])
    fields = list(_fields(ordered))
    text = instructions_of(fields, instructions)
    types = tuple(expr for _, expr in ordered)
    used = _used(types)
    return Parsed(Signature(instructions=text, fields=fields, types=used), types)


def _used(types: tuple[TypeExpr, ...]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    size = 0
    for expr in types:
        own = {node for node in nodes(expr) if isinstance(node, SchemaType)}
        size += sum(one.size for one in own)
        for one in own:
            found |= one.definitions
    if size > SCHEMAS_LIMIT:
        raise InvalidSignature(
            f"The types that the fields use come to {size} bytes, each counted for "
            f"each field; at most {SCHEMAS_LIMIT} are allowed.",
            hint="Use the largest of them in fewer fields, or make it smaller.",
            field="types",
        )
    return {name: found[name] for name in sorted(found)}


def _verify_unique(fields: list[FieldSpec]) -> None:
    kinds: dict[str, str] = {}
    for field in fields:
        before = kinds.setdefault(field.name, field.kind)
        if before != field.kind:
            raise InvalidSignature(
                f"Field {field.name!r} is both an input and an output.",
                hint="Give the output a name of its own.",
                field=field.name,
            )
    twice = [
        name for name, count in Counter(f.name for f in fields).items() if count > 1
    ]
    if twice:
        raise InvalidSignature(
            f"Field {twice[0]!r} is there more than once; DSPy would keep only one.",
            hint="Give every field a name of its own.",
            field=twice[0],
        )


def _verify_sides(fields: list[FieldSpec]) -> None:
    kinds = {field.kind for field in fields}
    if "output" not in kinds:
        raise InvalidSignature(
            "The signature has no output field: nothing would be asked for.",
            hint="Name at least one field after the '->': 'question -> answer'.",
        )
    if "input" not in kinds:
        raise InvalidSignature(
            "The signature has no input field.",
            hint="Name at least one field before the '->', such as 'topic -> poem'; "
            "what never changes belongs into the instructions.",
        )


def _fields(declared: list[_Declared]) -> Iterator[Field]:
    size = 0
    for spec, expr in declared:
        yield field_of(spec, expr)
        size += pattern_size(spec.constraints)
        if size > PATTERNS_LIMIT:
            raise InvalidSignature(
                f"The patterns come to more than {PATTERNS_LIMIT} steps together.",
                hint="Use smaller counts, or fewer patterns.",
                field=spec.name,
            )


def field_of(spec: FieldSpec, expr: TypeExpr) -> Field:
    """Make a field of a type as it is answered.

    Raises:
        InvalidSignature: What is said of it does not fit its type.
    """
    name = spec.name
    verify(name, expr, spec.constraints)
    schema = constrained_schema(expr, spec.constraints)
    prefix = infer_prefix(name) + ":"
    _verify_derived(spec, schema, prefix)
    description = f"${{{name}}}" if spec.description is None else spec.description
    default = checked_default(name, expr, spec.default, spec.constraints)
    return Field(
        name=name,
        kind=spec.kind,
        type=spelled(expr),
        schema=schema,
        description=bounded(
            description, DESCRIPTION_LIMIT, f"The description of {name!r}"
        ),
        prefix=prefix,
        default=default,
        constraints=spec.constraints,
    )


def _verify_derived(spec: FieldSpec, schema: dict[str, object], prefix: str) -> None:
    # Ignoring them would mangle a signature in silence, as DSPy does with prefixes.
    for what, sent, made in (
        ("schema", spec.schema, schema),
        ("prefix", spec.prefix, prefix),
    ):
        if sent is not None and sent != made:
            raise InvalidSignature(
                f"Field {spec.name!r}: its {what} does not agree with its "
                f"{'type and constraints' if what == 'schema' else 'name'}, "
                "from which it follows.",
                hint=f"Leave {what} out, or send it as signature.parse gave it.",
                field=spec.name,
            )


def instructions_of(fields: list[Field], instructions: str | None) -> str:
    """Return the instructions, or those that DSPy makes of the names of fields."""
    if instructions:
        bounded(instructions, TEXT_LIMIT, "The instructions text")
        cleaned = inspect.cleandoc(instructions)
        if cleaned.strip():
            return cleaned
    inputs = ", ".join(f"`{f.name}`" for f in fields if f.kind == "input")
    outputs = ", ".join(f"`{f.name}`" for f in fields if f.kind == "output")
    return f"Given the fields {inputs}, produce the fields {outputs}."
