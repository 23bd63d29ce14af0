"""Values of the wire to what DSPy takes, and what DSPy gives back to the wire.

``model_dump`` and ``toDict`` will not do: they turn bytes into text and dates into
whatever they print as. Here 3 stays 3, None stays null, and bytes are tagged.
"""

from __future__ import annotations

import datetime
import enum
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from uuid import UUID

from pydantic import BaseModel, TypeAdapter

from dspex.contracts.encoding import tag_bytes
from dspex.contracts.failures import OutputInvalid
from dspex.native.replies.wire import finite, sayable
from dspex.native.signatures.encoding import TYPE_MARKERS
from dspex.native.tables.tensors import is_foreign
from dspex.native.tables.tensors import to_wire as foreign_to_wire
from dspex.native.types.kinds import DspyType
from dspex.native.types.tree import nodes
from dspex.services.worker.own_types import CLASSES, own_wire
from dspex.services.worker.signatures import python_value

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from dspex.native.signatures.compiling import Compiled

_MARKERS = tuple(f"<<{marker}>>" for marker in TYPE_MARKERS)


def neutralised(value: Any) -> Any:
    """The value without DSPy's internal type markers in any of its texts.

    DSPy cuts a prompt at these markers and reads what stands between them as content
    of its own making, such as an image to fetch.
    """
    if isinstance(value, str):
        for marker in _MARKERS:
            if marker in value:
                value = value.replace(marker, marker.replace("<<", "< <"))
        return value
    if isinstance(value, list):
        return [neutralised(item) for item in value]
    if isinstance(value, dict):
        return {neutralised(key): neutralised(item) for key, item in value.items()}
    return value


def to_python(compiled: Compiled, values: Mapping[str, Any]) -> dict[str, Any]:
    """Checked inputs as the Python types their signature names.

    Args:
        compiled: The signature.
        values: JSON values that fit its inputs.
    """
    types = {slot.field.name: slot.type for slot in compiled.inputs}
    return {
        name: python_value(types[name], neutralised(value))
        for name, value in values.items()
    }


def demo_to_python(compiled: Compiled, demo: Mapping[str, Any]) -> dict[str, Any]:
    """A checked example as DSPy shows it: with values of DSPy's own types.

    All other values are shown as they are on the wire, in the order they came in.

    Args:
        compiled: The signature.
        demo: JSON values for some of its fields, and for others.
    """
    slots = (*compiled.inputs, *compiled.outputs)
    own = {
        slot.field.name: slot.type
        for slot in slots
        if any(isinstance(node, DspyType) for node in nodes(slot.type))
    }
    shown = {name: neutralised(value) for name, value in demo.items()}
    return {
        name: python_value(own[name], value) if name in own else value
        for name, value in shown.items()
    }


def to_wire(value: Any) -> Any:
    """A value from DSPy as JSON can say it."""
    if is_foreign(value):
        found = foreign_to_wire(value)
        return found if isinstance(found, dict) else to_wire(found)
    for kind, convert in _CONVERSIONS:
        if isinstance(value, kind):
            return convert(value)
    raise OutputInvalid(
        f"The program returned a {type(value).__name__}, which has no JSON form.",
        hint="Declare the output with a type from the signature language.",
    )


def _duration(value: datetime.timedelta) -> Any:
    return TypeAdapter(datetime.timedelta).dump_python(value, mode="json")


def _list(value: Any) -> list[Any]:
    return [to_wire(item) for item in value]


def _dict(value: Mapping[Any, Any]) -> dict[str, Any]:
    return {_key(key): to_wire(item) for key, item in value.items()}


def _key(value: Any) -> str:
    plain = to_wire(value)
    return plain if isinstance(plain, str) else str(plain)


def _same(value: Any) -> Any:
    return value


_CONVERSIONS: tuple[tuple[Any, Callable[[Any], Any]], ...] = (
    (enum.Enum, lambda value: to_wire(value.value)),
    (str, sayable),
    ((bool, int, type(None)), _same),
    (float, finite),
    ((bytes, bytearray), tag_bytes),
    (
        (datetime.datetime, datetime.date, datetime.time),
        lambda value: value.isoformat(),
    ),
    (datetime.timedelta, _duration),
    ((Decimal, UUID), str),
    (dict, _dict),
    ((list, tuple), _list),
    ((set, frozenset), lambda value: sorted(_list(value), key=repr)),
    (CLASSES, lambda value: _dict(own_wire(value))),
    (BaseModel, lambda value: _dict(dict(value))),
)
