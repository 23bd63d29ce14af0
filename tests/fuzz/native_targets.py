"""The native operations as targets: bytes or choices in, outputs or failures out."""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import msgspec
from msgspec import Struct

from dspex.contracts import catalog
from dspex.contracts.encoding import decode, encode
from dspex.contracts.failures import Failure
from dspex.native.metrics.catalog import METRICS
from dspex.native.operations import OPERATIONS


class Target(Struct, frozen=True):
    """One operation.

    Attributes:
        body: The type of its body.
        function: What does it.
    """

    body: Any
    function: Callable[[Any], Struct]


TARGETS: dict[str, Target] = {
    name: Target(catalog.OPERATIONS[name].request, function)
    for name, function in OPERATIONS.items()
}
"""Every native operation, by name."""


def ask(target: Target, data: bytes) -> str:
    """Ask for an operation as the wire does.

    Returns:
        ``done``, or the code of the failure that came of it.
    """
    try:
        body = decode(data, target.body)
    except Failure as failure:
        return failure.code
    return perform(target, body)


def perform(target: Target, body: Any) -> str:
    """Do an operation; returns as `ask`."""
    try:
        encode(msgspec.to_builtins(target.function(body)))
    except Failure as failure:
        return failure.code
    return "done"


NASTY: tuple[Any, ...] = (
    *("", " ", "\0", "\u202e", "\U0001f600", "é" * 40, "a" * 3000, "1" * 400, "-0"),
    *("null", "NaN", "__class__", "__import__('os')", "../../etc/passwd", "$ref"),
    *("question -> answer: int", "q: list[str] -> a: Literal['x']", "a -> a"),
    *("q: dict[str, list[int | None]] -> a", "->", "q -> a: " + "list[" * 60),
    *("[[ ## answer ## ]]\n3\n[[ ## completed ## ]]", '{"answer": 3}', "<answer>3"),
    *("{{ a }}", "{{ a | upcase | split: '' | join: a }}", "{% for a in b %}", "{%-"),
    *("{% for i in (1..99) %}{{ a }}{% endfor %}", "{% raw %}", "{{", "}}", "%}"),
    *("{% assign a = a | append: a | times: 9 %}", "{% if a == b %}{% endif %}"),
    *("(a+)+$", "(?=a)", "[", "\\p{L}{3}", "#/$defs/a", "#", "http://127.0.0.1/x"),
    *(0, -1, 2**31, 2**63, -(2**63), 2**64 - 1, 10**400, 0.1, -0.0, 1e308, 5e-324),
    *(None, True, False, [], {}, [[]], {"": {}}, {"$ref": "#"}, {"type": "string"}),
    {"$defs": {"a": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"},
    {"allOf": [{"$ref": "#/$defs/a"}, {"$ref": "#/$defs/a"}], "$defs": {"a": {}}},
    {"properties": {"a": {"pattern": "^a+$", "minLength": 2}}, "required": ["a"]},
    {"items": {"$ref": "#"}, "uniqueItems": True, "unevaluatedItems": False},
    {"$schema": "http://json-schema.org/draft-07/schema#", "dependencies": {"a": []}},
    {"name": "a", "type": "int", "constraints": {"ge": 3, "pattern": "(a+)+$"}},
)
"""Values that have broken other programs."""

KEYWORDS = (
    *("$ref", "$dynamicRef", "$id", "$anchor", "$defs", "type", "const", "enum"),
    *("allOf", "anyOf", "oneOf", "not", "if", "then", "else", "properties", "items"),
    *("prefixItems", "contains", "minContains", "patternProperties", "pattern"),
    *("additionalProperties", "propertyNames", "unevaluatedProperties", "format"),
    *("unevaluatedItems", "uniqueItems", "multipleOf", "maximum", "required"),
    *("dependentSchemas", "minLength", "a", "b", "name", "fields", "answer"),
    *dict.fromkeys(
        name for one in METRICS.values() for name in one.parameters.__struct_fields__
    ),
)
"""Keys that mean something somewhere."""


NAMED: dict[str, tuple[Any, ...]] = {
    "metric": (*METRICS, "exact_mtach"),
    "prediction": ("the x", "", "İ the \u0301\u0323Σ a", "1,000.5", ["a", "the x"], 3),
    "predictions": (["the x", "é"], [["a", "b"], ""], ["1", 2], [{"a": 1}, None]),
    "answers": (
        "x",
        ["x", "é"],
        [["x"], "y"],
        ["a", ["b", "the é"]],
        [1, "2"],
        [{}, {}],
    ),
    "signature": ("question -> answer", "q: list[int] -> a: float, b: Literal['x']"),
    "text": ("[[ ## a ## ]]\n[1", "```json\n{'a': tru", "<a><b>1</a>", '{"a": 1} {'),
}
"""Values of fields, by their names, without which nothing behind them is reached."""


class Choices:
    """What a body is made of, chosen by somebody else.

    Args:
        number: Returns a number from 0 to below its argument.
        text: Returns a text.
    """

    def __init__(self, number: Callable[[int], int], text: Callable[[], str]) -> None:
        self._number = number
        self._text = text

    def value(self, wanted: Any, depth: int = 0) -> Any:
        """Return a value that fits a type, or now and then one that does not."""
        origin = get_origin(wanted)
        if self._number(40) == 0:
            return self._any(depth)
        if origin is Annotated:
            return self.value(get_args(wanted)[0], depth)
        if origin is Literal:
            return self._one_of(get_args(wanted))
        if origin in (Union, types.UnionType):
            return self.value(self._one_of(get_args(wanted)), depth)
        if origin in (list, dict):
            return self._filled(origin, get_args(wanted)[-1], depth)
        if isinstance(wanted, type) and issubclass(wanted, Struct):
            return self._struct(wanted, depth)
        return self._plain(wanted, depth)

    def _plain(self, wanted: Any, depth: int) -> Any:
        simple: dict[Any, Callable[[], Any]] = {
            str: self._some_text,
            int: lambda: self._number(2**64) - 2**63,
            float: lambda: self._number(1000) / 7,
            bool: lambda: bool(self._number(2)),
            type(None): lambda: None,
        }
        return simple.get(wanted, lambda: self._any(depth))()

    def _struct(self, wanted: type[Struct], depth: int) -> dict[str, Any]:
        return {
            field.encode_name: self._field(field, depth + 1)
            for field in msgspec.structs.fields(wanted)
            if field.encode_name != "options"
            and (field.required or self._number(2))
            and depth < _DEEPEST
        }

    def _field(self, field: Any, depth: int) -> Any:
        named = NAMED.get(field.encode_name)
        if named and self._number(4):
            return self._one_of(named)
        return self.value(field.type, depth)

    def _any(self, depth: int) -> Any:
        if depth > _DEEPEST or self._number(2):
            return self._one_of((*NASTY, self._some_text()))
        return self._filled(self._one_of((list, dict)), Any, depth)

    def _filled(self, kind: Any, inner: Any, depth: int) -> Any:
        count = self._number(4) if depth < _DEEPEST else 0
        values = [self.value(inner, depth + 1) for _ in range(count)]
        if kind is list:
            return values
        return {self._one_of((*KEYWORDS, self._text())): one for one in values}

    def _some_text(self) -> str:
        texts = tuple(one for one in NASTY if isinstance(one, str))
        count = self._number(4)
        return "".join(self._one_of((*texts, self._text())) for _ in range(count))

    def _one_of(self, choices: tuple[Any, ...]) -> Any:
        return choices[self._number(len(choices))]


_DEEPEST = 5
