"""The form on the wire of DSPy's own types.

DSPy's own writer of JSON turns them into text for a prompt, and loses the language of
code and the ids of tool calls.
"""

from __future__ import annotations

from typing import Literal

from dspex.native.types.parts import ObjectType, Property, Text
from dspex.native.types.tree import (
    ANY,
    Collection,
    DictType,
    LiteralType,
    Scalar,
    TypeExpr,
    UnionType,
)

DspyName = Literal[
    "Audio",
    "Citations",
    "Code",
    "Document",
    "File",
    "History",
    "Image",
    "Reasoning",
    "Tool",
    "ToolCallResults",
    "ToolCalls",
]

TAG = "$t"
"""The key whose value says which of DSPy's types an object stands for."""


def wire_type(name: DspyName, language: str = "") -> TypeExpr:
    """Return the type of the JSON values of one of DSPy's types.

    Args:
        name: Its name in DSPy.
        language: The language of ``Code["java"]``.
    """
    return UnionType((_STR, _code(language))) if name == "Code" else _TYPES[name]


_STR = Scalar("str")
_INT = Scalar("int")
_ANYTHING = DictType(_STR, ANY)


def _object(
    tag: str | None = None, optional: str = "", /, **types: TypeExpr
) -> ObjectType:
    left_out = optional.split()
    known = [Property(n, t, n not in left_out) for n, t in types.items()]
    if tag:
        known.insert(0, Property(TAG, LiteralType((tag,))))
    return ObjectType(tuple(known))


def _list(item: TypeExpr) -> Collection:
    return Collection("list", item)


def _code(language: str) -> ObjectType:
    # A class of DSPy has one language; a value that names another is of another type.
    known: TypeExpr = LiteralType((language or "python",))
    return _object("Code", "language", language=known, code=_STR)


_TYPES: dict[DspyName, TypeExpr] = {
    "Audio": _object("Audio", data=Text("base64"), audio_format=Text("format")),
    "Citations": _object(
        citations=_list(
            _object(
                None,
                "type document_title supported_text",
                type=_STR,
                cited_text=_STR,
                document_index=_INT,
                document_title=_STR,
                start_char_index=_INT,
                end_char_index=_INT,
                supported_text=_STR,
            )
        )
    ),
    "Document": _object(
        "Document",
        "title media_type context",
        data=_STR,
        title=_STR,
        media_type=LiteralType(("text/plain", "application/pdf")),
        context=_STR,
    ),
    "File": UnionType(
        (
            _object(
                "File",
                "file_id filename",
                file_data=Text("file"),
                file_id=_STR,
                filename=_STR,
            ),
            _object("File", "filename", file_id=_STR, filename=_STR),
        )
    ),
    "History": _object(messages=_list(_ANYTHING)),
    "Image": _object("Image", url=Text("image")),
    "Reasoning": UnionType((_STR, _object("Reasoning", content=_STR))),
    "Tool": _object(
        "Tool",
        "desc args arg_desc",
        name=_STR,
        desc=_STR,
        args=DictType(_STR, _ANYTHING),
        arg_desc=DictType(_STR, _STR),
    ),
    "ToolCallResults": _object(
        tool_call_results=_list(
            _object(
                None,
                "call_id is_error",
                call_id=_STR,
                name=_STR,
                value=ANY,
                is_error=Scalar("bool"),
            )
        )
    ),
    "ToolCalls": _object(
        None,
        "tool_call_results",
        tool_calls=_list(_object(None, "id", id=_STR, name=_STR, args=_ANYTHING)),
        tool_call_results=ANY,
    ),
}
