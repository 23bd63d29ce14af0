"""Answers in the format a DSPy prompt asks for, made from the prompt alone.

The system prompt of DSPy's adapters lists the output fields with their types;
a request with a JSON Schema says it all. Either is enough to make an answer
that parses, so a program can be tested without writing its replies by hand.
"""

from __future__ import annotations

import ast
import json
import re
from typing import Any

_FIELD = re.compile(r"^\d+\. `(?P<name>\w+)` \((?P<type>.*?)\):", re.MULTILINE)
_OUTPUTS = re.compile(
    r"Your output fields are:\n(?P<fields>.*?)\nAll interactions", re.DOTALL
)
_SCALARS: dict[str, Any] = {
    "str": "scripted answer",
    "int": 7,
    "float": 0.5,
    "bool": True,
    "NoneType": None,
    "string": "scripted answer",
    "integer": 7,
    "number": 0.5,
    "boolean": True,
    "null": None,
}


def answer_prompt(system: str, user: str, schema: dict[str, Any] | None = None) -> str:
    """Return a reply with a type-correct value for each output field.

    Args:
        system: The system message, as a DSPy adapter writes it.
        user: The last user message; its reminder says which format is wanted.
        schema: The JSON Schema of a structured-output request, if there is one.
    """
    if schema is not None:
        return json.dumps(value_of_schema(schema, schema))
    types = output_types(system)
    if not types:
        return str(_SCALARS["str"])
    values = {name: _field_value(name, kind, system) for name, kind in types.items()}
    if "Respond with a JSON object" in user:
        return json.dumps(values)
    if "wrapped in XML tags" in user:
        return "\n\n".join(_element(name, value) for name, value in values.items())
    blocks = [f"[[ ## {name} ## ]]\n{_plain(value)}" for name, value in values.items()]
    return "\n\n".join([*blocks, "[[ ## completed ## ]]"])


def output_types(system: str) -> dict[str, str]:
    """Return the output fields of a system prompt with the types it prints."""
    found = _OUTPUTS.search(system)
    if found is None:
        return {}
    fields = _FIELD.finditer(found["fields"])
    return {field["name"]: field["type"] for field in fields}


def value_of_type(kind: str) -> Any:
    """Return a value of a type as DSPy prints it, such as `list[str]`."""
    outer, _, inner = kind.partition("[")
    arguments = _arguments(inner.removesuffix("]"))
    if outer == "Literal":
        return _choice([ast.literal_eval(argument) for argument in arguments])
    if outer == "list":
        return _two(value_of_type(arguments[0]) if arguments else "a")
    if outer in {"Union", "Optional"}:
        return value_of_type(arguments[0])
    if outer == "dict":
        return {}
    return _SCALARS.get(outer, _SCALARS["str"])


def value_of_schema(schema: dict[str, Any], root: dict[str, Any]) -> Any:
    """Return a value that a JSON Schema accepts (the part that DSPy sends)."""
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[-1]
        return value_of_schema(root["$defs"][name], root)
    if "enum" in schema or "const" in schema:
        return _choice(schema.get("enum") or [schema["const"]])
    if "anyOf" in schema:
        return value_of_schema(schema["anyOf"][0], root)
    if schema.get("type") == "array":
        return _two(value_of_schema(schema.get("items", {}), root))
    if schema.get("type") == "object":
        fields = schema.get("properties", {})
        return {name: value_of_schema(part, root) for name, part in fields.items()}
    return _SCALARS.get(schema.get("type", "str"), _SCALARS["str"])


def _field_value(name: str, kind: str, system: str) -> Any:
    # Chat and JSON prompts write the schema of a structured type behind its
    # placeholder: more is said there than in the printed name of its type.
    marker = re.search(rf"{{{name}}} .*?adhere to the JSON schema: ", system)
    if marker is None or kind.startswith(("list", "dict", "Union", "Optional")):
        return value_of_type(kind)
    text = system[marker.end() :]
    escaped = text.startswith('{\\"')
    schema, _ = json.JSONDecoder().raw_decode(
        text.replace('\\"', '"') if escaped else text
    )
    return value_of_schema(schema, schema)


def _arguments(inner: str) -> list[str]:
    parts, depth, quoted = [""], 0, False
    for letter in inner:
        quoted ^= letter == "'"
        depth += (letter == "[") - (letter == "]")
        if letter == "," and not depth and not quoted:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts if part.strip()]


def _choice(choices: list[Any]) -> Any:
    # An agent that is offered `finish` takes it: it would call tools forever.
    return "finish" if "finish" in choices else choices[0]


def _two(item: Any) -> list[Any]:
    return ["a", "b"] if item == _SCALARS["str"] else [item, item]


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _element(name: str, value: Any) -> str:
    if isinstance(value, list):
        items = "".join(_element("item", item) for item in value)
        return f"<{name}>{items}</{name}>"
    if isinstance(value, dict):
        parts = "".join(_element(key, part) for key, part in value.items())
        return f"<{name}>{parts}</{name}>"
    return f"<{name}>\n{_plain(value)}\n</{name}>"
