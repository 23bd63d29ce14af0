"""A request's body, checked as whoever is to answer it would check it."""

from __future__ import annotations

from typing import Any

from dspex.contracts import catalog, encoding
from dspex.contracts.requests import Body, Predict
from dspex.native.checking.requiring import extra_fields, require, require_demos
from dspex.native.signatures.compiling import compile_signature


def require_body(operation: str, plain: Any) -> Body:
    """Read the body of an operation, and refuse one that cannot be answered.

    Args:
        operation: Name of an operation.
        plain: The body as dicts, lists and plain values.

    Raises:
        Failure: What the sender of the request is to be told.
    """
    body: Body = encoding.read(plain, catalog.operation(operation).request)
    if isinstance(body, Predict):
        compiled = compile_signature(body.signature, body.instructions)
        require(compiled, body.inputs, "inputs")
        require_demos(compiled, body.demos, extra_fields(operation))
    return body
