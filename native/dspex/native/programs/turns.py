"""A turn of a session as the request it stands for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dspex.contracts import catalog
from dspex.contracts.failures import BadRequest, Unsupported
from dspex.contracts.program_requests import React, RunProgram
from dspex.contracts.requests import Predict
from dspex.native.programs.planning import plan
from dspex.native.signatures.compiling import compile_signature
from dspex.native.types.kinds import DspyType
from dspex.native.types.tree import nodes

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from dspex.contracts.catalog import Operation
    from dspex.contracts.session_requests import Turn
    from dspex.contracts.sessions import SessionSettings, SessionTurn

Asked = Predict | React | RunProgram
"""What a turn can stand for."""

_AGENTS_OWN = "trajectory"

_HISTORY = DspyType("History")

_TAKEN_BY_OTHERS: dict[type, tuple[str, ...]] = {
    Predict: ("tools", "max_iters"),
    React: ("demos",),
    RunProgram: (
        *("signature", "instructions", "demos"),
        *("tools", "max_iters", "adapter"),
    ),
}
"""What a turn may say, but not if it stands for such a request."""


def require_turn(operation: Operation) -> None:
    """Refuse operations that have no turns.

    Raises:
        Unsupported: It is one of those.
    """
    if operation.request not in (Predict, React, RunProgram):
        raise Unsupported(
            f"{operation.name!r} is no turn of a session. "
            "Allowed: predict, chain_of_thought, react, run.",
            hint="Publish it on dspex.v1.call.<operation> instead.",
        )


def whole(settings: SessionSettings, operation: str, turn: Turn) -> Asked:
    """The request that a turn stands for, without the conversation so far.

    Raises:
        BadRequest: Neither says what to run, or the turn says it of a program.
    """
    kind = catalog.operation(operation).request
    _refuse(turn, _TAKEN_BY_OTHERS[kind], operation)
    if kind is RunProgram:
        return _run(settings, turn)
    signature = turn.signature or settings.signature
    if signature is None:
        raise BadRequest(
            "The turn brings no signature, and the session was opened without one.",
            field="signature",
            hint="Ask for `run` in a session of a program; else open the session with "
            "a signature, or give one with each turn.",
        )
    # What belongs to another signature does not go with that of the turn.
    own = turn.signature is None
    common: dict[str, Any] = {
        "options": turn.options,
        "signature": signature,
        "inputs": turn.inputs,
        "instructions": turn.instructions or (settings.instructions if own else None),
        "lm": turn.lm or settings.lm,
        "config": settings.config if turn.config is None else turn.config,
        "adapter": turn.adapter or settings.adapter,
    }
    if kind is React:
        if turn.max_iters is not None:
            common["max_iters"] = turn.max_iters
        tools = settings.tools if turn.tools is None else turn.tools
        return React(tools=tools, **common)
    demos = (settings.demos if own else []) if turn.demos is None else turn.demos
    return Predict(demos=demos, **common)


def _refuse(turn: Turn, names: tuple[str, ...], operation: str) -> None:
    for name in names:
        if getattr(turn, name) is not None:
            raise BadRequest(
                f"{name} cannot be said by a turn that asks for {operation!r}.",
                field=name,
                hint="Leave it out, or ask for another operation.",
            )


def _run(settings: SessionSettings, turn: Turn) -> RunProgram:
    if settings.program is None:
        raise BadRequest(
            "The session was opened without a program.",
            field="program",
            hint="Open it with `program`, or ask for `predict`.",
        )
    return RunProgram(
        options=turn.options,
        program=settings.program,
        inputs=turn.inputs,
        lm=turn.lm or settings.lm,
        config=settings.config if turn.config is None else turn.config,
    )


def history_of(body: Asked) -> str:
    """The input that takes the conversation so far; empty: none does."""
    if isinstance(body, Predict | React):
        compiled = compile_signature(body.signature, body.instructions)
        slots = {slot.field.name: slot for slot in compiled.inputs}
    else:
        needs = plan(body.program).needs.items()
        slots = {name: slot for name, slot in needs if slot is not None}
    for name, slot in slots.items():
        if any(node == _HISTORY for node in nodes(slot.type)):
            return name
    return ""


def with_history(
    body: Asked, turns: Iterable[SessionTurn]
) -> tuple[dict[str, Any], Mapping[str, Any]]:
    """The inputs of a request with the conversation in its place.

    Args:
        body: The request.
        turns: The conversation so far.

    Returns:
        The inputs as the program gets them, and those that are to be logged: without
        the conversation, which the log has.
    """
    name = history_of(body)
    if not name or name in body.inputs:
        return body.inputs, body.inputs
    messages = [{**turn.inputs, **_said(turn.outputs)} for turn in turns]
    return {**body.inputs, name: {"messages": messages}}, body.inputs


def _said(outputs: Mapping[str, Any]) -> dict[str, Any]:
    """What was answered; the calls that led an agent to it are its own affair."""
    return {name: one for name, one in outputs.items() if name != _AGENTS_OWN}
