"""Checked specifications of DSPy's own modules -> instances of them, kept ready.

An instance is made once for a digest and shared by all requests: a call leaves nothing
in it. What was learned is loaded into a fresh one, never into one that has loaded
before: DSPy's signatures remember every load, and break at the 141st.
"""

from __future__ import annotations

import dataclasses
import inspect
import warnings
from typing import TYPE_CHECKING, Any

import dspy
import msgspec
from msgspec.structs import replace

from dspex.contracts.failures import BadRequest, InvalidInputs, NotFound, Unsupported
from dspex.native.checking.requiring import require
from dspex.native.keeping import Kept
from dspex.native.programs.nodes import below, tools_of
from dspex.native.programs.planning import EXTRA
from dspex.native.programs.states import ALONE
from dspex.services.worker.convert import (
    demo_to_python,
    neutralised,
    to_python,
    to_wire,
)
from dspex.services.worker.interpreters import PerThread
from dspex.services.worker.signatures import dspy_signature
from dspex.services.worker.tools import remote_tool, tool_for_code

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from dspex.contracts.program_states import PredictorState
    from dspex.native.programs.nodes import Node
    from dspex.services.worker.interpreters import Interpreters
    from dspex.services.worker.lms import LanguageModels
    from dspex.services.worker.mcp_tools import McpTools

KEPT = 256
"""Instances kept ready; the least recently used leave first."""

CODE = {"rlm": "RLM", "code_act": "CodeAct", "program_of_thought": "ProgramOfThought"}
"""Modules that run code, and what DSPy calls them."""


class Modules:
    """Instances of DSPy's modules.

    Args:
        interpreters: Makes what runs the code that models write; ``None``: there is
            none, and modules that need one are refused.
        mcp: What tools of MCP servers stand for; ``None``: there are no such servers.
        lms: The language models that specifications may name for their code.
    """

    def __init__(
        self,
        interpreters: Interpreters | None = None,
        mcp: McpTools | None = None,
        lms: LanguageModels | None = None,
    ) -> None:
        self._interpreters = interpreters
        self._lms = lms
        self._mcp = mcp
        self._kept: Kept[dspy.Module] = Kept(KEPT, KEPT)

    def of(self, node: Node) -> dspy.Module:
        """The instance for a specification with a signature.

        Raises:
            Unsupported: This worker lacks what it needs.
            BadRequest: What it has learned was learned by another module.
            NotFound: A tool of an MCP server is not there any more, or there is no
                language model of the name that its code shall ask.
        """
        node = self._with_mcp(node)
        key = node.digest().encode()
        found = self._kept.get(key)
        if found is None:
            found = self._made(node)
            self._kept.keep(key, found, 1)
        return found

    def start(self) -> None:
        """Keep sessions with MCP servers from now on."""
        if self._mcp is not None:
            self._mcp.start()

    async def stop(self) -> None:
        """End them."""
        if self._mcp is not None:
            await self._mcp.stop()

    async def ready(self, node: Node) -> None:
        """Wait until the MCP servers that one specification names can be called.

        Raises:
            Failure: One cannot.
        """
        if self._mcp is not None:
            for path, tool in _mcp_tools(node):
                await self._mcp.ready(tool, path)

    def _with_mcp(self, node: Node) -> Node:
        """The same with functions in place of the names of MCP servers' tools."""
        named = _mcp_tools(node)
        if self._mcp is None or not named:
            return node
        known = {tool: self._mcp.tool(tool, path) for path, tool in named}
        spec: Any = node.spec
        tools = [known[one] if isinstance(one, str) else one for one in spec.tools]
        return dataclasses.replace(node, spec=replace(spec, tools=tools))

    def _made(self, node: Node) -> dspy.Module:
        with warnings.catch_warnings():  # that a later release will lack something
            warnings.simplefilter("ignore", DeprecationWarning)
            try:
                module = self._running(node)
            except ValueError as error:
                raise BadRequest(
                    f"{node.path}: {str(error)[:300]}",
                    field=node.path,
                    hint="See DSPy's documentation of this module.",
                ) from None
        _give_demos(module, node)
        _load(module, node)
        return module

    def _running(self, node: Node) -> dspy.Module:
        """An instance, with what runs code where it runs code."""
        make = _MAKERS[node.module]
        if node.module not in CODE:
            return make(node, {})
        made_by = getattr(dspy, CODE[node.module], None)
        if made_by is None:
            raise Unsupported(
                f"{node.path}: there is no {node.module} in DSPy {dspy.__version__}, "
                "which this worker runs.",
                field=node.path,
                hint="Use a pool with another release of DSPy.",
            )
        if self._interpreters is None:
            raise Unsupported(
                f"{node.path}: {node.module} runs code that a model writes, and this "
                "worker has no sandbox for it.",
                field=node.path,
                hint='Install Deno for the workers: pip install "dspex[sandbox]".',
            )
        asks = self._asks(node)
        if "interpreter_factory" in _parameters(made_by):
            return make(node, {"interpreter_factory": self._interpreters} | asks)
        module: Any = make(node, asks)
        module.interpreter = PerThread(self._interpreters)
        made: dspy.Module = module
        return made

    def _asks(self, node: Node) -> dict[str, Any]:
        """The language model that the code of a specification asks, if it names one."""
        name = getattr(node.spec, "sub_lm", None)
        if name is None or self._lms is None:
            return {}
        try:
            return {"sub_lm": self._lms.build(name)}
        except NotFound as failure:
            path = below(node.path, "sub_lm")
            raise NotFound(
                f"{path}: {failure.message}", field=path, hint=failure.hint
            ) from None


