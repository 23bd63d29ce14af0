"""``dspex call``: one request, its answer or its stream."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from dspex.bus import settings
from dspex.cli import home, values
from dspex.cli.console import console
from dspex.client import connect
from dspex.contracts import catalog, envelope
from dspex.contracts.failures import BadRequest, Failure
from dspex.contracts.session_requests import Turn

if TYPE_CHECKING:
    import argparse

    from dspex.cli.console import Console
    from dspex.contracts.configuration import Configuration

_OPTIONS = ("instructions", "lm", "adapter")
_VALUES = ("inputs", "values")
"""What ``name=value`` goes into, where an operation has one of them."""

_REQUIRED = {
    "signature": 'Say what goes in and out: --signature "question -> answer"',
    "program": "Name a program of the configuration, or a stored one: --program triage",
}
"""Option -> what to do where an operation needs it and it is not there."""

CONNECT_WITHIN = 3.0
"""Seconds until the connection must stand: a person waits for it."""


def main(arguments: argparse.Namespace) -> int:
    """Run the command and return its exit status."""
    environ = dict(os.environ)
    out = console(environ)
    try:
        catalog.operation(arguments.operation)
        body = build(arguments)
        found = settings.load(arguments.config, environ)
        url = home.find_url(arguments.url, environ, found, Path())
        asyncio.run(_ask(found, url, arguments, body, out))
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
    if getattr(arguments, "program", None) is not None:
        body["program"] = arguments.program
    fields = _fields(arguments.operation, getattr(arguments, "session", ""))
    texts = values.split(arguments.values)
    for name, hint in _REQUIRED.items():
        field = fields.get(name)
        given = body.keys() if _takes_values(fields) else body.keys() | texts.keys()
        if field is not None and field.required and name not in given:
            raise BadRequest(f"--{name} is missing.", hint=hint)
    for name in _OPTIONS:
        if getattr(arguments, name) is not None:
            body[name] = getattr(arguments, name)
    return body | _given(fields, body, texts)


def _given(
    fields: dict[str, Any], body: dict[str, Any], texts: dict[str, str]
) -> dict[str, Any]:
    """What ``name=value`` adds: inputs, values, or else fields of the body itself."""
    key = _takes_values(fields)
    if key is None:
        schemas = {
            name: msgspec.json.schema(fields[name].type)
            for name in texts
            if name in fields
        }
        return {
            name: values.value(text, schemas.get(name)) for name, text in texts.items()
        }
    if not texts and key != "inputs":
        return {}
    signature = body.get("signature")
    read = values.inputs(signature if isinstance(signature, str) else None, texts)
    return {key: {**body.get(key, {}), **read}}


def _takes_values(fields: dict[str, Any]) -> str | None:
    return next((key for key in _VALUES if key in fields), None)


def report(failure: Failure, *, as_json: bool) -> None:
    """Say a failure on standard error: its code, what was wrong, what to do."""
    if as_json:
        print(msgspec.json.encode(envelope.failed(failure.request, failure)).decode())
        return
    where = f" (at {failure.field})" if failure.field else ""
    print(f"{failure.code}{where}: {failure.message}", file=sys.stderr)
    if failure.hint:
        print(f"  {failure.hint}", file=sys.stderr)


def _fields(operation: str, session: str) -> dict[str, msgspec.structs.FieldInfo]:
    request = Turn if session else catalog.operation(operation).request
    return {field.encode_name: field for field in msgspec.structs.fields(request)}


async def _ask(
    found: Configuration,
    url: str,
    arguments: argparse.Namespace,
    body: dict[str, Any],
    out: Console,
) -> None:
    operation = arguments.operation
    async with connect(
        url,
        prefix=found.prefix,
        credentials=found.nats.credentials,
        connect_timeout=CONNECT_WITHIN,
    ) as connected:
        client = connected.with_options(
            timeout=arguments.timeout, session=arguments.session
        )
        if arguments.stream:
            stream = Shown(out, as_json=arguments.json)
            async for event in client.stream(operation, body):
                stream.take(event)
            return
        answer = await client.call(operation, body)
    done = envelope.Done(
        request=answer.request, outputs=answer.outputs, metadata=answer.metadata
    )
    if arguments.json:
        out.line(msgspec.json.encode(done).decode())
    else:
        print_done(done, out)


class Shown:
    """A stream as it is printed: field by field, each text as it grows.

    Args:
        out: Where to.
        as_json: Print every event as a line of JSON instead.
    """

    def __init__(self, out: Console, *, as_json: bool = False) -> None:
        self._out = out
        self._as_json = as_json
        self._at: tuple[int, str] | None = None

    def take(self, event: envelope.Event) -> None:
        """Print what ``event`` adds."""
        if self._as_json:
            self._out.line(msgspec.json.encode(event).decode())
        elif isinstance(event, envelope.Delta):
            self._grow(event)
        elif isinstance(event, envelope.DoneEvent):
            self._finish(event)

    def _grow(self, delta: envelope.Delta) -> None:
        at = (delta.attempt, delta.field)
        if at != self._at:
            if self._at is not None:
                self._out.line()
            if self._at is not None and self._at[0] != delta.attempt:
                self._out.line(self._out.dim("(a new attempt: starting over)"))
            self._out.part(f"{delta.field}: ")
        self._at = at
        self._out.part(delta.text)

    def _finish(self, event: envelope.DoneEvent) -> None:
        if self._at is None:  # nothing came in parts, so nothing has been shown
            print_done(event, self._out)
            return
        self._out.line()
        self._out.line(self._out.dim(answered(event.metadata)))


def print_done(done: envelope.Done | envelope.DoneEvent, out: Console) -> None:
    """Print outputs, then who answered."""
    for line in shown(done.outputs):
        out.line(line)
    out.line(out.dim(answered(done.metadata)))


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
