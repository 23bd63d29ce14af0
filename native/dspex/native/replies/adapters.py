"""The adapters of DSPy, as far as they read replies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import UNSET, Struct

from dspex.contracts.failures import ParseFailed
from dspex.native.prompts.hints import json_schema
from dspex.native.replies.json_text import (
    REPAIR_LIMIT,
    REPAIR_STEPS,
    braces,
    loads,
    sound,
)
from dspex.native.replies.sections import Sections
from dspex.native.replies.validators import OWN_TEXTS, validator
from dspex.native.replies.values import STR, reader
from dspex.native.replies.wire import wire
from dspex.native.replies.xml_text import elements, flat, value_of
from dspex.native.types.kinds import DspyType
from dspex.native.types.tokens import shortened
from dspex.native.types.tree import TypeExpr, accepts_none
from dspex.native.work import TooMuch, Work

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from dspex.native.replies.dialects import Reading

SHOWN = 300
"""How much of a reply a failure shows, in characters."""


_NONE = Work(0)


class Output(Struct, frozen=True):
    """A field to be read.

    Attributes:
        name: Its name.
        type: Its type.
        default: Its value where the reply has none; ``UNSET`` for no default.
    """

    name: str
    type: TypeExpr
    default: Any = UNSET


class Replies:
    """Reads the replies to one signature, as one adapter of one release does.

    Args:
        outputs: The fields to be read, in order.
        reading: What the release reads.
    """

    def __init__(self, outputs: Sequence[Output], reading: Reading) -> None:
        self.outputs = {output.name: output for output in outputs}
        self.reading = reading
        self._names = [*self.outputs]
        self._readers = {
            output.name: reader(output.name, output.type, reading) for output in outputs
        }
        self._texts = {output.name for output in outputs if output.type == STR}
        self._typed = [
            (name, read)
            for name, read in self._readers.items()
            if name not in self._texts
        ]
        self._converted = self._names

    def parse(self, text: str) -> dict[str, Any]:
        """Read a reply.

        Returns:
            A JSON value per field.

        Raises:
            ParseFailed: DSPy would refuse it, or it cannot be read within bounds.
            OutputInvalid: JSON cannot say what it holds.
        """
        if not text:
            return self._empty()
        found = self._fields(text)
        if [*found] != self._names:
            found = self._complete(found, text)
        for name in self._converted:
            value = found[name]
            if type(value) is not str or not value.isascii():
                found[name] = wire(value)
        return found

    def _fields(self, text: str) -> dict[str, Any]:
        """Read the fields that a reply holds, as Python has them."""
        raise NotImplementedError

    def _read(
        self, name: str, read: Callable[[Any, Work], Any], value: Any, work: Work
    ) -> Any:
        try:
            return read(value, work)
        except TooMuch:
            raise _knotty(value, name) from None
        except (ValueError, TypeError, RecursionError, MemoryError) as error:
            raise self._misfit(name, value, error) from None

    def _misfit(self, name: str, value: Any, error: BaseException) -> ParseFailed:
        wanted = shortened(self.outputs[name].type.describe(), 200)
        return ParseFailed(
            f"The reply's {name!r} is no {wanted}: {_shown(value)}. {_said(error)}",
            hint="Ask again, or declare the output as str.",
            field=name,
        )

    def _complete(self, found: dict[str, Any], text: str) -> dict[str, Any]:
        if self.reading.left_out:
            found = {
                name: found[name] if name in found else self._left_out(output)
                for name, output in self.outputs.items()
            }
        missing = [name for name in self._names if found.get(name, UNSET) is UNSET]
        if missing:
            raise ParseFailed(
                f"The reply does not hold {', '.join(map(repr, missing))} of "
                f"{', '.join(map(repr, self._names))}. It reads: {_shown(text)}.",
                hint="Ask again, or take another adapter.",
                field=missing[0],
            )
        return found

    def _left_out(self, output: Output) -> Any:
        if output.default is not UNSET:
            # A copy: the signature is shared.
            return msgspec.to_builtins(output.default)
        return None if accepts_none(output.type) else UNSET

    def _empty(self) -> dict[str, Any]:
        if self.reading.empty_fails:
            raise ParseFailed("The reply is empty.", hint="Ask again.")
        return dict.fromkeys(self._names)


class ChatReplies(Replies):
    """Reads replies in the format of ``dspy.ChatAdapter``."""

    def __init__(self, outputs: Sequence[Output], reading: Reading) -> None:
        super().__init__(outputs, reading)
        sections = Sections(self._names)
        self._sections = sections.find
        self._exact = sections.exact
        # A section of a reply is text that JSON can say.
        self._converted = [name for name, _ in self._typed]

    def parse(self, text: str) -> dict[str, Any]:
        """Read a reply, as `Replies.parse`."""
        # The shortest way to what most replies are: texts alone, and all there.
        if not self._typed and (found := self._exact(text)):
            return found
        return super().parse(text)

    def _fields(self, text: str) -> dict[str, Any]:
        found: dict[str, Any] = self._sections(text)
        if self._typed:
            work = Work(REPAIR_STEPS)
            for name, read in self._typed:
                if name in found:
                    found[name] = self._read(name, read, found[name], work)
        return found


class JsonReplies(Replies):
    """Reads replies in the format of ``dspy.JSONAdapter``."""

    def _fields(self, text: str) -> dict[str, Any]:
        members: Any = sound(text) if self.reading.json_first else None
        sure = type(members) is dict
        # Texts take none; making it takes longer than to read them.
        work = _NONE if sure and not self._typed else Work(REPAIR_STEPS)
        if not sure:
            members = self._members(text, work)
        readers, texts = self._readers, self._texts
        return {
            name: value
            if type(value) is str and name in texts
            else self._read(name, readers[name], value, work)
            for name, value in members.items()
            if name in readers
        }

    def _members(self, text: str, work: Work) -> dict[str, Any]:
        found: Any = None
        try:
            if self.reading.json_first:
                found = loads(text, work)
            if not isinstance(found, dict):
                found = loads(braces(text) or text, work)
        except TooMuch:
            raise _knotty(text) from None
        except (ValueError, TypeError, RecursionError):
            pass
        if isinstance(found, dict):
            return found
        raise ParseFailed(
            f"The reply is no JSON object: {_shown(text)}.",
            hint="Ask again, or take another adapter.",
        )


class FlatXmlReplies(Replies):
    """Reads replies in the format of ``dspy.XMLAdapter`` before 3.3.1."""

    def _fields(self, text: str) -> dict[str, Any]:
        work = Work(REPAIR_STEPS)
        return {
            name: self._read(name, self._readers[name], value, work)
            for name, value in flat(text, self.outputs).items()
        }


class XmlReplies(Replies):
    """Reads replies in the format of ``dspy.XMLAdapter``."""

    def __init__(self, outputs: Sequence[Output], reading: Reading) -> None:
        super().__init__(outputs, reading)
        self._schemas = {output.name: _schema(output) for output in outputs}
        self._validators = {
            output.name: validator(output.name, output.type) for output in outputs
        }

    def _fields(self, text: str) -> dict[str, Any]:
        try:
            found = elements(text)
        except ValueError as error:
            raise ParseFailed(
                f"The reply cannot be read: {error}. It reads: {_shown(text)}.",
                hint="Ask again, or take another adapter.",
            ) from None
        work = Work(REPAIR_STEPS)
        return {
            name: self._field(name, found[name], work)
            for name in self._names
            if name in found
        }

    def _field(self, name: str, found: Sequence[Any], work: Work) -> Any:
        schema = self._schemas[name]
        known = schema.get("$defs", {})
        value, problem = None, ValueError()
        for choice in (schema, *schema.get("anyOf", ())):
            try:
                value = value_of(found, choice, known)
                return self._value(name, value, work)
            except TooMuch:
                raise _knotty(value, name) from None
            except ValueError as error:
                problem = error
            except (TypeError, RecursionError, MemoryError) as error:
                raise self._misfit(name, value, error) from None
        raise self._misfit(name, value, problem)

    def _value(self, name: str, value: Any, work: Work) -> Any:
        try:
            return self._readers[name](value, work)
        except ValueError:
            # What is no JSON may still be what pydantic takes.
            return self._validators[name](value)


def _schema(output: Output) -> dict[str, Any]:
    if isinstance(output.type, DspyType) and output.type.name in OWN_TEXTS:
        properties = {OWN_TEXTS[output.type.name]: {"type": "string"}}
        return {"type": "object", "properties": properties}
    return json_schema(output.name, output.type)


def _knotty(value: Any, name: str | None = None) -> ParseFailed:
    return ParseFailed(
        f"The reply is too long or too knotty to be repaired: {_shown(value)}.",
        hint=f"Ask again. At most {REPAIR_LIMIT} characters of broken JSON are read.",
        field=name,
    )


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else repr(value)
    return repr(shortened(text, SHOWN))


def _said(error: BaseException) -> str:
    listed = getattr(error, "errors", None)
    if listed is None:
        return f"{shortened(str(error), 200).capitalize()}."
    first = listed(include_url=False, include_input=False, include_context=False)[0]
    where = ".".join(map(str, first["loc"]))
    return shortened(f"{where}: {first['msg']}." if where else f"{first['msg']}.", 200)
