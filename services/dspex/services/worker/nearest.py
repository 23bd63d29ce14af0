"""Examples like the inputs: ``dspy.KNN``, and ``dspy.KNNFewShot`` around a program."""

from __future__ import annotations

import copy
import importlib
import threading
from typing import TYPE_CHECKING, Any

import dspy

from dspex.contracts.failures import ToolFailed, Unsupported
from dspex.native.programs.planning import check_inputs
from dspex.services.worker.calls import current, wire, within
from dspex.services.worker.composing import Composite, is_leaf
from dspex.services.worker.convert import demo_to_python, neutralised
from dspex.services.worker.modules import enter, leave
from dspex.services.worker.scoring import check_metric, metric_function
from dspex.services.worker.stoppable import in_loop, in_thread
from dspex.services.worker.tools import vectors

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from dspex.contracts.program_functions import Remote
    from dspex.native.programs.nodes import Node
    from dspex.services.worker.composing import Build

_BOOTSTRAP = (
    *("metric_threshold", "max_bootstrapped_demos", "max_labeled_demos"),
    *("max_rounds", "max_errors"),
)
"""Arguments of ``dspy.BootstrapFewShot``."""


class Nearest(Composite):
    """``dspy.KNN``."""

    async def outputs(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """The examples most like the inputs."""
        spec: Any = self.node.spec
        examples = [
            dspy.Example(**one).with_inputs(*spec.inputs) for one in spec.trainset
        ]

        def find() -> list[Any]:
            knn: Any = dspy.KNN
            return list(knn(spec.k, examples, embedder(spec.vectorizer))(**inputs))

        found = await in_thread(find)
        return {"examples": [wire(one) for one in found]}


class FewShot(Composite):
    """``dspy.KNNFewShot``.

    What it makes is made for a request, at its first call: then the vectors of the
    examples are asked for.
    """

    def __init__(self, node: Node, build: Build) -> None:
        super().__init__(node, build)
        spec: Any = node.spec
        if spec.metric is not None:
            inner, path = node.parts[0].node, f"{node.path}.metric"
            check_metric(spec.metric, inner, spec.trainset, path)
        self._made: dspy.Module | None = None
        self._making = threading.Lock()

    def __deepcopy__(self, memo: dict[int, Any]) -> FewShot:
        # DSPy copies programs that learn; what was made of the original stays there.
        return type(self)(self.node, lambda node: copy.deepcopy(self._part(node), memo))

    async def outputs(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """The outputs of the program, with demos like the inputs."""
        node = self.node.parts[0].node
        check_inputs(node, inputs)
        with within(node.spec):
            call = enter(node, inputs) if is_leaf(node) else inputs
            found = await in_thread(lambda: self._prepared()(**call))
        return leave(node, found) if is_leaf(node) else wire(found)

    def _part(self, node: Node) -> dspy.Module:
        known = zip(self.node.parts, self.parts, strict=True)
        return next(module for part, module in known if part.node is node)

    def _prepared(self) -> dspy.Module:
        with self._making:
            if self._made is None:
                self._made = self._make()
            return self._made

    def _make(self) -> dspy.Module:
        spec: Any = self.node.spec
        node, student = self.node.parts[0].node, self.parts[0]
        said = {name: getattr(spec, name) for name in _BOOTSTRAP}
        arguments = {name: one for name, one in said.items() if one is not None}
        arguments |= self._teachers_own()
        if spec.metric is not None:
            arguments["metric"] = metric_function(spec.metric, node)
        rows = examples(node, spec.trainset, list(node.needs))
        make: Any = dspy.KNNFewShot
        made = make(spec.k, rows, embedder(spec.vectorizer), **arguments)
        teacher = self.parts[1] if len(self.parts) > 1 else None
        found: dspy.Module = made.compile(student, teacher=teacher)
        return found

    def _teachers_own(self) -> dict[str, Any]:
        """The language model that the teacher names, for it alone."""
        named = [part.node.spec.lm for part in self.node.parts[1:] if part.node.spec]
        if not named or named[0] is None:
            return {}
        return {"teacher_settings": {"lm": current().lms.build(named[0])}}


def examples(
    node: Node, rows: Sequence[Mapping[str, Any]], names: Sequence[str]
) -> list[dspy.Example]:
    """Examples as the instance of a program takes them.

    Args:
        node: The program.
        rows: The examples as on the wire.
        names: Their fields that are inputs.
    """
    compiled = node.compiled if is_leaf(node) else None
    return [
        dspy.Example(
            demo_to_python(compiled, row) if compiled else neutralised(dict(row))
        ).with_inputs(*names)
        for row in rows
    ]


def embedder(remote: Remote) -> Callable[[list[str]], Any]:
    """What DSPy calls for vectors, from a thread.

    Raises:
        Unsupported: This worker has no numpy.
    """
    try:
        numpy: Any = importlib.import_module("numpy")
    except ImportError:
        raise Unsupported(
            "Comparing examples needs numpy, which this worker does not have.",
            hint='Install it for the workers: pip install "dspy[numpy]".',
        ) from None
    lengths: list[int] = []

    def embed(texts: list[str]) -> Any:
        found = in_loop(vectors(remote, texts))
        lengths.append(len(found[0]))
        if lengths[-1] != lengths[0]:
            raise ToolFailed(
                f"{remote.subject} answered vectors of {lengths[0]} numbers, and then "
                f"of {lengths[-1]}."
            )
        return numpy.array(found)

    return embed
