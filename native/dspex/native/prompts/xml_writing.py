"""How the XML adapter writes the fields of a prompt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import quoteattr

from dspex.contracts.failures import Unsupported
from dspex.native.prompts.hints import json_schema
from dspex.native.prompts.values import STR
from dspex.native.prompts.writing import Chat
from dspex.native.types.kinds import DspyType, SchemaType
from dspex.native.types.tree import (
    DEFINITIONS,
    NONE,
    Collection,
    DictType,
    TypeExpr,
    UnionType,
)
from dspex.native.work import TooMuch, Work

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from dspex.native.prompts.writing import Part

_ELEMENTS = 10_000
"""The most elements that show the form of one output."""


class Xml(Chat):
    """Writes prompts as the XML adapter does."""

    def assistant(
        self,
        values: Mapping[str, Any],
        parts: Sequence[Part],
        missing: str | None = None,
    ) -> str:
        """Write outputs, each in an element of its name."""
        found = (self._output(part, values.get(part.name, missing)) for part in parts)
        text = "\n\n".join(found).strip()
        return text + "\n\n[[ ## completed ## ]]\n" * self.dialect.xml_completed

    def given(self, values: Mapping[str, Any], parts: Sequence[Part]) -> list[str]:
        """Write the inputs that are there, each in an element of its name."""
        if not self.dialect.xml_inputs:
            return super().given(values, parts)
        found = (p for p in parts if p.name in values)
        blocks = [_element(p.name, p.values.text(values[p.name])) for p in found]
        return blocks and ["\n\n".join(blocks)]

    def structure(self) -> str:
        """Show where values stand in the prompt and in the answer."""
        inputs = (_element(part.name, f"{{{part.name}}}") for part in self.inputs)
        outputs = (
            self._form(p) or _element(p.name, self.hint(p)) for p in self.outputs
        )
        end = ["[[ ## completed ## ]]"] if self.dialect.xml_completed else []
        return "\n\n".join((*inputs, *outputs, *end))

    def reminder(self) -> str:
        """Ask for the outputs."""
        fields = ", then ".join(f"`<{part.name}>`" for part in self.outputs)
        text = "Respond with the corresponding output fields wrapped in XML tags"
        if self.dialect.xml_completed:
            return f"{text}{fields}, and then end with the `<completed>` tag."
        forms = " ".join(filter(None, map(self._form, self.outputs)))
        more = f" Use this nested XML structure: {forms}" if forms else ""
        return f"{text} {fields}.{more}"

    def block(self, name: str, text: str) -> str:
        """Write an input in an element of its name."""
        if not self.dialect.xml_inputs:
            return super().block(name, text)
        return _element(name, text)

    def _is_nested(self, part: Part) -> bool:
        return self.dialect.xml_nested and _nested(part.type)

    def _form(self, part: Part) -> str:
        if not self._is_nested(part):
            return ""
        schema = json_schema(part.name, part.type)
        try:
            return _shape(part.name, schema, schema.get("$defs", {}), Work(_ELEMENTS))
        except TooMuch:
            raise Unsupported(
                f"The form of the output {part.name!r} has more than {_ELEMENTS} "
                "elements when it is written out as XML.",
                hint="Use another adapter, or a simpler type.",
                field=part.name,
            ) from None

    def _output(self, part: Part, value: Any) -> str:
        if self._is_nested(part):
            found = part.values.jsonable(value)
            if isinstance(found, (dict, list)):
                return _nested_element(found, part.name)
        text = part.values.text(value)
        if part.type == STR and self.dialect.xml_nested:
            text = _escaped(text)
        return _element(part.name, text)


def _element(name: str, text: str) -> str:
    return f"<{name}>\n{text}\n</{name}>"


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;")


def _nested(expr: TypeExpr) -> bool:
    if isinstance(expr, UnionType):
        others = [member for member in expr.members if member != NONE]
        expr = others[0] if len(others) == 1 else expr
    if isinstance(expr, Collection) and expr.kind == "list":
        return expr.item is not None and not isinstance(expr.item, DspyType)
    if isinstance(expr, DictType):
        return expr.value is not None
    return isinstance(expr, SchemaType) and expr.kind == "object"


def _nested_element(value: Any, tag: str, key: str | None = None) -> str:
    start = tag if key is None else f"{tag} key={quoteattr(key)}"
    if isinstance(value, list):
        inner = "".join(_nested_element(item, "item") for item in value)
        return f"<{start}>{inner}</{tag}>" if inner else f"<{start} />"
    if isinstance(value, dict):
        inner = "".join(_entry(str(name), item) for name, item in value.items())
        return f"<{start}>{inner}</{tag}>"
    return (
        f"<{start} />" if value is None else f"<{start}>{_escaped(str(value))}</{tag}>"
    )


def _entry(name: str, value: Any) -> str:
    plain = name[:1] + name[1:].replace("-", "_").replace(".", "_")
    if plain.isidentifier():
        return _nested_element(value, name)
    return _nested_element(value, "entry", name)


def _shape(
    tag: str,
    schema: Any,
    definitions: Mapping[str, Any],
    work: Work,
    seen: frozenset[str] = frozenset(),
) -> str:
    work.spend(1)
    schema, seen = _resolved(schema, definitions, seen)
    if schema.get("type") == "array":
        item = _shape("item", schema.get("items", {}), definitions, work, seen)
        return f"<{tag}>{item}</{tag}>"
    inner = "".join(
        _shape(name, child, definitions, work, seen)
        for name, child in schema.get("properties", {}).items()
    )
    return f"<{tag}>{inner or '...'}</{tag}>"


def _resolved(
    schema: Any, definitions: Mapping[str, Any], seen: frozenset[str]
) -> tuple[dict[str, Any], frozenset[str]]:
    """Follow references and alternatives, a reference back to nowhere."""
    while isinstance(schema, dict):
        name = schema.get("$ref", "").removeprefix(DEFINITIONS)
        if name in seen or (name and name not in definitions):
            return {}, seen
        if name:
            schema, seen = definitions[name], seen | {name}
        elif schema.get("anyOf"):
            schema = _first(schema["anyOf"])
        else:
            return schema, seen
    return {}, seen


def _first(choices: list[Any]) -> Any:
    # Not null, if anything else is allowed.
    nulls = [isinstance(one, dict) and one.get("type") == "null" for one in choices]
    found = (one for one, null in zip(choices, nulls, strict=True) if not null)
    return next(found, choices[0])
