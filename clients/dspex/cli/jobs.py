"""``dspex job``: work that outlives who asks for it and who does it."""

from __future__ import annotations

import asyncio
import datetime
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import msgspec

from dspex.bus import settings
from dspex.cli import home
from dspex.cli.call import CONNECT_WITHIN, build, report, shown
from dspex.cli.console import aligned, console
from dspex.client import connect
from dspex.client.jobs import shown as job_of
from dspex.contracts import catalog, encoding
from dspex.contracts.failures import Failure
from dspex.contracts.job_requests import JobList, JobState, ShownJob

if TYPE_CHECKING:
    import argparse
    from collections.abc import Awaitable, Callable

    from dspex.cli.console import Console
    from dspex.client import Client

ABOUT = """\
Jobs outlive the client that submits them and the workers that run them.

  dspex job submit predict --signature "question -> answer" question="Why?" --wait
  dspex job submit predict --signature "text -> summary" text=… --in 3600 --priority 5
  dspex job ls --state dead
  dspex job show JOB
  dspex job retry JOB
"""

_SHOWN = {
    "show": ("get", "show a job, its attempts and its result"),
    "cancel": ("cancel", "end a job that is waiting or running"),
    "retry": ("retry", "try a dead job again"),
}


def add(found: argparse.ArgumentParser, seconds: Callable[[str], float]) -> None:
    """Add what follows ``dspex job`` to its command line.

    Args:
        found: Its parser.
        seconds: Reads a time.
    """
    actions = found.add_subparsers(dest="action", metavar="ACTION", required=True)
    submit = _action(actions, "submit", "submit an operation as a job")
    _add_submit(submit, seconds)
    listed = _action(actions, "ls", "list jobs")
    listed.add_argument(
        "--state", choices=get_args(JobState), help="only those in this state"
    )
    listed.add_argument("--operation", metavar="NAME", help="only those of this one")
    listed.add_argument(
        "--limit", type=int, default=50, metavar="N", help="default: 50"
    )
    listed.add_argument(
        "--after",
        type=int,
        default=0,
        metavar="N",
        help="start after this one: the `next` of an earlier list",
    )
    for name, (_, summary) in _SHOWN.items():
        _action(actions, name, summary).add_argument("job", metavar="JOB")
    wait = _action(actions, "wait", "wait until a job has ended, and print its result")
    wait.add_argument("job", metavar="JOB")
    wait.add_argument(
        "--timeout", type=seconds, metavar="S", help="default: as long as it takes"
    )


def main(arguments: argparse.Namespace) -> int:
    """Run the command and return its exit status."""
    environ = dict(os.environ)
    try:
        return asyncio.run(_run(arguments, environ, console(environ, sys.stdout)))
    except Failure as failure:
        report(failure, as_json=arguments.json)
        return 1


async def _run(
    arguments: argparse.Namespace, environ: dict[str, str], out: Console
) -> int:
    found = settings.load(arguments.config, environ)
    url = home.find_url(arguments.url, environ, found, Path())
    async with connect(
        url,
        prefix=found.prefix,
        credentials=found.nats.credentials,
        connect_timeout=CONNECT_WITHIN,
    ) as client:
        do = _ACTIONS.get(arguments.action, _show)
        return await do(client, arguments, out)


async def _submit(client: Client, arguments: argparse.Namespace, out: Console) -> int:
    catalog.operation(arguments.operation)
    job = await client.submit(
        arguments.operation, build(arguments), **_options(arguments)
    )
    if arguments.wait:
        return _print_end(await job.wait(), out, as_json=arguments.json)
    _print(await job.get(), out, as_json=arguments.json)
    return 0


async def _list(client: Client, arguments: argparse.Namespace, out: Console) -> int:
    body = {"limit": arguments.limit, "after": arguments.after}
    given = {name: getattr(arguments, name) for name in ("state", "operation")}
    body |= {name: value for name, value in given.items() if value is not None}
    answer = await client.call("job.list", body)
    if arguments.json:
        out.line(msgspec.json.encode(answer.outputs).decode())
        return 0
    found: JobList = encoding.read(answer.outputs, JobList)
    rows: list[tuple[str, ...]] = [
        ("job", "state", "operation", "pool", "prio", "tries", "submitted", "changed")
    ]
    rows += [_row(one) for one in found.jobs]
    head, *lines = aligned(rows)
    out.line(out.dim(head))
    for line in lines:
        out.line(line)
    if found.next is not None:
        out.line(out.dim(f"more: --after {found.next}"))
    return 0


