"""The fields of a prompt, and how the chat and the JSON adapter write them.

A writer is made once per signature and then only puts values into their places.
"""

from __future__ import annotations

import json
import textwrap
from itertools import count
from typing import TYPE_CHECKING, Any, NamedTuple

from dspex.native.prompts.hints import described, formatted_as, placeholder
from dspex.native.prompts.values import STR, Values, jsonable
from dspex.native.types.kinds import DspyType
from dspex.native.types.tree import ANY, nodes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from dspex.native.prompts.dialects import Dialect
    from dspex.native.signatures.compiling import Slot
    from dspex.native.types.tree import TypeExpr

HISTORY = DspyType("History")
"""The type of an input that becomes turns of its own."""

_STRUCTURE = (
    "All interactions will be structured in the following way, "
    "with the appropriate values filled in."
)


class Part(NamedTuple):
    """A field of a prompt.

    Attributes:
        name: Its name.
        type: Its type.
        values: Writes its values.
        mark: What stands before a value in a chat.
    """

    name: str
    type: TypeExpr
    values: Values
    mark: str


class Plan(NamedTuple):
    """What a prompt is made of.

    Attributes:
        inputs: The inputs.
        outputs: The outputs.
        instructions: What to do.
    """

    inputs: tuple[Slot, ...]
    outputs: tuple[Slot, ...]
    instructions: str


class Chat:
    """Writes prompts as the chat adapter does.

    Args:
        plan: What the prompt is made of.
        dialect: The release of DSPy.

    Attributes:
        system: The first message.
        inputs: The inputs as examples hold them: values as they were sent, except
            those of DSPy's own types.
        outputs: The outputs in the same way.
        history: Name of the input that is a history, if one is.
        asked: The inputs without the history, with values of their types.
        told: Those as a turn of the history holds them: just as they were sent.
        answered: The outputs in the same way.

    Raises:
        Unsupported: The release does not know one of the types.
    """

    native_tools = False
    """Whether tool calls in a history are messages of their own."""

    def __init__(self, plan: Plan, dialect: Dialect) -> None:
        self.dialect = dialect
        inputs = _parts(plan.inputs, dialect)
        outputs = _parts(plan.outputs, dialect)
        self.inputs = tuple(_as_shown(part, dialect) for part in inputs)
        self.outputs = tuple(_as_shown(part, dialect) for part in outputs)
        self.history = next((p.name for p in inputs if p.type == HISTORY), None)
        self.asked = tuple(part for part in inputs if part.name != self.history)
        self.told = tuple(_as_sent(part, dialect) for part in self.asked)
        self.answered = tuple(_as_sent(part, dialect) for part in outputs)
        self._reminder = self.reminder()
        self.system = "\n".join(
            (
                f"Your input fields are:\n{_numbered(plan.inputs, dialect)}",
                f"Your output fields are:\n{_numbered(plan.outputs, dialect)}",
                f"{_STRUCTURE}\n\n{self.structure()}",
                "In adhering to this structure, your objective is: "
                + _objective(plan.instructions),
            )
        )

    def user(
        self,
        values: Mapping[str, Any],
        parts: Sequence[Part],
        *,
        asks: bool = False,
        prefix: str = "",
    ) -> str:
        """Write inputs.

        Args:
            values: The values; those left out are skipped.
            parts: The inputs to write.
            asks: Whether to ask for the outputs.
            prefix: What to say before them, where nothing is asked.

        Raises:
            InvalidInputs: DSPy could not write a value.
        """
        found = self.given(values, parts)
        if asks:
            return "\n\n".join((*found, self._reminder))
        return "\n\n".join((prefix, *found)).strip()

    def assistant(
        self,
        values: Mapping[str, Any],
        parts: Sequence[Part],
        missing: str | None = None,
    ) -> str:
        """Write outputs, as the model should.

        Args:
            values: The values.
            parts: The outputs to write.
            missing: What stands for those left out.

        Raises:
            InvalidInputs: DSPy could not write a value.
        """
        shown = {part.name: values.get(part.name, missing) for part in parts}
        text = "\n\n".join(self.given(shown, parts)).strip()
        return text + "\n\n[[ ## completed ## ]]\n" * self.dialect.turns_completed

    def given(self, values: Mapping[str, Any], parts: Sequence[Part]) -> list[str]:
        """Write the values that are there, one by one."""
        return [
            part.mark + part.values.text(values[part.name])
            for part in parts
            if part.name in values
        ]

    def structure(self) -> str:
        """Show where values stand in the prompt and in the answer."""
        inputs = (f"{p.mark}{{{p.name}}}" for p in self.inputs)
        outputs = (p.mark + self.hint(p) for p in self.outputs)
        return "\n\n".join((*inputs, *outputs, "[[ ## completed ## ]]"))

    def reminder(self) -> str:
        """Ask for the outputs."""
        fields = (
            f"`[[ ## {part.name} ## ]]`{formatted_as(part.type, self.dialect)}"
            for part in self.outputs
        )
        return (
            "Respond with the corresponding output fields, starting with the field "
            f"{', then '.join(fields)}, and then ending with the marker for "
            "`[[ ## completed ## ]]`."
        )

    def hint(self, part: Part) -> str:
        """Write what stands for the value of an output."""
        return placeholder(part.name, part.type, self.dialect)

    def block(self, name: str, text: str) -> str:
        """Write an input by its name."""
        return f"[[ ## {name} ## ]]\n{text}"


