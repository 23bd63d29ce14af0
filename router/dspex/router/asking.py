"""What a router checks of a body, and what it learns of it, without DSPy."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from dspex.contracts.program_requests import React, RunProgram, as_specification
from dspex.contracts.requests import Predict
from dspex.native.checking.requiring import extra_fields, require, require_demos
from dspex.native.programs.planning import check_inputs, plan
from dspex.native.signatures.compiling import compile_signature

if TYPE_CHECKING:
    from dspex.contracts.requests import Body


class Asked(NamedTuple):
    """What a body asks for.

    Attributes:
        lm: Name of a language model; empty: that of who answers.
        digest: Of the meaning of its signature; empty where there is none.
    """

    lm: str = ""
    digest: str = ""


def look_at(operation: str, body: Body) -> Asked:
    """Refuse what no worker could answer.

    Raises:
        Failure: The first fault; its ``field`` is the path of the part at fault.
    """
    if isinstance(body, Predict):
        compiled = compile_signature(body.signature, body.instructions)
        require(compiled, body.inputs, "inputs")
        require_demos(compiled, body.demos, extra_fields(operation))
        return Asked(body.lm or "", compiled.digest)
    if isinstance(body, React | RunProgram):
        return _look_at_program(body)
    return Asked()


def _look_at_program(body: React | RunProgram) -> Asked:
    # Programs that are stored are looked up by who runs them.
    if isinstance(body, React):
        node = plan(as_specification(body), path="")
    else:
        node = plan(body.program)
    check_inputs(node, body.inputs)
    return Asked(body.lm or getattr(node.spec, "lm", None) or "")