async def _wait(client: Client, arguments: argparse.Namespace, out: Console) -> int:
    job = await client.job(arguments.job).wait(arguments.timeout)
    return _print_end(job, out, as_json=arguments.json)


async def _show(client: Client, arguments: argparse.Namespace, out: Console) -> int:
    operation, _ = _SHOWN[arguments.action]
    answer = await client.call(f"job.{operation}", {"job": arguments.job})
    _print(job_of(answer), out, as_json=arguments.json)
    return 0


def _options(arguments: argparse.Namespace) -> dict[str, Any]:
    names = ("job", "pool", "priority", "max_attempts", "keep_result_s")
    given = {name: getattr(arguments, name) for name in names}
    found = {name: value for name, value in given.items() if value is not None}
    now = time.time()
    if arguments.later is not None:
        found["not_before"] = (now + arguments.later) * 1000
    if arguments.within is not None:
        found["deadline"] = (now + arguments.within) * 1000
    return found


def _print_end(job: ShownJob, out: Console, *, as_json: bool) -> int:
    _print(job, out, as_json=as_json)
    return 0 if job.state == "done" else 1


def _print(job: ShownJob, out: Console, *, as_json: bool) -> None:
    if as_json:
        out.line(msgspec.json.encode(job).decode())
        return
    said = f"{job.job}: {job.state}, {job.operation} in pool {job.pool}"
    out.line(out.bold(said))
    for attempt in job.attempts:
        failure = attempt.failure
        why = f": {failure.code}, {failure.message}" if failure else ""
        out.line(out.dim(f"  {_clock(attempt.at)}  {attempt.worker}{why}"))
    result = job.result or {}
    for line in shown(result.get("outputs", {})):
        out.line(line)
    if "code" in result:
        out.line(out.bad(f"{result['code']}: {result['message']}"))
    if job.result_blob is not None:
        blob = job.result_blob
        out.line(f"{blob.size} bytes: {blob.name} in object store {blob.bucket}")


def _row(job: ShownJob) -> tuple[str, ...]:
    return (
        job.job,
        job.state,
        job.operation,
        job.pool,
        str(job.priority),
        str(len(job.attempts)),
        _clock(job.submitted_at),
        _clock(job.changed_at),
    )


def _clock(at: float) -> str:
    found = datetime.datetime.fromtimestamp(at / 1000).astimezone()
    return found.strftime("%Y-%m-%d %H:%M:%S")


def _action(actions: Any, name: str, summary: str) -> argparse.ArgumentParser:
    found: argparse.ArgumentParser = actions.add_parser(
        name, help=summary, description=f"{summary[0].upper()}{summary[1:]}."
    )
    found.add_argument("--url", metavar="URL", help="NATS server, host:port")
    found.add_argument("--json", action="store_true", help="print one JSON object")
    return found


def _add_submit(
    found: argparse.ArgumentParser, seconds: Callable[[str], float]
) -> None:
    found.add_argument("operation", metavar="OPERATION", help="such as predict")
    found.add_argument(
        "values",
        nargs="*",
        default=[],
        metavar="name=value",
        help="inputs, values or fields, as for `dspex call`",
    )
    found.add_argument("--signature", metavar="TEXT", help="'inputs -> outputs'")
    found.add_argument("--instructions", metavar="TEXT", help="what to do")
    found.add_argument("--lm", metavar="NAME", help="language model by its name")
    found.add_argument("--adapter", choices=("chat", "json", "xml"))
    found.add_argument("--body", metavar="JSON", help="more of the body, as an object")
    found.add_argument("--id", dest="job", metavar="JOB", help="default: a new one")
    found.add_argument("--pool", metavar="NAME", help="pool whose workers run it")
    found.add_argument("--priority", type=int, help="1 first, 5 last; default: 3")
    found.add_argument("--max-attempts", type=int, metavar="N")
    found.add_argument("--keep-result-s", type=int, metavar="S")
    found.add_argument(
        "--in", dest="later", type=seconds, metavar="S", help="begin in S seconds"
    )
    found.add_argument(
        "--within", type=seconds, metavar="S", help="fail if not done in S seconds"
    )
    found.add_argument("--wait", action="store_true", help="wait, and print the result")


_ACTIONS: dict[str, Callable[[Client, argparse.Namespace, Console], Awaitable[int]]] = {
    "submit": _submit,
    "ls": _list,
    "wait": _wait,
}
