"""The native operations: a body in, outputs out; the table is at the foot."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from dspex.contracts.native_requests import (
    ParsedSignature,
    ParseSignature,
    ValidatedSignature,
    ValidateSignature,
)
from dspex.native.checking.checking import check
from dspex.native.metrics.catalog import score_batch, score_metric
from dspex.native.prompts.rendering import render_prompt
from dspex.native.replies.parsing import parse_response
from dspex.native.schemas.validating import validate_schema
from dspex.native.signatures.compiling import compile_signature
from dspex.native.signatures.describing import describe_signature
from dspex.native.templates.rendering import render_template

if TYPE_CHECKING:
    from collections.abc import Callable

    from dspex.contracts.requests import Body


def parse_signature(body: ParseSignature) -> ParsedSignature:
    """Say what a signature means: fields, types, JSON Schemas."""
    compiled = compile_signature(body.signature, body.instructions)
    return ParsedSignature(signature=compiled.signature)


def validate_signature(body: ValidateSignature) -> ValidatedSignature:
    """Check values against one side of a signature."""
    compiled = compile_signature(body.signature)
    checked = check(compiled, body.values, body.side, body.mode)
    return ValidatedSignature(
        valid=checked.valid, values=checked.values, errors=checked.errors
    )


def perform(operation: str, body: Body) -> dict[str, Any]:
    """Do a native operation and return the outputs of its reply."""
    outputs: dict[str, Any] = msgspec.to_builtins(OPERATIONS[operation](body))
    return outputs


OPERATIONS: dict[str, Callable[[Any], msgspec.Struct]] = {
    "signature.parse": parse_signature,
    "signature.describe": describe_signature,
    "signature.validate": validate_signature,
    "prompt.render": render_prompt,
    "response.parse": parse_response,
    "template.render": render_template,
    "schema.validate": validate_schema,
    "metric.score": score_metric,
    "metric.batch": score_batch,
}
