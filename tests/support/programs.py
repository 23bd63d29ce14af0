"""A worker's programs without its process: on a bus in memory, and a scripted model."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Self

import dspy
from tests.support.asking import chat

from dspex.bus.audiences import Audience
from dspex.bus.calling import Functions
from dspex.bus.events import Events
from dspex.bus.tasks import Tasks
from dspex.bus.testing import MemoryServer
from dspex.contracts import catalog, encoding
from dspex.contracts.configuration import Lm
from dspex.contracts.program_requests import RunProgram
from dspex.contracts.subjects import Subjects
from dspex.services.worker.convert import to_wire
from dspex.services.worker.lms import LanguageModels
from dspex.services.worker.programs import Programs
from dspex.services.worker.running import ProgramRunner
from dspex.services.worker.stoppable import in_thread

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.scripted_model import ScriptedModel

    from dspex.bus.core import Message


class Bench:
    """Runs specifications as a worker does, and DSPy's modules beside them.

    Args:
        model: What answers.
        lms: The worker's language models; default: two that are alike.
        **runner: Of the runner of programs.
    """

    def __init__(
        self, model: ScriptedModel, lms: LanguageModels | None = None, **runner: Any
    ) -> None:
        self.model = model
        self.bus = MemoryServer().connect()
        self.subjects = Subjects()
        self.events = Events(self.bus, Audience(subjects=self.subjects, request="r"))
        key = "test-key-not-a-secret"
        lm = Lm(model="openai/scripted", api_base=model.url, api_key=key)
        alike = {"default": lm, "other": lm}
        self.lms = lms or LanguageModels(alike, environ={})
        self._runner: dict[str, Any] = {"functions": Functions(self.bus)} | runner

    async def __aenter__(self) -> Self:
        self.programs = Programs(
            self.lms, "default", runner=ProgramRunner(**self._runner)
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.lms.aclose()

    async def run(self, program: Any, inputs: Any, **more: Any) -> dict[str, Any]:
        """Run what a request's JSON would say; its outputs."""
        said = {"program": program, "inputs": inputs} | more
        body = encoding.decode(json.dumps(said).encode(), RunProgram)
        outcome = await self.programs.run("run", body, self.events)
        return outcome.outputs

    async def learn(self, operation: str, said: dict[str, Any]) -> dict[str, Any]:
        """Evaluate or optimise as a request's JSON would say; its outputs."""
        wanted = catalog.operation(operation).request
        body = encoding.decode(json.dumps(said).encode(), wanted)
        outcome = await self.programs.run(operation, body, self.events)
        return outcome.outputs

    async def in_process(self, work: Callable[[], Any]) -> dict[str, Any]:
        """Do the same with DSPy alone, in a thread, as its users do."""
        with dspy.context(
            lm=self.lms.build("default"), adapter=dspy.ChatAdapter(), trace=[]
        ):
            found = await in_thread(work)
        return {name: to_wire(value) for name, value in found.items()}

    def prompts(self) -> list[Any]:
        """What the model was asked since the last time, in order."""
        asked = [request.body for request in self.model.requests]
        self.model.requests.clear()
        return asked

    async def offer(self, subject: str, function: Callable[[Any], Any]) -> None:
        """Answer on a subject as somebody who offers a function would."""

        async def answer(message: Message) -> None:
            try:
                result = function(json.loads(message.data))
            except ValueError as error:
                sent = {
                    "Nats-Service-Error-Code": "400",
                    "Nats-Service-Error": f"{error}",
                }
                await self.bus.publish(message.reply, b"", headers=sent)
            else:
                await self.bus.publish(message.reply, json.dumps(result).encode())

        await answering(self.bus, subject, answer)


async def answering(bus: Any, subject: str, answer: Any) -> Any:
    """Let a coroutine answer each message of a subject; returns the subscription."""
    tasks = Tasks()

    def take(message: Message) -> None:
        tasks.start(answer(message), "function")

    return await bus.subscribe(subject, take)


def act(tool: str, **arguments: Any) -> str:
    """What an agent writes to call a tool."""
    return chat(
        next_thought="So.",
        next_tool_name=tool,
        next_tool_args=json.dumps(arguments),
    )


def react(*offered: Any, question: str = "Umbrella?", **more: Any) -> dict[str, Any]:
    """The body of a ``react``."""
    return {
        "signature": "question -> answer",
        "inputs": {"question": question},
        "tools": list(offered),
        "max_iters": 4,
    } | more
