"""Signature text read at a glance: plain names, and types that were read before.

Most new signatures are new in their names only. Their text is cut at its colons and
commas without tokens, and each type looked up by its text. Brackets are counted here
and quotes are not: a cut inside of a quoted text leaves pieces with half a quote, which
are no types. So whatever is made out here is what `parsing` makes of it; what is not is
left to `parsing`, which also says what is wrong with it.
"""

from __future__ import annotations

import keyword
import re
from typing import TYPE_CHECKING, NamedTuple

from dspex.contracts.failures import InvalidSignature
from dspex.contracts.signatures import Field, FieldSpec
from dspex.native.checking.accepting import acceptor
from dspex.native.keeping import Remembered
from dspex.native.signatures.encoding import refuse_markers
from dspex.native.signatures.parsing import (
    FIELD_LIMIT,
    NAME_LIMIT,
    RESERVED,
    field_of,
    infer_prefix,
    type_of,
)
from dspex.native.types.tokens import TEXT_LIMIT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dspex.contracts.signatures import Kind
    from dspex.native.checking.accepting import Acceptor
    from dspex.native.types.tree import TypeExpr

_SPACE = r"[ \t\f\r\n]*+"
_INSIDE = r"[^][]*+"
for _ in range(3):
    _INSIDE = rf"(?:[^][]++|\[{_INSIDE}\])*+"
# A name, a type if there is a colon, and what ends the field. Nothing is tried twice.
_FIELD = re.compile(
    rf"{_SPACE}([A-Za-z][0-9A-Za-z_]*+){_SPACE}"
    rf"(?::((?:[0-9A-Za-z_.| \t\f\r\n]++|\[{_INSIDE}\])++))?(,|->|\Z)"
)
_REFUSED = RESERVED | frozenset(keyword.kwlist)
# Of the types remembered, together.
_CHARACTERS = 100_000


class Familiar(NamedTuple):
    """A type that was read before.

    Attributes:
        expr: The type.
        model: A field of that type.
        acceptor: Says whether values are of it.
    """

    expr: TypeExpr
    model: Field
    acceptor: Acceptor


def glance(text: str) -> list[tuple[Field, Familiar]] | None:
    """Read a signature's text, if that is plain.

    Returns:
        Its inputs and then its outputs, or ``None`` if it has to be read with care.
    """
    if len(text) > TEXT_LIMIT:
        return None
    try:
        found = list(_fields(text))
    except (_NotPlain, InvalidSignature):
        return None
    names = {field.name for field, _ in found}
    return found if len(names) == len(found) <= FIELD_LIMIT else None


class _NotPlain(Exception):
    """There is more to it than can be seen at a glance."""


def _fields(text: str) -> Iterator[tuple[Field, Familiar]]:
    kind: Kind = "input"
    at, mark = 0, ","
    while mark:
        seen = _FIELD.match(text, at)
        if seen is None:
            raise _NotPlain
        name, written, mark = seen.groups()
        yield _declared(name, kind, _FAMILIAR[written.strip() if written else "str"])
        at = seen.end()
        if mark == "->":
            if kind == "output":
                raise _NotPlain
            kind = "output"
    if kind == "input":
        raise _NotPlain


def _declared(name: str, kind: Kind, familiar: Familiar) -> tuple[Field, Familiar]:
    if name in _REFUSED or len(name) > NAME_LIMIT:
        raise _NotPlain
    field = Field(
        name=name,
        kind=kind,
        type=familiar.model.type,
        schema=familiar.model.schema,
        description=f"${{{name}}}",
        prefix=f"{infer_prefix(name)}:",
    )
    return field, familiar


def _read(written: str) -> Familiar:
    spec = FieldSpec(name="name", kind="input", type=written)
    expr = type_of(spec, {})
    model = field_of(spec, expr)
    refuse_markers(model)
    return Familiar(expr, model, acceptor(expr))


_FAMILIAR = Remembered(_read, _CHARACTERS)
