"""DSPy's own types, such as ``dspy.Image``: their classes, and values both ways.

DSPy's writer of JSON turns these values into text for a prompt: it loses the language
of code and the ids of tool calls, and what it writes does not come back. So values
are made from and read out of their attributes.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import dspy

from dspex.contracts.failures import Unsupported
from dspex.native.types.kinds import QUALIFIED, DspyType
from dspex.native.types.wire import TAG

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

try:
    from dspy import experimental as _experimental
except ImportError:  # DSPy before 3.0.4
    _experimental = None

LANGUAGES = 64
"""The most classes of ``dspy.Code`` kept, one for each language."""


def own_class(expr: DspyType, classes: Mapping[str, Any] | None = None) -> Any:
    """Return the class of one of DSPy's types.

    Args:
        expr: The type.
        classes: The classes there are, by their names; by default those of the
            release that is installed.

    Raises:
        Unsupported: The release of DSPy that is installed has no such type.
    """
    found = (_CLASSES if classes is None else classes).get(expr.name)
    if found is None:
        raise Unsupported(
            f"{QUALIFIED[expr.name]} is not in DSPy {dspy.__version__}, "
            "which this worker runs.",
            hint="Use another type, or a pool with a newer DSPy.",
        )
    return _code(expr.language) if expr.language else found


def own_value(expr: DspyType, value: Any) -> Any:
    """Make one of DSPy's values from its form on the wire.

    Args:
        expr: Its type.
        value: A value that is valid for it. A text for ``dspy.Code`` and
            ``dspy.Reasoning`` becomes an object of that class.

    Raises:
        Unsupported: The release of DSPy that is installed has no such type.
    """
    cls = own_class(expr)
    if isinstance(value, str):
        return cls(**{"code" if expr.name == "Code" else "content": value})
    given = {key: part for key, part in value.items() if key != TAG}
    return _MAKERS.get(expr.name, _made)(cls, given)


def own_wire(value: Any) -> Any:
    """Return the form on the wire of one of DSPy's values, its parts as they are.

    Args:
        value: A value of one of `CLASSES`.
    """
    name = next(name for name, cls in _CLASSES.items() if isinstance(value, cls))
    return _WRITERS[name](value)


def _made(cls: Any, given: dict[str, Any]) -> Any:
    return cls(**given)


def _made_code(cls: Any, given: dict[str, Any]) -> Any:
    return cls(code=given["code"])


def _made_calls(cls: Any, given: dict[str, Any]) -> Any:
    one = cls.ToolCall
    calls = [
        one(**{key: part for key, part in call.items() if key in one.model_fields})
        for call in given["tool_calls"]
    ]
    more = {key: part for key, part in given.items() if key != "tool_calls"}
    return cls(
        tool_calls=calls, **{k: v for k, v in more.items() if k in cls.model_fields}
    )


def _made_tool(cls: Any, given: dict[str, Any]) -> Any:
    def call(**_: Any) -> Any:
        raise Unsupported(
            f"The tool {given['name']!r} is a value of an input: it can be shown to "
            "the model and not be called.",
            hint="Give tools that are called where the program asks for tools.",
        )

    args = given.get("args", {})
    return cls(
        call,
        name=given["name"],
        desc=given.get("desc", ""),
        args=args,
        arg_types=dict.fromkeys(args, Any),
        arg_desc=given.get("arg_desc"),
    )


def _attributes(value: Any, *names: str) -> dict[str, Any]:
    pairs = ((name, getattr(value, name, None)) for name in names)
    return {name: part for name, part in pairs if part is not None}


def _tagged(name: str, *names: str) -> Callable[[Any], dict[str, Any]]:
    return lambda value: {TAG: name, **_attributes(value, *names)}


def _code_wire(value: Any) -> dict[str, Any]:
    return {TAG: "Code", **_attributes(value, "language", "code")}


def _calls_wire(value: Any) -> dict[str, Any]:
    calls = [_attributes(call, "id", "name", "args") for call in value.tool_calls]
    return {"tool_calls": calls, **_attributes(value, "tool_call_results")}


def _results_wire(value: Any) -> dict[str, Any]:
    return {
        "tool_call_results": [
            {**_attributes(one, "call_id", "name", "is_error"), "value": one.value}
            for one in value.tool_call_results
        ]
    }


def _citations_wire(value: Any) -> dict[str, Any]:
    return {
        "citations": [
            _attributes(one, *type(one).model_fields) for one in value.citations
        ]
    }


@lru_cache(maxsize=LANGUAGES)
def _code(language: str) -> Any:
    return _CLASSES["Code"][language]


def _found() -> dict[str, Any]:
    places = {"dspy": dspy, "dspy.experimental": _experimental}
    found: dict[str, Any] = {}
    for name, qualified in QUALIFIED.items():
        cls = getattr(places[qualified.rpartition(".")[0]], name, None)
        if cls is not None:
            found[name] = cls
    return found


_CLASSES: dict[str, Any] = _found()
CLASSES: tuple[Any, ...] = tuple(_CLASSES.values())
"""The classes that the installed release of DSPy has."""

_MAKERS: dict[str, Callable[[Any, dict[str, Any]], Any]] = {
    "Code": _made_code,
    "Tool": _made_tool,
    "ToolCalls": _made_calls,
}
_WRITERS: dict[str, Callable[[Any], dict[str, Any]]] = {
    "Audio": _tagged("Audio", "data", "audio_format"),
    "Citations": _citations_wire,
    "Code": _code_wire,
    "Document": _tagged("Document", "data", "title", "media_type", "context"),
    "File": _tagged("File", "file_data", "file_id", "filename"),
    "History": lambda value: {"messages": value.messages},
    "Image": _tagged("Image", "url"),
    "Reasoning": _tagged("Reasoning", "content"),
    "Tool": _tagged("Tool", "name", "desc", "args", "arg_desc"),
    "ToolCallResults": _results_wire,
    "ToolCalls": _calls_wire,
}
