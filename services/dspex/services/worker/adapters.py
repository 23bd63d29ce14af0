"""Which adapter writes the prompt and reads the reply.

Adapters keep nothing between calls, so one of each serves every request.
"""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import dspy
from dspy.adapters.utils import format_field_value

from dspex.contracts.failures import BadRequest, Unsupported, nearest


class JSONAdapter(dspy.JSONAdapter):  # type: ignore[misc]  # DSPy ships no types
    """JSON with a prompt of one line, for models that lose their way in a long one.

    A model of 135M parameters copies DSPy's field markers instead of answering.
    The JSON Schema that goes with the request already forces the shape of the
    reply, so the prompt only has to say the task and the names.
    """

    # It keeps the name of its parent: DSPy's stream listeners know adapters by the
    # name of their class and refuse others. Ours do not, but a program's own may.

    def format_system_message(self, signature: type[dspy.Signature]) -> str:
        """Say the task and the names of the outputs."""
        task = signature.instructions
        if task.startswith("Given the fields"):  # DSPy's words when nobody gave any
            task = "Answer correctly and briefly."
        return f"{task} Reply in JSON with: {', '.join(signature.output_fields)}."

    def format_user_message_content(
        self,
        signature: type[dspy.Signature],
        inputs: dict[str, Any],
        prefix: str = "",
        suffix: str = "",
        main_request: bool = False,
    ) -> str:
        """Write each input as `name: value`, without a reminder of the format."""
        del main_request
        lines = [
            f"{name}: {format_field_value(field_info=field, value=inputs[name])}"
            for name, field in signature.input_fields.items()
            if name in inputs
        ]
        return "\n".join(part for part in (prefix.strip(), *lines, suffix) if part)

    def format_assistant_message_content(
        self,
        signature: type[dspy.Signature],
        outputs: dict[str, Any],
        missing_field_message: str | None = None,
    ) -> str:
        """Write a demonstration's answer as the model should: JSON on one line."""
        text = super().format_assistant_message_content(
            signature, outputs, missing_field_message
        )
        return json.dumps(json.loads(text), ensure_ascii=False)


_ADAPTERS: dict[str, type[dspy.Adapter] | None] = {
    "chat": dspy.ChatAdapter,
    "json": dspy.JSONAdapter,
    "xml": getattr(dspy, "XMLAdapter", None),  # since 3.0
}


@cache
def adapter(name: str | None, lm_is_builtin: bool = False) -> dspy.Adapter:
    """Return the adapter of a request.

    Args:
        name: `chat`, `json` or `xml`; None takes what suits the model: `chat`, and
            for the built-in model the one with the short prompt.
        lm_is_builtin: Whether the built-in model will answer.

    Raises:
        BadRequest: No adapter has that name.
        Unsupported: The installed release of DSPy lacks it.
    """
    if name is None and lm_is_builtin:
        return JSONAdapter()
    if (name or "chat") not in _ADAPTERS:
        raise BadRequest(
            f"Unknown adapter {name!r}. {nearest(str(name), _ADAPTERS)}",
            hint="Leave `adapter` out to take the one that suits the model.",
            field="adapter",
        )
    known = _ADAPTERS[name or "chat"]
    if known is None:
        raise Unsupported(
            f"DSPy {dspy.__version__}, which this worker runs, has no {name} adapter.",
            hint="Use another adapter, or a pool with a newer DSPy.",
            field="adapter",
        )
    return known()
