"""The operations that score programs and improve them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dspex.contracts.failures import BusUnavailable
from dspex.contracts.learning_requests import Evaluate, Optimize
from dspex.contracts.optimizers import KNNFewShot
from dspex.services.worker.evaluating import Evaluation, plain
from dspex.services.worker.optimizing import Optimization, learned_outputs

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dspex.bus.events import Events
    from dspex.contracts.program_functions import Remote
    from dspex.contracts.program_metrics import Metric
    from dspex.native.programs.nodes import Node
    from dspex.services.worker.lms import LanguageModels
    from dspex.services.worker.running import ProgramRunner

Learning = Evaluate | Optimize


async def learn(
    asked: Learning,
    nodes: Mapping[str, Node],
    runner: ProgramRunner,
    events: Events,
    lms: LanguageModels,
) -> dict[str, Any]:
    """Do what was asked; its outputs.

    Args:
        asked: What was asked.
        nodes: The programs of the request, checked, by their paths in it.
        runner: Makes instances, and calls functions and operations.
        events: Where progress is told.
        lms: The worker's language models.

    Raises:
        Failure: It cannot be done.
    """
    _check_subjects(asked, runner, events)
    node = nodes["program"]
    if isinstance(asked, Evaluate):
        module = runner.build(node)
        return plain(await Evaluation(asked, node, module, events, lms).run())
    optimization = Optimization(asked, node, runner.build, events, lms)
    others = [one for path, one in nodes.items() if path.startswith("optimizer.")]
    made, calls = await optimization.run(nodes.get("teacher"), others)
    score = await optimization.score(made)
    outputs = learned_outputs(asked, made, calls, score)
    if asked.put_as is not None:
        outputs |= await _put(asked, outputs, runner, events)
    return outputs


def _check_subjects(asked: Learning, runner: ProgramRunner, events: Events) -> None:
    functions: dict[str, Metric | Remote | None] = {"metric": asked.metric}
    if isinstance(asked, Evaluate):
        functions |= {f"also.{name}": metric for name, metric in asked.also.items()}
    elif isinstance(asked.optimizer, KNNFewShot):
        functions["optimizer.vectorizer"] = asked.optimizer.vectorizer
    for path, one in functions.items():
        if one is not None and one.subject is not None and runner.functions:
            runner.functions.check(one.subject, events.audience, f"{path}.subject")


async def _put(
    asked: Optimize, outputs: dict[str, Any], runner: ProgramRunner, events: Events
) -> dict[str, Any]:
    """Store it, as any client would."""
    if runner.operations is None:
        raise BusUnavailable("Nothing can be stored here.")
    body: dict[str, Any] = {
        "name": asked.put_as,
        "specification": outputs["specification"],
        "note": asked.note or f"{outputs['optimizer']} of this program",
        "score": outputs["score"],
    }
    if asked.expected_version is not None:
        body["expected_version"] = asked.expected_version
    stored = await runner.operations.call("program.put", body, events.audience)
    return {"name": stored["name"], "version": stored["version"]}
