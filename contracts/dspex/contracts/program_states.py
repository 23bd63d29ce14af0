"""What a program has learned, as DSPy's ``dump_state`` writes it."""

from __future__ import annotations

from typing import Any

from msgspec import Struct


class StateSignature(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What was learned about a predictor's signature.

    Attributes:
        instructions: What to do.
        fields: For each field, inputs first, its ``prefix`` and ``description``.
    """

    instructions: str
    fields: list[dict[str, str]]


class PredictorState(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What was learned about one predictor, as DSPy's ``dump_state`` writes it.

    Attributes:
        signature: Instructions and descriptions.
        demos: Worked examples.
        traces: Of an optimiser; not loaded.
        train: Of an optimiser; not loaded.
        lm: The language model it was learned with; not loaded: which one answers is
            said by the specification and the request.
    """

    signature: StateSignature
    demos: list[dict[str, Any]] = []
    traces: list[Any] = []
    train: list[Any] = []
    lm: dict[str, Any] | None = None
