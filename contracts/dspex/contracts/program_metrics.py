"""What says how good a program's answers are."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, Struct


class Metric(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What says how good an answer is: a native metric, or a function on a subject.

    The function gets ``{"example", "outputs", "predictor"}`` and answers with a number
    or a boolean, or with an object that holds one as ``score`` and may say why in
    ``feedback``, which GEPA reads.

    Attributes:
        name: Of a native metric, such as ``f1``.
        field: The output that it scores; default: the program's last.
        answers: The field of the examples that says what is right; default: that of
            the same name.
        parameters: Of the native metric.
        subject: Where the function is called, as for tools, instead of a name.
        timeout_s: Longest wait for one answer of the function, seconds.
    """

    name: str | None = None
    field: str | None = None
    answers: str | None = None
    parameters: dict[str, Any] = {}
    subject: Annotated[str, Meta(min_length=1, max_length=255)] | None = None
    timeout_s: Annotated[float, Meta(gt=0, le=3600)] = 30.0
