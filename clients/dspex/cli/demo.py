"""``dspex demo``: start a stack, ask it real questions, stop it.

The questions go out as any NATS client in any language would send them: a subject,
a JSON body, at most one header. Nothing of the Python client is used.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from dspex.bus import connection, settings
from dspex.bus.connection import BusSettings
from dspex.bus.core import NoResponders
from dspex.cli import lm
from dspex.cli.console import console
from dspex.cli.plan import Plan
from dspex.cli.questions import QUESTIONS, TIMEOUT_SECONDS, Question
from dspex.cli.stack import Settings, Stack, StackFailed
from dspex.cli.up import stopping
from dspex.contracts.configuration import Nats
from dspex.contracts.failures import Failure

if TYPE_CHECKING:
    import argparse

    from dspex.bus.core import Bus
    from dspex.cli.console import Console
    from dspex.contracts.subjects import Subjects

INTERRUPTED = 130
"""Exit status after Ctrl-C, as shells have it."""


def main(arguments: argparse.Namespace) -> int:
    """Run the command and return its exit status."""
    environ = dict(os.environ)
    path = settings.locate(arguments.config, environ)
    configured = settings.load(path, environ)
    out = console(environ)
    with tempfile.TemporaryDirectory(prefix="dspex-demo-") as folder:
        # A server of its own, on a free port: whatever runs here is left alone.
        nats = Nats(store=str(Path(folder) / "nats"), listen="127.0.0.1:0")
        configuration = replace(configured, nats=nats)
        plan = Plan(
            configuration=configuration,
            choice=lm.find(configuration, environ),
            python=sys.executable,
            config_path=path,
        )
        try:
            return asyncio.run(_run(plan, out))
        except StackFailed as error:
            print(f"dspex demo: {error}", file=sys.stderr)
            return 1


async def _run(plan: Plan, out: Console) -> int:
    status = INTERRUPTED
    kept = Settings(home=Path(), logs=settings.FOLDER / "logs" / "demo")
    out.step(f"language model: {plan.choice.tell()}")
    stack = Stack(plan, kept, out.step)
    with stopping(stack, out):
        async with stack:
            status = await _ask_all(stack.url, plan, out)
            out.step("stopping")
    return status


async def _ask_all(url: str, plan: Plan, out: Console) -> int:
    subjects = plan.configuration.subjects
    bus = await connection.connect(BusSettings(url=url, name="dspex-demo"))
    failed = 0
    try:
        for question in QUESTIONS:
            failed += 0 if await _ask(bus, subjects, question, out) else 1
    finally:
        await bus.close()
    out.line()
    if failed:
        out.line(out.bad(f"{failed} of {len(QUESTIONS)} questions failed."))
        return 1
    _teach(subjects, plan, out)
    return 0


async def _ask(bus: Bus, subjects: Subjects, question: Question, out: Console) -> bool:
    out.line()
    out.line(f"{out.bold(question.title)} {out.dim(f'({question.operation})')}")
    for name, value in question.body["inputs"].items():
        out.line(f"  {out.dim(f'{name}:')} {value}")
    subject = subjects.call(question.operation)
    try:
        if question.stream:
            return await _stream(bus, subject, question, out)
        reply = await bus.request(
            subject, question.text().encode(), timeout=TIMEOUT_SECONDS
        )
    except (Failure, NoResponders, TimeoutError) as error:
        out.line(f"  {out.bad(f'No answer: {error!r}')}")
        return False
    answer = json.loads(reply.data)
    if answer["type"] == "done":
        for name, value in answer["outputs"].items():
            out.line(f"  {out.good(f'{name}:')} {value}")
    return _conclude(answer, out)


async def _stream(bus: Bus, subject: str, question: Question, out: Console) -> bool:
    field, last = "", {"type": "failed", "code": "no_reply", "message": "no events"}
    async with await bus.replies(dedicated=True) as replies:
        await bus.publish(
            subject,
            question.text().encode(),
            headers=question.headers,
            reply=replies.subject,
        )
        while not (message := await replies.next(TIMEOUT_SECONDS)).is_end():
            last = json.loads(message.data)
            if last.get("kind") == "delta":
                field = _show_delta(last, field, out)
    if field:
        out.line()
    return _conclude(last, out)


def _show_delta(delta: dict[str, Any], field: str, out: Console) -> str:
    name = str(delta["field"])
    if name != field:
        end = "\n" if field else ""
        out.part(f"{end}  {out.good(f'{name}:')} ")
    out.part(str(delta["text"]))
    return name


def _conclude(answer: dict[str, Any], out: Console) -> bool:
    """Say who answered, or what failed, from a reply or a final event."""
    if "outputs" not in answer:
        out.line(f"  {out.bad(str(answer['code']))}: {answer['message']}")
        if hint := answer.get("hint"):
            out.line(f"  {hint}")
        return False
    out.line(f"  {out.dim(who(answer['metadata']))}")
    return True


def who(metadata: dict[str, Any]) -> str:
    """Who answered, with what, how fast, in how many attempts, and why that one."""
    lm_name = f" with {metadata['lm']}" if metadata.get("lm") else ""
    plural = "" if metadata["attempts"] == 1 else "s"
    return (
        f"answered by worker {metadata['worker']} of pool {metadata['pool']}{lm_name} "
        f"in {metadata['total_ms']:.0f} ms (running {metadata['run_ms']:.0f} ms), "
        f"{metadata['attempts']} attempt{plural}, chosen as {metadata['reason']}"
    )


def _teach(subjects: Subjects, plan: Plan, out: Console) -> None:
    out.line(out.bold("The same from any NATS client"))
    out.line("Start `dspex up`, then publish these subjects, headers and bodies, here")
    out.line("as the `nats` command line sends them (to port 4222, unless NATS_URL is")
    out.line("set as `up` says):")
    for question in QUESTIONS:
        out.line()
        out.line(out.dim(f"# {question.title}"))
        out.line(question.command(subjects.call(question.operation)))
    if plan.choice.builtin:
        out.line()
        out.line(f"All of this was answered by the {lm.BUILTIN_TEXT}.")