def _mcp_tools(node: Node) -> list[tuple[str, str]]:
    """The tools of MCP servers that a specification names, with their paths."""
    return [
        (below(node.path, f"tools[{index}]"), tool)
        for index, tool in enumerate(tools_of(node.spec))
        if isinstance(tool, str)
    ]


def _parameters(cls: Any) -> Collection[str]:
    return inspect.signature(cls.__init__).parameters.keys()


def is_async(module: dspy.Module) -> bool:
    """Whether a module runs under asyncio; DSPy's word for it is not always true."""
    if isinstance(module, _THREADED):
        return False
    return hasattr(module, "aforward")


def enter(node: Node, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Inputs from the wire as the module of a signature takes them.

    Raises:
        InvalidInputs: One does not fit.
    """
    assert node.compiled is not None
    own = {slot.field.name for slot in node.compiled.inputs}
    given = {name: value for name, value in inputs.items() if name in own}
    call = to_python(node.compiled, require(node.compiled, given, "inputs"))
    if node.module == "multi_chain_comparison":
        call["completions"] = _attempts(node, inputs.get("completions"))
    return call


def leave(node: Node, prediction: Any) -> dict[str, Any]:
    """What the module of a signature gave, as on the wire.

    Raises:
        OutputInvalid: It breaks the signature.
    """
    assert node.compiled is not None
    own = {slot.field.name for slot in node.compiled.outputs}
    found = {k: to_wire(v) for k, v in prediction.items() if k in own}
    first = {
        name: to_wire(prediction.get(name, ""))
        for name in EXTRA.get(node.module, ())
        if name in prediction
    }
    return first | require(node.compiled, found, "outputs")


def _attempts(node: Node, completions: Any) -> list[dict[str, Any]]:
    assert node.compiled is not None
    last = node.compiled.outputs[-1].field.name
    wanted = node.spec.attempts  # type: ignore[union-attr]  # who calls has looked
    if not isinstance(completions, list) or len(completions) != wanted:
        raise InvalidInputs(
            f"inputs.completions must be a list of {wanted} attempts.",
            field="inputs.completions",
            hint="Send as many attempts as `attempts` says.",
        )
    for index, one in enumerate(completions):
        said = one if isinstance(one, dict) else {}
        reason = said.get("rationale", said.get("reasoning"))
        if not isinstance(reason, str) or last not in said:
            raise InvalidInputs(
                f"inputs.completions[{index}] needs a text `reasoning` and {last!r}.",
                field=f"inputs.completions[{index}]",
                hint="Send what chain_of_thought gave.",
            )
    shown: list[dict[str, Any]] = neutralised(completions)
    return shown


def _give_demos(module: dspy.Module, node: Node) -> None:
    demos = getattr(node.spec, "demos", None)
    if demos:
        assert node.compiled is not None
        compiled = node.compiled
        module.predictors()[0].demos = [
            dspy.Example(**demo_to_python(compiled, demo)) for demo in demos
        ]


def _load(module: dspy.Module, node: Node) -> None:
    predictors = dict(module.named_predictors())
    for name, state in node.states.items():
        path = f"{node.path}.state" if name == ALONE else f"{node.path}.state.{name}"
        if name not in predictors:
            raise BadRequest(
                f"{path}: {node.module} has no predictor {name[:80]!r}. It has: "
                f"{', '.join(predictors)}.",
                field=path,
                hint="Load a state into the module that it was learned by.",
            )
        _load_one(predictors[name], state, path)


def _load_one(predictor: Any, state: PredictorState, path: str) -> None:
    fields = len(predictor.signature.fields)
    if len(state.signature.fields) != fields:
        raise BadRequest(
            f"{path}.signature has {len(state.signature.fields)} fields, and the "
            f"predictor has {fields}.",
            field=f"{path}.signature.fields",
            hint="Load a state into the signature that it was learned with.",
        )
    for index, one in enumerate(state.signature.fields):
        if not {"prefix", "description"} <= one.keys():
            raise BadRequest(
                f"{path}.signature.fields[{index}] needs prefix and description.",
                field=f"{path}.signature.fields[{index}]",
            )
    said = msgspec.to_builtins(state)
    said["demos"] = neutralised(said["demos"])
    predictor.load_state(said)


def _react(node: Node, options: dict[str, Any]) -> dspy.Module:
    spec: Any = node.spec
    tools = [remote_tool(tool) for tool in spec.tools]
    return dspy.ReAct(_signature(node), tools, spec.max_iters, **options)


def _program_of_thought(node: Node, options: dict[str, Any]) -> dspy.Module:
    spec: Any = node.spec
    return dspy.ProgramOfThought(_signature(node), spec.max_iters, **options)


def _code_act(node: Node, options: dict[str, Any]) -> dspy.Module:
    spec: Any = node.spec
    return dspy.CodeAct(_signature(node), [], spec.max_iters, **options)


def _rlm(node: Node, options: dict[str, Any]) -> dspy.Module:
    spec: Any = node.spec
    return dspy.RLM(
        _signature(node),
        max_iters=spec.max_iters,
        max_llm_calls=spec.max_llm_calls,
        max_output_chars=spec.max_output_chars,
        tools=[tool_for_code(tool) for tool in spec.tools],
        **options,
    )


def _compared(node: Node, options: dict[str, Any]) -> dspy.Module:
    spec: Any = node.spec
    return dspy.MultiChainComparison(
        _signature(node), spec.attempts, spec.temperature, **options
    )


def _signature(node: Node) -> Any:
    assert node.compiled is not None
    return dspy_signature(node.compiled)


_MAKERS: dict[str, Callable[[Node, dict[str, Any]], dspy.Module]] = {
    "predict": lambda node, _: dspy.Predict(_signature(node)),
    "chain_of_thought": lambda node, _: dspy.ChainOfThought(_signature(node)),
    "react": _react,
    "program_of_thought": _program_of_thought,
    "code_act": _code_act,
    "rlm": _rlm,
    "multi_chain_comparison": _compared,
}

_THREADED: tuple[Any, ...] = tuple(
    cls for name in CODE.values() if (cls := getattr(dspy, name, None)) is not None
)
"""They run code, which holds up a loop; CodeAct's async form is that of ReAct."""
