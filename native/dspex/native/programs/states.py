"""What a program has learned, read with suspicion.

It is the JSON of DSPy's ``dump_state``. DSPy itself would take from it where requests
go and which class to import; here only instructions, descriptions and worked examples
are taken, and a state that holds anything else is refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from dspex.contracts import encoding
from dspex.contracts.failures import BadRequest, Forbidden
from dspex.contracts.program_states import PredictorState
from dspex.contracts.requests import LmConfig
from dspex.contracts.walking import path_of
from dspex.native.programs.nodes import below
from dspex.native.signatures.encoding import TYPE_MARKERS

if TYPE_CHECKING:
    from collections.abc import Mapping

ALONE = "self"
"""What DSPy calls the predictor of a module that is one itself."""

METADATA = "metadata"
"""Where ``Module.save`` notes releases; not loaded."""

_HARMLESS = frozenset(
    {
        *LmConfig.__struct_fields__,
        "model",
        "model_type",
        "cache",
        "num_retries",
        "max_completion_tokens",
        "rollout_id",
        "n",
        "use_developer_role",
        "finetuning_model",
        "launch_kwargs",
        "train_kwargs",
        "prompt_cache",
    }
)
_OWN_CLASS = "dspy.clients.lm.LM"
_CLASS_KEY = "_dspy_lm_class"


def read_states(state: Mapping[str, Any], path: str) -> dict[str, PredictorState]:
    """Read what a module has learned.

    Args:
        state: As DSPy's ``dump_state`` writes it.
        path: Where it stands.

    Returns:
        By the names of predictors, what is loaded: neither a language model nor what
        only optimisers read.

    Raises:
        BadRequest: It is no such state.
        Forbidden: It says where to send requests, or what to import.
    """
    if "signature" in state and "demos" in state:
        return {ALONE: _read(state, path)}
    return {
        name: _read(one, below(path, path_of([name])))
        for name, one in state.items()
        if name != METADATA
    }


def _read(value: Any, path: str) -> PredictorState:
    try:
        found: PredictorState = encoding.read(value, PredictorState)
    except BadRequest as failure:
        inner = failure.field or ""
        raise BadRequest(
            f"{path} is not a state that can be loaded: {failure.message}",
            field=f"{path}.{inner}" if inner else path,
            hint="Send what module.dump_state() gives, as JSON.",
        ) from None
    _refuse_unsafe(found.lm or {}, f"{path}.lm")
    _refuse_marked(found, path)
    return msgspec.structs.replace(found, lm=None, traces=[], train=[])


def _refuse_unsafe(lm: dict[str, Any], path: str) -> None:
    for key, value in lm.items():
        if key == _CLASS_KEY and value == _OWN_CLASS:
            continue
        if key not in _HARMLESS:
            raise Forbidden(
                f"{path}.{key} may not be in a state: where requests go, with which "
                "key and by which class is the worker's to say.",
                field=f"{path}.{key}",
                hint=f"Leave out {path}, and name a language model as `lm`.",
            )


def _refuse_marked(found: PredictorState, path: str) -> None:
    # Demos are neutralised like all values; instructions are not values.
    said = msgspec.json.encode(found.signature)
    for marker in TYPE_MARKERS:
        if marker.encode() in said:
            raise BadRequest(
                f"{path}.signature holds {marker!r}, which DSPy reads as a mark of its "
                "own wherever it stands in a prompt.",
                field=f"{path}.signature",
                hint="Leave it out.",
            )
