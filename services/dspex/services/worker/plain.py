"""What DSPy hands around, as JSON can say it."""

from __future__ import annotations

import base64
import dataclasses
import math
from collections.abc import Mapping
from typing import Any

LEFT_OUT = frozenset(
    {
        "azure_ad_token",
        "azure_ad_token_provider",
        "base_url",
        "cache",
        "extra_headers",
        "extra_query",
        "headers",
        "organization",
        "project",
        "timeout",
    }
)
"""Parameters of a call that say how a provider is reached, not what it is asked."""


def parameters(given: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of a call of a language model; keys and addresses left out."""
    return {
        name: plain(value)
        for name, value in given.items()
        if value is not None and name not in LEFT_OUT and not name.startswith("api_")
    }


def plain(value: Any) -> Any:
    """A value as dicts, lists, texts and numbers.

    What JSON has no form for becomes an object whose ``$t`` says what it was: bytes, a
    type (as its JSON Schema), or something else, of which only the type is told.
    """
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, str):
        return value if value.isascii() else _sayable(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else {"$t": "float", "value": str(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(one) for one in value]
    return _of_object(value)


def _of_object(value: Any) -> Any:
    if isinstance(value, bytes):
        return {"$t": "bytes", "base64": base64.b64encode(value).decode()}
    if isinstance(value, type):
        schema = getattr(value, "model_json_schema", None)
        found = schema() if schema else None
        return {"$t": "type", "name": value.__name__, "schema": plain(found)}
    if hasattr(value, "model_dump"):
        return plain(value.model_dump(mode="json"))
    if dataclasses.is_dataclass(value):
        names = (field.name for field in dataclasses.fields(value))
        return {name: plain(getattr(value, name)) for name in names}
    kind = type(value)
    return {"$t": "opaque", "type": f"{kind.__module__}.{kind.__qualname__}"}


def _sayable(text: str) -> str:
    """A text without halves of surrogate pairs, which no encoding has a form for."""
    return text.encode("utf-8", "replace").decode()
