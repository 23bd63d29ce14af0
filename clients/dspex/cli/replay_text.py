"""Prompts and replies as text that a person changes in an editor: pure."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from dspex.contracts.failures import BadRequest
from dspex.services.replay.stepping import Prompt, Reply

if TYPE_CHECKING:
    from dspex.contracts.replays import Difference
    from dspex.services.replay.stepping import Step

_ROLE = re.compile(r"\[(system|developer|user|assistant|tool)\]")


def asked_text(step: Step) -> str:
    """What a call asks: messages under their roles, where that says all of them."""
    if not step.call:
        return _json(step.arguments)
    return _under_roles(step.messages) or _json(step.messages)


def read_asked(text: str, step: Step) -> Prompt:
    """The same, changed.

    Raises:
        BadRequest: It is none any more.
    """
    if not step.call:
        return Prompt(arguments=_read_json(text))
    messages = _by_roles(text) if _under_roles(step.messages) else _read_json(text)
    if not isinstance(messages, list) or not messages:
        raise BadRequest("A prompt begins with a role such as [user] on its own line.")
    return Prompt(messages=messages)


def reply_text(step: Step) -> str:
    """What was answered: the text, where it is one."""
    if not step.call:
        return _json(step.recorded)
    outputs = step.recorded or [""]
    return outputs[0] if _is_text(outputs) else _json(outputs)


def read_reply(text: str, step: Step) -> Reply:
    """The same, changed.

    Raises:
        BadRequest: It is none any more.
    """
    if not step.call:
        return Reply(result=_read_json(text))
    if _is_text(step.recorded or [""]):
        return Reply(text=text)
    outputs = _read_json(text)
    if not isinstance(outputs, list):
        raise BadRequest("This reply is a JSON list, an element for each choice.")
    return Reply(outputs=outputs)


def difference(found: Difference, width: int) -> str:
    """Where two ends differ, and what each has there, in ``width`` characters each."""
    sides = (_short(one, width) for one in (found.recorded, found.replayed))
    return f"{found.path}: {' -> '.join(sides)}"


def _short(value: Any, width: int) -> str:
    text = "nothing" if value is None else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= width else f"{text[: width - 1]}…"


def _is_text(outputs: list[Any]) -> bool:
    return len(outputs) == 1 and isinstance(outputs[0], str)


def _under_roles(messages: list[Any]) -> str:
    """Messages as text; empty: they would not be the same when they are read."""
    try:
        text = "\n".join(f"[{one['role']}]\n{one['content']}" for one in messages)
    except (KeyError, TypeError):
        return ""
    return text if _by_roles(text) == messages else ""


def _by_roles(text: str) -> list[dict[str, Any]]:
    found: list[tuple[str, list[str]]] = []
    for line in text.split("\n"):
        if role := _ROLE.fullmatch(line):
            found.append((role[1], []))
        elif found:
            found[-1][1].append(line)
        elif line.strip():
            return []
    return [{"role": role, "content": "\n".join(lines)} for role, lines in found]


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)


def _read_json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise BadRequest(f"This is no JSON: {error}.") from None
