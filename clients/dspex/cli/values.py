"""``name=value`` on the command line -> the body of a request: pure."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from dspex.contracts.failures import BadRequest, InvalidSignature
from dspex.native.signatures import parsing

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


def split(arguments: Iterable[str]) -> dict[str, str]:
    """Take ``name=value`` apart.

    Raises:
        BadRequest: An argument has no ``=``, or a name comes twice.
    """
    found: dict[str, str] = {}
    for argument in arguments:
        name, separator, text = argument.partition("=")
        if not separator or not name:
            raise BadRequest(
                f"{argument!r} is not name=value.",
                hint='Quote it as one word: question="Where is Oslo?"',
            )
        if name in found:
            raise BadRequest(f"{name!r} is given twice.")
        found[name] = text
    return found


def inputs(signature: str | None, texts: Mapping[str, str]) -> dict[str, Any]:
    """The values that ``texts`` stand for.

    A text is read as JSON if it is JSON, unless the signature wants a text there:
    ``zip=01234`` stays ``"01234"`` for a ``str`` and is refused for an ``int``.
    """
    schemas = _schemas(signature) if signature else {}
    return {name: value(text, schemas.get(name)) for name, text in texts.items()}


def value(text: str, schema: Mapping[str, Any] | None) -> Any:
    """The value that ``text`` stands for where ``schema`` says what is wanted."""
    if schema is not None and _only_text(schema):
        return text
    try:
        read = json.loads(text)
    except ValueError:
        return text
    if schema is None or _fits(read, schema) or not _fits(text, schema):
        return read
    return text


def body(text: str | None) -> dict[str, Any]:
    """The object that ``--body`` gives.

    Raises:
        BadRequest: It is not a JSON object.
    """
    try:
        found = json.loads(text or "{}")
    except ValueError as error:
        raise BadRequest(f"--body is not JSON: {error}.") from None
    if not isinstance(found, dict):
        raise BadRequest(f"--body is {text!r}; it takes a JSON object, such as {{}}.")
    return found


def _schemas(signature: str) -> dict[str, dict[str, Any]]:
    try:
        fields = parsing.parse(signature).signature.fields
    except InvalidSignature:
        return {}  # whoever answers says what is wrong with it
    return {field.name: field.schema for field in fields if field.kind == "input"}


def _only_text(schema: Mapping[str, Any]) -> bool:
    choices = schema.get("enum", [schema["const"]] if "const" in schema else [])
    texts = bool(choices) and all(isinstance(one, str) for one in choices)
    return schema.get("type") == "string" or texts


def _fits(found: Any, schema: Mapping[str, Any]) -> bool:
    # Imported here: it takes a tenth of a second, which most commands can save.
    from jsonschema import Draft202012Validator

    return bool(Draft202012Validator(schema).is_valid(found))
