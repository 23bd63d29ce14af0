"""Replies of a language model, read as DSPy's adapters would read them.

What is needed to read the replies to one signature is made ready once and kept.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import msgspec

from dspex.contracts.failures import InvalidSignature
from dspex.contracts.native_requests import ParsedResponse
from dspex.native.checking.requiring import REASONING
from dspex.native.keeping import Kept
from dspex.native.prompts.dialects import dialect
from dspex.native.prompts.react import ADDED, TRAJECTORY, tool_names
from dspex.native.replies.adapters import (
    ChatReplies,
    FlatXmlReplies,
    JsonReplies,
    Output,
    Replies,
    XmlReplies,
)
from dspex.native.replies.dialects import reading
from dspex.native.replies.values import STR
from dspex.native.signatures.compiling import compile_signature
from dspex.native.types.tree import ANY, DictType, literal

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from dspex.contracts.native_requests import ParseResponse
    from dspex.native.signatures.compiling import Compiled

_ENTRIES = 512
_SIZE = 4 * 1024 * 1024
# The core of a validator weighs a few kilobytes for each type in it.
_OUTPUT_COST = 4096


_kept: Kept[Replies] = Kept(_ENTRIES, _SIZE)


def parse_response(body: ParseResponse) -> ParsedResponse:
    """Read a language model's reply as DSPy would.

    Args:
        body: The signature, the reply, and whose reading to follow.

    Raises:
        InvalidSignature: The signature is not sound, or not one for the module.
        InvalidInputs: The tools cannot be told apart.
        ParseFailed: DSPy would refuse the reply, or it cannot be read within bounds.
        OutputInvalid: JSON cannot say what the reply holds.
        Unsupported: The release of DSPy is not known, or has no such adapter, or an
            output is of a type that is not read here.
    """
    compiled = compile_signature(body.signature, body.instructions)
    return ParsedResponse(fields=replies(body, compiled).parse(body.text))


def replies(body: ParseResponse, compiled: Compiled) -> Replies:
    """Return what reads the replies to a request, made ready or found ready.

    Args:
        body: The request; its text does not matter.
        compiled: Its signature.

    Raises:
        InvalidSignature: The signature is not one for the module.
        InvalidInputs: The tools cannot be told apart.
        Unsupported: As `parse_response`.
    """
    tools = [tool.name for tool in body.tools] if body.module == "react" else []
    parts = (compiled.digest, body.adapter, body.dialect, body.module, *tools)
    key = "\0".join(parts).encode()
    if tools:
        key = hashlib.sha256(msgspec.json.encode(parts)).digest()
    found = _kept.get(key)
    if found is None:
        found = _made(body, compiled)
        _kept.keep(key, found, len(key) + _OUTPUT_COST * len(found.outputs))
    return found


def _made(body: ParseResponse, compiled: Compiled) -> Replies:
    wanted = reading(body.dialect)
    outputs = _OUTPUTS[body.module](body, compiled)
    if body.adapter == "chat":
        return ChatReplies(outputs, wanted)
    if body.adapter == "json":
        return JsonReplies(outputs, wanted)
    dialect(body.dialect).require("3.0.0", "The XML format")
    return (
        XmlReplies(outputs, wanted)
        if wanted.xml_nested
        else FlatXmlReplies(outputs, wanted)
    )


def _predict(_: ParseResponse, compiled: Compiled) -> list[Output]:
    return [Output(f.name, expr, f.default) for f, expr in compiled.outputs]


def _chain_of_thought(body: ParseResponse, compiled: Compiled) -> list[Output]:
    _refuse(compiled, [REASONING], "chain_of_thought", outputs=True)
    return [Output(REASONING, STR), *_predict(body, compiled)]


def _react(body: ParseResponse, compiled: Compiled) -> list[Output]:
    _refuse(compiled, ADDED, "react", outputs=False)
    types = (STR, literal(tool_names(body.tools)), DictType(STR, ANY))
    names = [name for name in ADDED if name != TRAJECTORY]
    return [Output(n, expr) for n, expr in zip(names, types, strict=True)]


def _refuse(
    compiled: Compiled, added: Sequence[str], module: str, *, outputs: bool
) -> None:
    for field, _ in (*compiled.inputs, *(compiled.outputs if outputs else ())):
        if field.name in added:
            raise InvalidSignature(
                f"{module} writes a field {field.name!r} of its own, and the "
                "signature has one of that name.",
                hint="Rename the field, or use predict.",
                field=field.name,
            )


_OUTPUTS: dict[str, Callable[[ParseResponse, Compiled], list[Output]]] = {
    "predict": _predict,
    "chain_of_thought": _chain_of_thought,
    "react": _react,
}