class Json(Chat):
    """Writes prompts as the JSON adapter does."""

    native_tools = True

    def assistant(
        self,
        values: Mapping[str, Any],
        parts: Sequence[Part],
        missing: str | None = None,
    ) -> str:
        """Write outputs as one JSON object."""
        built = {
            part.name: part.values.python(values.get(part.name, missing))
            for part in parts
        }
        try:
            return self._written(jsonable(built))
        except UnicodeDecodeError:
            # Bytes that are no text: then DSPy prints all of it as Python.
            return self._written(str(built))

    def structure(self) -> str:
        """Show the inputs as in a chat, and the outputs as a JSON object."""
        inputs = (f"{p.mark}{{{p.name}}}" for p in self.inputs)
        return "\n\n".join(
            (
                "Inputs will have the following structure:",
                *inputs,
                "Outputs will be a JSON object with the following fields.",
                self._written({part.name: self.hint(part) for part in self.outputs}),
            )
        )

    def reminder(self) -> str:
        """Ask for a JSON object."""
        fields = (
            f"`{part.name}`{formatted_as(part.type, self.dialect)}"
            for part in self.outputs
        )
        return (
            "Respond with a JSON object in the following order of fields: "
            f"{', then '.join(fields)}."
        )

    def _written(self, value: Any) -> str:
        return json.dumps(value, indent=2, ensure_ascii=self.dialect.ascii_objects)


def part_of(name: str, expr: TypeExpr, dialect: Dialect) -> Part:
    """Make a field ready to be written."""
    return Part(name, expr, Values(name, expr, dialect), f"[[ ## {name} ## ]]\n")


def _parts(slots: Sequence[Slot], dialect: Dialect) -> tuple[Part, ...]:
    return tuple(part_of(field.name, expr, dialect) for field, expr in slots)


def _as_shown(part: Part, dialect: Dialect) -> Part:
    own = any(isinstance(node, DspyType) for node in nodes(part.type))
    return part if own else _as_sent(part, dialect)


def _as_sent(part: Part, dialect: Dialect) -> Part:
    plain = STR if part.type == STR else ANY
    return part._replace(values=Values(part.name, plain, dialect))


def _numbered(slots: Sequence[Slot], dialect: Dialect) -> str:
    lines = zip(count(1), slots, strict=False)
    return "\n".join(f"{i}. {described(*slot, dialect)}" for i, slot in lines).strip()


def _objective(instructions: str) -> str:
    lines = textwrap.dedent(instructions).splitlines()
    return "".join(f"\n        {line}" for line in lines)
