"""``schema.validate``: a value against a JSON Schema, draft 2020-12 or 7."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from dspex.contracts.failures import BadRequest
from dspex.contracts.native_requests import SchemaFault, ValidatedSchema
from dspex.native.keeping import Kept
from dspex.native.schemas.compiling import Compiler
from dspex.native.schemas.documents import Document, dialect_of
from dspex.native.schemas.nodes import (
    DEPTH_LIMIT,
    SCHEMA_CHECK_LIMIT,
    Enough,
    Node,
    Run,
    TooDeep,
)
from dspex.native.work import TooMuch

if TYPE_CHECKING:
    from dspex.contracts.native_requests import ValidateSchema

SIZE_LIMIT = 256 * 1024
"""The largest schema, bytes of JSON."""
NESTING_LIMIT = 64
"""How deep the arrays and objects of a schema may be nested."""
ENTRY_LIMIT = 512
"""The most schemas kept ready."""
KEPT_LIMIT = 32 * 1024 * 1024
"""What the schemas kept ready may weigh together, bytes."""
# What a schema made ready takes for each byte of its source, by measurement.
_GROWTH = 40


class Ready(NamedTuple):
    """A schema made ready.

    Attributes:
        root: What checks values.
        size: What it weighs, bytes.
    """

    root: Node
    size: int


_KEPT: Kept[Ready] = Kept(ENTRY_LIMIT, KEPT_LIMIT)


def validate_schema(body: ValidateSchema) -> ValidatedSchema:
    """Check a value against a JSON Schema.

    Args:
        body: The schema and the value.

    Returns:
        Whether the value is valid, and what is wrong with it.

    Raises:
        BadRequest: The schema is not sound, or the check takes too many steps or
            goes too deep.
        Unsupported: The schema is of another draft or refers to another document.
    """
    errors = faults(body.schema, body.value)
    return ValidatedSchema(valid=not errors, errors=errors)


def faults(schema: dict[str, Any] | bool, value: Any) -> list[SchemaFault]:
    """Return what is wrong with a value, the first hundred faults.

    Args:
        schema: A JSON Schema.
        value: A JSON value.

    Raises:
        BadRequest: See `validate_schema`.
        Unsupported: See `validate_schema`.
    """
    root = ready(schema).root
    run = Run()
    try:
        if not root.accepts(value, run):
            root.find(value, run, ())
    except Enough:
        pass
    except TooMuch:
        raise BadRequest(
            f"The check takes more than {SCHEMA_CHECK_LIMIT} steps.",
            hint="Send a smaller value, or a schema with fewer alternatives in it.",
            field="value",
        ) from None
    except TooDeep:
        raise _too_deep("value") from None
    return list(run.faults.values())


def ready(schema: dict[str, Any] | bool) -> Ready:
    """Make a schema ready, or find it ready.

    Raises:
        BadRequest: It is not sound, or too large.
        Unsupported: It is of another draft or refers to another document.
    """
    key = _encoded(schema)
    found = _KEPT.get(key)
    if found is None:
        found = _made_ready(schema, len(key))
        _KEPT.keep(key, found, found.size)
    return found


def _made_ready(schema: dict[str, Any] | bool, size: int) -> Ready:
    if size > SIZE_LIMIT:
        raise BadRequest(
            f"The schema has {size} bytes, more than {SIZE_LIMIT}.",
            hint="Leave out what the value does not need.",
            field="schema",
        )
    dialect = dialect_of(schema)
    _refuse_nesting(schema)
    compiler = Compiler(Document(schema, dialect))
    try:
        root = compiler.compile()
    except (TooMuch, TooDeep):
        raise _too_deep("schema") from None
    return Ready(root, size * _GROWTH + compiler.size)


def _refuse_nesting(schema: Any) -> None:
    level = [schema]
    for _ in range(NESTING_LIMIT + 1):
        level = [
            part
            for whole in level
            if isinstance(whole, (dict, list))
            for part in (whole.values() if isinstance(whole, dict) else whole)
        ]
        if not level:
            return
    raise BadRequest(
        f"The schema is nested deeper than {NESTING_LIMIT} arrays and objects.",
        hint="Put inner schemas under $defs and refer to them.",
        field="schema",
    )


def _too_deep(field: str) -> BadRequest:
    return BadRequest(
        f"The check goes through more than {DEPTH_LIMIT} schemas at a time: the value "
        "is nested too deep, or a reference leads back to itself.",
        hint="Flatten the value, or let references lead into parts of the value.",
        field=field,
    )


def _encoded(schema: dict[str, Any] | bool) -> bytes:
    try:
        return msgspec.json.encode(schema)
    except (UnicodeEncodeError, ValueError, TypeError, RecursionError) as error:
        raise BadRequest(
            f"The schema has no form in JSON: {error}.",
            hint="Send texts, finite numbers, booleans, null, arrays and objects.",
            field="schema",
        ) from None
