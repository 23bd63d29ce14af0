"""Values that must fit a signature, or the request fails."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from dspex.contracts.failures import InvalidInputs, OutputInvalid
from dspex.native.checking import check

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dspex.contracts.signatures import Fault
    from dspex.native.compiling import Compiled

_SHOWN = 8
"""Faults a failure spells out."""


def require(
    compiled: Compiled, values: Mapping[str, Any], side: Literal["inputs", "outputs"]
) -> dict[str, Any]:
    """Return the values with their defaults filled in.

    Raises:
        InvalidInputs: Inputs do not fit; the message lists every fault.
        OutputInvalid: Outputs do not.
    """
    checked = check(compiled, values, side)
    if checked.valid:
        return checked.values
    message = _message(checked.errors)
    field = checked.errors[0].path
    if side == "inputs":
        raise InvalidInputs(
            message,
            field=field,
            hint="Send a value of that type for every input field, and no others.",
        )
    raise OutputInvalid(
        f"The model's answer breaks the signature: {message}",
        field=field,
        hint="Ask again, say more in the instructions, or loosen the constraint.",
    )


def _message(faults: list[Fault]) -> str:
    shown = " ".join(fault.message for fault in faults[:_SHOWN])
    more = len(faults) - _SHOWN
    return f"{shown} And {more} more." if more > 0 else shown
