"""Prompts, byte for byte as DSPy would send them to a language model.

A prompt is a system message, worked examples, the turns of a history and the
request. What does not depend on values is written once per signature and kept.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from dspex.contracts.failures import InvalidInputs, InvalidSignature, Unsupported
from dspex.contracts.native_requests import PromptMessage, RenderedPrompt
from dspex.contracts.signatures import Field
from dspex.native.checking.requiring import REASONING
from dspex.native.keeping import Kept
from dspex.native.prompts.dialects import dialect
from dspex.native.prompts.dspy_values import calls_of, messages, results_of
from dspex.native.prompts.markers import neutralised, split
from dspex.native.prompts.react import TRAJECTORY, react_plan, trajectory_text
from dspex.native.prompts.values import STR, dumps
from dspex.native.prompts.writing import Chat, Json, Plan
from dspex.native.prompts.xml_writing import Xml
from dspex.native.signatures.compiling import Slot, compile_signature

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from dspex.contracts.native_requests import RenderPrompt
    from dspex.native.signatures.compiling import Compiled

SIZE_LIMIT = 8 * 1024 * 1024
"""The most characters kept of each, requests and prompts together."""

ENTRY_LIMIT = 512
"""The most signatures kept, and the most sequences of worked examples."""

_INCOMPLETE = (
    "This is an example of the task, though some input or output fields are not "
    "supplied."
)
_NOT_SUPPLIED = "Not supplied for this particular example. "

_STYLES: dict[str, type[Chat]] = {"chat": Chat, "json": Json, "xml": Xml}


class Ready(NamedTuple):
    """What is the same in every prompt of a signature.

    Attributes:
        writer: Writes the rest.
        system: The first message.
    """

    writer: Chat
    system: PromptMessage


_writers: Kept[Ready] = Kept(ENTRY_LIMIT, SIZE_LIMIT)
_examples: Kept[list[PromptMessage]] = Kept(ENTRY_LIMIT, SIZE_LIMIT)


def render_prompt(body: RenderPrompt) -> RenderedPrompt:
    """Write the messages that DSPy would send to a language model.

    Args:
        body: The signature, the values, and whose bytes to write.

    Raises:
        InvalidSignature: The signature is not sound, or not one for the module.
        InvalidInputs: DSPy could not write a value, or only at great cost.
        Unsupported: The release of DSPy is not known, or has no such adapter or type.
    """
    key = _encoded(
        body.signature,
        body.instructions,
        body.adapter,
        body.dialect,
        body.module,
        body.tools if body.module == "react" else None,
    )
    ready = _writers.get(key) or _make_ready(body, key)
    try:
        found = _messages(body, ready, key)
    except (ValueError, RecursionError) as error:
        # Python prints no integer of more than some thousand digits.
        raise InvalidInputs(
            f"A value cannot be written: {error}",
            hint="Send very large numbers as str.",
            field="inputs",
        ) from error
    return RenderedPrompt(messages=found)


_encode = msgspec.msgpack.Encoder().encode


def _encoded(*values: Any) -> bytes:
    try:
        return _encode(values)
    except (TypeError, ValueError, OverflowError, RecursionError):
        return b""


def _make_ready(body: RenderPrompt, key: bytes) -> Ready:
    wanted = dialect(body.dialect)
    compiled = compile_signature(body.signature, body.instructions)
    if body.adapter == "xml":
        wanted.require("3.0.0", "The XML format")
    writer = _STYLES[body.adapter](_plan(body, compiled), wanted)
    made = Ready(writer, PromptMessage(role="system", content=writer.system))
    if key:
        _writers.keep(key, made, len(key) + len(writer.system))
    return made


def _plan(body: RenderPrompt, compiled: Compiled) -> Plan:
    plan = Plan(compiled.inputs, compiled.outputs, compiled.signature.instructions)
    if body.module == "react":
        return react_plan(plan, body.tools)
    return _reasoning(plan) if body.module == "chain_of_thought" else plan


def _reasoning(plan: Plan) -> Plan:
    if any(field.name == REASONING for field, _ in (*plan.inputs, *plan.outputs)):
        raise InvalidSignature(
            f"chain_of_thought writes an output {REASONING!r} of its own, "
            "and the signature has a field of that name.",
            hint="Rename the field, or use predict.",
            field=REASONING,
        )
    field = Field(
        name=REASONING,
        kind="output",
        type="str",
        schema={},
        description=f"${{{REASONING}}}",
        prefix="Reasoning:",
    )
    return Plan(
        inputs=plan.inputs,
        outputs=(Slot(field, STR), *plan.outputs),
        # Adding a field, DSPy strips the instructions once more.
        instructions=inspect.cleandoc(plan.instructions),
    )


def _messages(body: RenderPrompt, ready: Ready, key: bytes) -> list[PromptMessage]:
    writer, system = ready
    values = body.inputs
    if body.module == "react":
        text = trajectory_text(writer, body.trajectory, writer.dialect)
        values = {**values, TRAJECTORY: text}
    found = [system]
    if body.demos:
        found += _known_demos(writer, body.demos, key)
    if writer.history is not None and writer.history in values:
        found += _history(writer, values[writer.history])
    asked = writer.user(values, writer.asked, asks=True)
    found.append(_said("user", asked, writer))
    return found


def _said(role: Any, text: str, writer: Chat) -> PromptMessage:
    content = split(text, writer.dialect) if role == "user" else text
    return PromptMessage(role=role, content=content)


def _known_demos(
    writer: Chat, demos: Sequence[Mapping[str, Any]], key: bytes
) -> list[PromptMessage]:
    # A program sends the same examples with every request.
    whole = _encoded(key, demos) if key else b""
    found = _examples.get(whole)
    if found is None:
        found = list(_demos(writer, demos))
        if whole:
            size = sum(len(message.content) for message in found)
            _examples.keep(whole, found, len(whole) + size)
    return found


def _demos(writer: Chat, demos: Sequence[Mapping[str, Any]]) -> Iterator[PromptMessage]:
    """Write worked examples: those that lack a field first."""
    inputs = [part.name for part in writer.inputs]
    outputs = [part.name for part in writer.outputs]
    complete = []
    for demo in demos:
        if all(demo.get(name) is not None for name in (*inputs, *outputs)):
            complete.append(demo)
        elif not demo.keys().isdisjoint(inputs) and not demo.keys().isdisjoint(outputs):
            yield _said(
                "user", writer.user(demo, writer.inputs, prefix=_INCOMPLETE), writer
            )
            yield _said(
                "assistant",
                writer.assistant(demo, writer.outputs, _NOT_SUPPLIED),
                writer,
            )
    for demo in complete:
        yield _said("user", writer.user(demo, writer.inputs), writer)
        yield _said("assistant", writer.assistant(demo, writer.outputs), writer)


def _history(writer: Chat, value: Any) -> Iterator[PromptMessage]:
    release = writer.dialect
    for turn in messages(writer.history or "", neutralised(value)):
        there = any(part.name in turn for part in writer.asked)
        text = writer.user(turn, writer.told, asks=there and release.history_reminder)
        if text or release.empty_turns:
            yield _said("user", text, writer)
        if release.tool_turns and _has_calls(turn):
            yield from _tool_turn(writer, turn)
        else:
            yield _said("assistant", writer.assistant(turn, writer.answered), writer)


def _has_calls(turn: Mapping[str, Any]) -> bool:
    return any(isinstance(v, dict) and "tool_calls" in v for v in turn.values())


def _tool_turn(writer: Chat, turn: Mapping[str, Any]) -> Iterator[PromptMessage]:
    if writer.native_tools:
        raise Unsupported(
            "The JSON adapter sends tool calls of a history as messages of a form "
            "that is not written here.",
            hint="Use the adapter chat or xml, or leave the tool calls out.",
            field=writer.history,
        )
    name = next(n for n, v in turn.items() if isinstance(v, dict) and "tool_calls" in v)
    calls = turn[name]
    results = calls.get("tool_call_results")
    if results is None:
        yield _said("assistant", writer.assistant(turn, writer.answered), writer)
        return
    shown = {"tool_calls": calls_of(name, calls["tool_calls"])}
    yield _said(
        "assistant", writer.assistant({**turn, name: shown}, writer.answered), writer
    )
    answer = {"tool_call_results": results_of(name, results)}
    yield _said("user", writer.block("tool_call_results", dumps(answer)), writer)
