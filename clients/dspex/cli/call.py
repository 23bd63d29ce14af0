"""``dspex call``: one request, its answer or its stream."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from dspex import client as library
from dspex.bus import settings
from dspex.cli import home, values
from dspex.cli.console import console
from dspex.contracts import catalog, envelope
from dspex.contracts.failures import Failure

if TYPE_CHECKING:
    import argparse

    from dspex.cli.console import Console
    from dspex.client import Client

_OPTIONS = ("instructions", "lm", "adapter")


def main(arguments: argparse.Namespace) -> int:
    """Run the command and return its exit status."""
    environ = dict(os.environ)
    out = console(environ)
    try:
        catalog.operation(arguments.operation)
        body = build(arguments)
        configuration = settings.load(arguments.config, environ)
        url = home.find_url(arguments.url, environ, configuration, Path())
        asyncio.run(_ask(url, arguments, body, out))
    except Failure as failure:
        report(failure, as_json=arguments.json)
        return 1
    return 0


def build(arguments: argparse.Namespace) -> dict[str, Any]:
    """The body that the command line asks for.

    Raises:
        BadRequest: A part of it cannot be read.
    """
    body = values.body(arguments.body)
    if arguments.signature is not None:
        body["signature"] = arguments.signature
    for name in _OPTIONS:
        if getattr(arguments, name) is not None:
            body[name] = getattr(arguments, name)
    texts = values.split(arguments.values)
    wants_values = "inputs" in _fields(arguments.operation)
    key = "inputs" if wants_values else "values"
    if texts or (wants_values and "inputs" not in body):
        signature = body.get("signature")
        text = signature if isinstance(signature, str) else None
        body[key] = {**body.get(key, {}), **values.inputs(text, texts)}
    return body


def report(failure: Failure, *, as_json: bool) -> None:
    """Say a failure on standard error: its code, what was wrong, what to do."""
    if as_json:
        print(msgspec.json.encode(envelope.failed("", failure)).decode())
        return
    where = f" (at {failure.field})" if failure.field else ""
    print(f"{failure.code}{where}: {failure.message}", file=sys.stderr)
    if failure.hint:
        print(f"  {failure.hint}", file=sys.stderr)


def _fields(operation: str) -> set[str]:
    request = catalog.operation(operation).request
    return {field.name for field in msgspec.structs.fields(request)}


async def _ask(
    url: str, arguments: argparse.Namespace, body: dict[str, Any], out: Console
) -> None:
    async with library.connect(url) as client:
        if arguments.stream:
            await _stream(client, arguments, body, out)
            return
        done = await client.call(arguments.operation, body, timeout=arguments.timeout)
    if arguments.json:
        out.line(msgspec.json.encode(done).decode())
        return
    for line in shown(done.outputs):
        out.line(line)
    out.line(out.dim(answered(done.metadata)))


async def _stream(
    client: Client, arguments: argparse.Namespace, body: dict[str, Any], out: Console
) -> None:
    field = ""
    events = client.stream(arguments.operation, body, timeout=arguments.timeout)
    async for event in events:
        if arguments.json:
            out.line(msgspec.json.encode(event).decode())
        elif isinstance(event, envelope.Delta):
            if event.field != field:
                out.part(f"{chr(10) if field else ''}{event.field}: ")
                field = event.field
            out.part(event.text)
        elif isinstance(event, envelope.DoneEvent):
            _finish(event, field, out)


def _finish(event: envelope.DoneEvent, field: str, out: Console) -> None:
    if field:
        out.line()
    else:  # nothing came in parts, so nothing has been shown
        for line in shown(event.outputs):
            out.line(line)
    out.line(out.dim(answered(event.metadata)))


def shown(outputs: dict[str, Any]) -> list[str]:
    """Outputs as lines: ``name: value``, texts as they are and the rest as JSON."""
    return [f"{name}: {_text(one)}" for name, one in outputs.items()]


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def answered(metadata: envelope.Metadata) -> str:
    """Who answered, how long it took and how often it was tried, in one line."""
    lm = f", {metadata.lm}" if metadata.lm else ""
    tries = "attempt" if metadata.attempts == 1 else "attempts"
    return (
        f"answered by {metadata.pool}/{metadata.worker} in {metadata.total_ms:.0f} ms "
        f"({metadata.attempts} {tries}{lm})"
    )
