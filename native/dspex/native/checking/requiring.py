"""Values that must fit a signature, or the request fails."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from dspex.contracts.failures import InvalidInputs, OutputInvalid
from dspex.native.checking.checking import check, check_demos

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from dspex.contracts.signatures import Fault
    from dspex.native.signatures.compiling import Compiled

REASONING = "reasoning"
"""The output that ``chain_of_thought`` writes before the signature's own."""

_SHOWN = 8
"""Faults a failure spells out."""


def require(
    compiled: Compiled, values: Mapping[str, Any], side: Literal["inputs", "outputs"]
) -> dict[str, Any]:
    """Return the values with their defaults filled in.

    Raises:
        InvalidInputs: Inputs do not fit; the message lists the first faults.
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


def extra_fields(operation: str) -> tuple[str, ...]:
    """Outputs that an operation writes beside those of its signature."""
    return (REASONING,) if operation == "chain_of_thought" else ()


def require_demos(
    compiled: Compiled,
    demos: Sequence[Mapping[str, Any]],
    extra: Collection[str] = (),
) -> None:
    """Refuse worked examples that do not fit.

    Args:
        compiled: The signature.
        demos: For each example values of some of the fields.
        extra: Names that are no fields and may have any value, such as
            ``reasoning``.

    Raises:
        InvalidInputs: A value does not fit, or a name is not known.
    """
    faults = check_demos(compiled, demos, extra)
    if faults:
        raise InvalidInputs(
            _message(faults),
            field=faults[0].path,
            hint="A demo holds values of the signature's inputs and outputs.",
        )


def _message(faults: list[Fault]) -> str:
    # The last one has no place if checking stopped before the end.
    stopped = not faults[-1].path
    shown = " ".join(fault.message for fault in faults[:_SHOWN] if fault.path)
    more = len(faults) - stopped - _SHOWN
    if more <= 0:
        return shown
    return f"{shown} And {more} more{', or still more than that' * stopped}."
