"""Functions on subjects as DSPy calls them: tools, rewards, vectorizers."""

from __future__ import annotations

import asyncio
import inspect
from typing import TYPE_CHECKING, Any

import dspy

from dspex.contracts.failures import BadRequest, ToolFailed
from dspex.contracts.native_requests import ScoreMetric
from dspex.native.metrics.catalog import score_metric
from dspex.native.schemas.validating import faults
from dspex.services.worker.calls import current
from dspex.services.worker.stoppable import in_loop

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from dspex.contracts.program_functions import Remote, Reward, Tool


class RemoteTool(dspy.Tool):  # type: ignore[misc]  # DSPy ships no types
    """A tool that is a subject.

    Its arguments are checked natively against the whole schema: DSPy would check them
    one by one, and tell the model of a fault with a traceback of this process.
    """

    def _validate_and_parse_args(self, **kwargs: Any) -> dict[str, Any]:
        return kwargs


def remote_tool(tool: Tool) -> dspy.Tool:
    """Make a tool of DSPy's from one that somebody offers.

    What goes wrong is the observation: the model is told, and may do better.
    It may be called from the event loop, where it is awaited, and from a thread.

    Args:
        tool: As it was declared.
    """

    async def call(**arguments: Any) -> Any:
        try:
            return await _checked_call(tool, arguments)
        except ToolFailed as failure:
            return f"Execution error in {tool.name}: {failure.message}"

    def call_from_anywhere(**arguments: Any) -> Any:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return in_loop(call(**arguments))
        return call(**arguments)

    return _made(tool, call_from_anywhere)


def tool_for_code(tool: Tool) -> dspy.Tool:
    """The same for code in a sandbox, which calls it as a function with parameters.

    Args:
        tool: As it was declared.

    Raises:
        ValueError: A parameter has a name that no code can say.
    """
    call: Any = remote_tool(tool).func
    parameters = _parameters(tool)
    left_out = {one.name for one in parameters if one.default is None}

    def call_with_all(**arguments: Any) -> Any:
        # Code gives every parameter; what it did not say is not sent.
        said = {
            name: value
            for name, value in arguments.items()
            if value is not None or name not in left_out
        }
        return call(**said)

    function: Any = call_with_all
    function.__signature__ = inspect.Signature(parameters)
    return _made(tool, function)


def _made(tool: Tool, function: Callable[..., Any]) -> dspy.Tool:
    make: Any = RemoteTool  # which takes the function by its place, as DSPy's does
    shown = _properties(tool)
    made: dspy.Tool = make(
        function,
        name=tool.name,
        desc=tool.description or None,
        args=shown,
        arg_types=dict.fromkeys(shown, Any),
    )
    return made


def _properties(tool: Tool) -> dict[str, dict[str, Any]]:
    properties: dict[str, Any] = tool.schema.get("properties", {})
    return {
        name: schema if isinstance(schema, dict) else {}
        for name, schema in properties.items()
    }


def _parameters(tool: Tool) -> list[inspect.Parameter]:
    """The parameters of a tool, those first that have no default."""
    required = tool.schema.get("required", ())
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    found = [
        inspect.Parameter(name, kind)
        if name in required
        else inspect.Parameter(name, kind, default=schema.get("default"))
        for name, schema in _properties(tool).items()
    ]
    return sorted(found, key=lambda one: one.default is not inspect.Parameter.empty)


def reward_function(reward: Reward) -> Callable[[Mapping[str, Any]], float]:
    """Make what scores an answer, to be called from a thread.

    Args:
        reward: As it was declared.

    Returns:
        A function of ``{"inputs": ..., "outputs": ...}``, both as on the wire.
    """
    if reward.subject is not None:
        return lambda said: float(in_loop(_remote_score(reward, said)))
    return lambda said: _native_score(reward, said)


def described(reward: Reward) -> str:
    """What a model is told about how answers are scored."""
    if reward.subject is not None:
        return f"A function on the subject {reward.subject}."
    right = reward.answers if reward.input is None else f"the input `{reward.input}`"
    return f"The metric {reward.metric} of the output `{reward.field}` and {right}."


async def vectors(remote: Remote, texts: list[str]) -> list[list[float]]:
    """Ask for a vector for each text.

    Raises:
        ToolFailed: There is none, or what was answered are no vectors.
    """
    found = await current().function(
        "vectorizer", remote.subject, {"texts": texts}, remote.timeout_s
    )
    fits = isinstance(found, list) and len(found) == len(texts)
    if not fits or not all(map(_is_vector, found)) or len(set(map(len, found))) != 1:
        raise ToolFailed(
            f"{remote.subject} answered no list of {len(texts)} vectors of one length."
        )
    return [[float(number) for number in vector] for vector in found]


async def _checked_call(tool: Tool, arguments: dict[str, Any]) -> Any:
    try:
        wrong = faults(tool.schema, arguments)
    except BadRequest as failure:
        raise ToolFailed(failure.message) from None
    if wrong:
        said = "; ".join(f"{one.path or '/'}: {one.message}" for one in wrong[:4])
        raise ToolFailed(f"The arguments do not fit: {said}")
    return await current().function(tool.name, tool.subject, arguments, tool.timeout_s)


async def _remote_score(reward: Reward, said: Mapping[str, Any]) -> float:
    assert reward.subject is not None
    found = await current().function("reward", reward.subject, said, reward.timeout_s)
    score = found.get("score") if isinstance(found, dict) else found
    if isinstance(score, bool | int | float):
        return float(score)
    raise ToolFailed(f"{reward.subject} answered {found!r:.80}, which is no score.")


def _native_score(reward: Reward, said: Mapping[str, Any]) -> float:
    answers: Any = reward.answers
    if reward.input is not None:
        answers = said["inputs"].get(reward.input)
    body = ScoreMetric(
        metric=reward.metric or "",
        prediction=said["outputs"].get(reward.field),
        answers=answers,
        parameters=reward.parameters,
    )
    return float(score_metric(body).score)


def _is_vector(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(number, int | float) and not isinstance(number, bool)
        for number in value
    )
