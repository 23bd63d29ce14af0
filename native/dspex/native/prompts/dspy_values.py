"""What DSPy's own types, such as ``dspy.Image``, become in a prompt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dspex.contracts.failures import InvalidInputs
from dspex.native.prompts.markers import marked

if TYPE_CHECKING:
    from collections.abc import Callable

    from dspex.native.prompts.dialects import Dialect
    from dspex.native.types.kinds import DspyType

SINCE = {
    "Audio": "2.6.27",
    "Citations": "3.0.4",
    "Code": "3.0.0",
    "Document": "3.0.4",
    "File": "3.1.0",
    "History": "2.6.27",
    "Image": "2.6.27",
    "Reasoning": "3.1.0",
    "Tool": "2.6.27",
    "ToolCallResults": "3.3.0",
    "ToolCalls": "3.3.0",
}
"""The oldest release that writes each type as it is written here."""

_FENCE = "```"
_SPACES = "\t\n\v\f\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(
    map(chr, range(0x2000, 0x200B))
)
"""What pydantic strips; Python itself would strip more."""


def dspy_value(expr: DspyType, value: Any, dialect: Dialect) -> Any:
    """Return the JSON that DSPy writes for a value of one of its own types.

    Args:
        expr: The type.
        value: A JSON value of it, without markers.
        dialect: The release of DSPy.
    """
    return _WRITERS[expr.name](value, dialect)


def messages(name: str, value: Any) -> list[dict[str, Any]]:
    """Return the messages of a ``dspy.History``.

    Args:
        name: The field, for a message.
        value: A JSON value without markers.

    Raises:
        InvalidInputs: It is no history.
    """
    found = value.get("messages") if isinstance(value, dict) else None
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise InvalidInputs(
            f"The value of {name!r} is no history.",
            hint='A history reads {"messages": [{"question": …, "answer": …}, …]}.',
            field=name,
        )
    # DSPy's model of a history strips its keys.
    return [{key.strip(_SPACES): item for key, item in one.items()} for one in found]


def results_of(name: str, value: Any) -> list[dict[str, Any]]:
    """Return results of tool calls as DSPy writes them.

    Args:
        name: The field, for a message.
        value: A list of them, one of them, or ``{"tool_call_results": […]}``.

    Raises:
        InvalidInputs: They are none.
    """
    if isinstance(value, dict):
        value = value.get("tool_call_results", [value])
    try:
        return [_result(one) for one in value]
    except (TypeError, KeyError, AttributeError):
        raise InvalidInputs(
            f"The results of tool calls in {name!r} cannot be read.",
            hint='A result reads {"call_id": …, "name": …, "value": …}.',
            field=name,
        ) from None


def calls_of(name: str, value: Any) -> list[dict[str, Any]]:
    """Return tool calls as DSPy writes them: a name and arguments each.

    Args:
        name: The field, for a message.
        value: A list of ``{"name": …, "args": {…}}``.

    Raises:
        InvalidInputs: They are none.
    """
    try:
        return [{"name": one["name"], "args": dict(one["args"])} for one in value]
    except (TypeError, KeyError, ValueError):
        raise InvalidInputs(
            f"The tool calls in {name!r} cannot be read.",
            hint='A call reads {"name": "search", "args": {"query": "cats"}}.',
            field=name,
        ) from None


def code_in(text: str) -> str:
    """Return the code between fences, as ``dspy.Code`` finds it; all if none are."""
    fence = text.find(_FENCE)
    if fence < 0:
        return text
    # A first line names the language; without one, all of it is code.
    for start in (text.find("\n", fence + len(_FENCE)) + 1, fence + len(_FENCE)):
        end = text.find(_FENCE, start) if start else -1
        if end >= 0:
            return text[start:end].strip()
    return text


def _result(one: dict[str, Any]) -> dict[str, Any]:
    return {
        "call_id": one.get("call_id"),
        "name": one["name"],
        "value": one["value"],
        "is_error": one.get("is_error", False),
    }


def _image(value: Any, dialect: Dialect) -> str:
    block = {"type": "image_url", "image_url": {"url": value["url"].strip(_SPACES)}}
    return marked([block], dialect)


def _audio(value: Any, dialect: Dialect) -> str:
    content = {"data": value["data"], "format": value["audio_format"]}
    return marked([{"type": "input_audio", "input_audio": content}], dialect)


def _file(value: Any, dialect: Dialect) -> str:
    content = {
        key: value[key].strip(_SPACES)
        for key in ("file_data", "file_id", "filename")
        if value.get(key, "").strip(_SPACES)
    }
    return marked([{"type": "file", "file": content}], dialect)


def _document(value: Any, dialect: Dialect) -> str:
    media = value.get("media_type", "text/plain")
    encoded = media == "application/pdf" and dialect.pdf_as_base64
    block = {
        "type": "document",
        "source": {
            "type": "base64" if encoded else "text",
            "media_type": media,
            "data": value["data"],
        },
        "citations": {"enabled": True},
    }
    more = {key: value[key] for key in ("title", "context") if value.get(key)}
    return marked([block | more], dialect)


def _citations(value: Any, dialect: Dialect) -> str:
    return marked([_citation(one) for one in value["citations"]], dialect)


def _citation(one: dict[str, Any]) -> dict[str, Any]:
    keys = ("cited_text", "document_index", "start_char_index", "end_char_index")
    more = ("document_title", "supported_text")
    return (
        {"type": one.get("type", "char_location")}
        | {key: one[key] for key in keys}
        | {key: one[key] for key in more if one.get(key)}
    )


def _code(value: Any, _: Dialect) -> str:
    return code_in(value if isinstance(value, str) else value["code"])


def _reasoning(value: Any, _: Dialect) -> str:
    text: str = value if isinstance(value, str) else value["content"]
    return text


def _tool(value: Any, _: Dialect) -> str:
    return tool_text(value["name"], value.get("desc", ""), value.get("args", {}))


def tool_text(name: str, description: str, arguments: dict[str, Any]) -> str:
    """Describe a tool as DSPy does, with its arguments as Python prints them."""
    said = f", whose description is <desc>{description}</desc>." if description else "."
    said = said.replace("\n", "  ")
    return f"{name}{said} It takes arguments {arguments}."


def _tool_calls(value: Any, _: Dialect) -> dict[str, Any]:
    found: dict[str, Any] = {"tool_calls": calls_of("tool_calls", value["tool_calls"])}
    if value.get("tool_call_results") is not None:
        found["tool_call_results"] = value["tool_call_results"]
    return found


_WRITERS: dict[str, Callable[[Any, Dialect], Any]] = {
    "Audio": _audio,
    "Citations": _citations,
    "Code": _code,
    "Document": _document,
    "File": _file,
    "History": lambda value, _: {"messages": messages("messages", value)},
    "Image": _image,
    "Reasoning": _reasoning,
    "Tool": _tool,
    "ToolCallResults": lambda value, _: {
        "tool_call_results": results_of("tool_call_results", value)
    },
    "ToolCalls": _tool_calls,
}
