"""What DSPy tells the model about a field: its type, and what a value must look like.

A type without a hint of its own is hinted at by its JSON Schema, as pydantic writes
it and with its keys sorted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dspex.contracts.failures import Unsupported
from dspex.native.prompts.dspy_values import SINCE
from dspex.native.prompts.values import STR, dumps
from dspex.native.types.constraints import given
from dspex.native.types.kinds import DspyType, SchemaType
from dspex.native.types.tree import (
    DEFINITIONS,
    Collection,
    DictType,
    LiteralType,
    Scalar,
    TupleType,
    TypeExpr,
    UnionType,
    nodes,
    refers,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from dspex.contracts.signatures import Field
    from dspex.native.prompts.dialects import Dialect


def described(field: Field, expr: TypeExpr, dialect: Dialect) -> str:
    """Write the line that introduces a field, without its number.

    Args:
        field: The field.
        expr: Its type.
        dialect: The release of DSPy.

    Raises:
        Unsupported: The release does not know the type.
    """
    said = "" if field.description == f"${{{field.name}}}" else field.description
    for node in nodes(expr):
        if isinstance(node, DspyType):
            dialect.require(SINCE[node.name], f"dspy.{node.name}")
            more = _description(node, dialect)
            if more:
                said += f"\n    Type description of {node.describe()}: {more}"
    return f"`{field.name}` ({expr.describe()}): {said}{_constraints(field)}"


def formatted_as(expr: TypeExpr, dialect: Dialect) -> str:
    """Write in brackets how an output must be formatted; nothing for a text."""
    if expr == STR:
        return ""
    if expr == _TOOL_CALLS and dialect.tool_calls_example:
        return (
            ' (must be a JSON object like {"tool_calls": '
            '[{"name": "...", "args": {...}}]})'
        )
    return f" (must be formatted as a valid Python {expr.describe()})"


def placeholder(name: str, expr: TypeExpr, dialect: Dialect) -> str:
    """Write what stands for the value of an output, with the hint of its type.

    Raises:
        Unsupported: The release has no such hint, or it is not known here.
    """
    hint = _hint(name, expr, dialect)
    note = f"        # note: the value you produce {hint}" if hint else ""
    return f"{{{name}}}{note}"


def json_schema(name: str, expr: TypeExpr) -> dict[str, Any]:
    """Describe a type as pydantic does.

    Args:
        name: The field, for a message.
        expr: Its type.

    Raises:
        Unsupported: It holds a type of DSPy's without a description here.
    """
    found: dict[str, Any] = {}
    for node in nodes(expr):
        found |= _definitions(name, node)
    shape = _schema(expr)
    whole = shape.get("$ref", "").removeprefix(DEFINITIONS)
    if whole in found and not refers(found, whole):
        shape = found.pop(whole)
    return {"$defs": found, **shape} if found else shape


def _constraints(field: Field) -> str:
    limits = given(field.constraints)
    spelled = [f"{_LIMITS[n]}: {v}" for n, v in limits.items() if n in _LIMITS]
    return f"\nConstraints: {', '.join(spelled)}" if spelled else ""


_LIMITS = {
    "gt": "greater than",
    "ge": "greater than or equal to",
    "lt": "less than",
    "le": "less than or equal to",
    "min_length": "minimum length",
    "max_length": "maximum length",
    "multiple_of": "a multiple of the given number",
}

_TOOL_CALLS = DspyType("ToolCalls")


def _description(expr: DspyType, dialect: Dialect) -> str:
    if expr.name != "Code":
        return _DESCRIPTIONS.get(expr.name, "")
    language = expr.language or "python"
    fenced = f"```{language.lower()}\n{{code}}\n```"
    if not dialect.code_by_language:
        fenced = "```python\n{code}\n``` or \n```cpp\n{code}\n```"
    return (
        "Code represented in a string, specified in the `code` field. If this is an "
        "output field, the code field should follow the markdown code block format, "
        f"e.g. \n{fenced}\nProgramming language: {language}"
    )


_DESCRIPTIONS = {
    "Citations": "Citations with quoted text and source references. Include the exact "
    "text being cited and information about its source.",
    "Document": "A document containing text content that can be referenced and cited. "
    "Include the full text content and optionally a title for proper referencing.",
    "ToolCalls": "Tool calls must be a JSON object with `tool_calls`, a list of calls. "
    "Each call must include `name` and `args`. "
    'Example: {"tool_calls": [{"name": "search", "args": {"query": "cats"}}]}',
}


def _hint(name: str, expr: TypeExpr, dialect: Dialect) -> str:
    if isinstance(expr, Scalar) and expr.name in _SIMPLE:
        return _SIMPLE[expr.name]
    if isinstance(expr, SchemaType) and expr.kind == "enum":
        shown = _names(expr) if dialect.enum_names else map(str, expr.values)
        return f"must be one of: {'; '.join(shown)}"
    if isinstance(expr, LiteralType):
        shown = map(str, expr.values)
        return f"must exactly match (no extra characters) one of: {'; '.join(shown)}"
    if isinstance(expr, DspyType) and _needs_no_hint(expr, dialect):
        return ""
    schema = dumps(_sorted(json_schema(name, expr)))
    return f"must adhere to the JSON schema: {schema}"


def _names(expr: SchemaType) -> Iterator[str]:
    for i, name in enumerate(expr.names):
        # Python cannot name a value of an enumeration so.
        barred = not name or name.startswith("_") or name == "mro"
        yield f"value_{i}" if barred else name


_SIMPLE = {
    "str": "",
    "bool": "must be True or False",
    "int": "must be a single int value",
    "float": "must be a single float value",
}


def _needs_no_hint(expr: DspyType, dialect: Dialect) -> bool:
    return expr.name == "Reasoning" or (expr.name == "Code" and dialect.plain_code)


def _sorted(value: Any) -> Any:
    if isinstance(value, dict):
        ordered = sorted(value, key=lambda key: (key != "type", key))
        return {key: _sorted(value[key]) for key in ordered}
    return [_sorted(item) for item in value] if isinstance(value, list) else value


def _definitions(name: str, expr: TypeExpr) -> dict[str, dict[str, Any]]:
    if isinstance(expr, SchemaType):
        return expr.printed
    if not isinstance(expr, DspyType):
        return {}
    if expr.name == "Code" and expr.language:
        return {expr.describe(): _model(expr.describe(), code={"type": "string"})}
    if expr.name in _MODELS:
        return _MODELS[expr.name]
    raise Unsupported(
        f"The output {name!r} cannot be of dspy.{expr.name}: what DSPy tells a model "
        "about such an output is not written here.",
        hint="Give the output a type of your own, or let a worker with DSPy answer.",
        field=name,
    )


def _kind_of(values: Iterable[Any]) -> dict[str, Any]:
    kinds = {type(value) for value in values}
    return {"type": _JSON_NAMES[kinds.pop()]} if len(kinds) == 1 else {}


_JSON_NAMES: dict[type, str] = {
    str: "string",
    int: "integer",
    float: "number",
    bool: "boolean",
    type(None): "null",
}


def _model(
    name: str, required: str | None = None, /, **properties: dict[str, Any]
) -> dict[str, Any]:
    titled = {
        key: {"title": key.replace("_", " ").title(), **value}
        for key, value in properties.items()
    }
    needed = [*properties] if required is None else required.split()
    return {
        "properties": titled,
        "required": needed,
        "title": name,
        "type": "object",
    }


_MODELS: dict[str, dict[str, dict[str, Any]]] = {
    "Image": {
        "Image": {
            "additionalProperties": False,
            **_model("Image", url={"type": "string"}),
        }
    },
    "ToolCalls": {
        "ToolCall": _model(
            "ToolCall",
            name={"type": "string"},
            args={"additionalProperties": True, "type": "object"},
        ),
        "ToolCalls": _model(
            "ToolCalls",
            tool_calls={"items": {"$ref": f"{DEFINITIONS}ToolCall"}, "type": "array"},
        ),
    },
    "ToolCallResults": {
        "ToolCallResult": _model(
            "ToolCallResult",
            "name value",
            call_id={"anyOf": [{"type": "string"}, {"type": "null"}], "default": None},
            name={"type": "string"},
            value={},
            is_error={"default": False, "type": "boolean"},
        ),
        "ToolCallResults": _model(
            "ToolCallResults",
            tool_call_results={
                "items": {"$ref": f"{DEFINITIONS}ToolCallResult"},
                "type": "array",
            },
        ),
    },
}


def _schema(expr: TypeExpr) -> dict[str, Any]:
    return _SCHEMAS[type(expr)](expr)


def _array(expr: Collection) -> dict[str, Any]:
    items = {} if expr.item is None else _schema(expr.item)
    unique = {} if expr.kind == "list" else {"uniqueItems": True}
    return {"items": items, "type": "array", **unique}


def _tuple(expr: TupleType) -> dict[str, Any]:
    if expr.items is None or expr.variadic:
        return {"items": _schema(expr.parts[0]) if expr.parts else {}, "type": "array"}
    size = len(expr.items)
    limits = {"maxItems": size, "minItems": size}
    prefix = {"prefixItems": [*map(_schema, expr.items)]} if size else {}
    return {**limits, **prefix, "type": "array"}


def _object(expr: DictType) -> dict[str, Any]:
    inner = {} if expr.value is None else _schema(expr.value)
    names = {} if expr.key is None else _schema(expr.key)
    if isinstance(expr.key, SchemaType):
        keys = {"propertyNames": names}
    else:
        # Pydantic says no more than that keys are texts of a certain form.
        form = {key: value for key, value in names.items() if key != "type"}
        is_text = names.get("type") == "string"
        keys = {"propertyNames": form} if is_text and form else {}
    return {"additionalProperties": inner or True, "type": "object", **keys}


def _literal(expr: LiteralType) -> dict[str, Any]:
    kind = _kind_of(expr.values)
    if len(expr.values) == 1:
        return {"const": expr.values[0], **kind}
    return {"enum": list(expr.values), **kind}


def _any_of(expr: UnionType) -> dict[str, Any]:
    flat: dict[str, dict[str, Any]] = {}
    for member in expr.members:
        schema = _schema(member)
        for one in schema["anyOf"] if schema.keys() == {"anyOf"} else [schema]:
            flat.setdefault(dumps(_sorted(one)), one)
    found = [*flat.values()]
    return found[0] if len(found) == 1 else {"anyOf": found}


_TEXT = {"type": "string"}
_SCALARS: dict[str, dict[str, Any]] = {
    "str": _TEXT,
    "int": {"type": "integer"},
    "float": {"type": "number"},
    "bool": {"type": "boolean"},
    "NoneType": {"type": "null"},
    "Any": {},
    "bytes": {"format": "binary", **_TEXT},
    "date": {"format": "date", **_TEXT},
    "datetime": {"format": "date-time", **_TEXT},
    "time": {"format": "time", **_TEXT},
    "timedelta": {"format": "duration", **_TEXT},
    "Decimal": {"anyOf": [{"type": "number"}, _TEXT]},
    "UUID": {"format": "uuid", **_TEXT},
}


def _reference(expr: TypeExpr) -> dict[str, Any]:
    name = expr.describe() if isinstance(expr, DspyType) else expr.name  # type: ignore[attr-defined]  # a SchemaType
    return {"$ref": DEFINITIONS + name}


_SCHEMAS: dict[type, Callable[[Any], dict[str, Any]]] = {
    Scalar: lambda expr: _SCALARS[expr.name],
    Collection: _array,
    TupleType: _tuple,
    DictType: _object,
    LiteralType: _literal,
    UnionType: _any_of,
    SchemaType: _reference,
    DspyType: _reference,
}
