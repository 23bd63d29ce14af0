"""``dspex session``: which sessions there are, what one holds, and ending it."""

from __future__ import annotations

import asyncio
import datetime
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from dspex.bus import settings
from dspex.cli import home
from dspex.cli.call import CONNECT_WITHIN, report
from dspex.cli.console import aligned, console
from dspex.client import connect
from dspex.contracts import encoding
from dspex.contracts.failures import Failure
from dspex.contracts.session_requests import SessionDetails, SessionInfo, SessionList

if TYPE_CHECKING:
    import argparse

    from dspex.cli.console import Console
    from dspex.client import Client

TIMEOUT = 10.0
"""Seconds for one request."""

SHOWN = 60
"""Characters of a value that a table shows."""


def main(arguments: argparse.Namespace) -> int:
    """Run the command and return its exit status."""
    environ = dict(os.environ)
    try:
        found = settings.load(arguments.config, environ)
        url = home.find_url(arguments.url, environ, found, Path())
        outputs = asyncio.run(
            _ask(url, found.nats.credentials, found.prefix, arguments)
        )
    except Failure as failure:
        report(failure, as_json=arguments.json)
        return 1
    if arguments.json:
        print(msgspec.json.encode(outputs).decode())
    else:
        _SHOW[arguments.action](outputs, console(environ, sys.stdout))
    return 0


async def _ask(
    url: str, credentials: str | None, prefix: str, arguments: argparse.Namespace
) -> dict[str, Any]:
    async with connect(
        url,
        prefix=prefix,
        tenant=arguments.tenant,
        credentials=credentials,
        connect_timeout=CONNECT_WITHIN,
    ) as connected:
        client = connected.with_options(timeout=TIMEOUT)
        if arguments.action == "ls":
            return {"sessions": await _all(client)}
        operation = {"show": "session.get", "close": "session.close"}[arguments.action]
        body = {"session": arguments.session}
        return (await client.call(operation, body)).outputs


async def _all(client: Client) -> list[Any]:
    """Every session, page after page."""
    found: list[Any] = []
    after: str | None = ""
    while after is not None:
        page = (await client.call("session.list", {"after": after})).outputs
        found += page["sessions"]
        after = page["next"]
    return found


def _list(outputs: dict[str, Any], out: Console) -> None:
    found = encoding.read(outputs, SessionList)
    rows: list[tuple[str, ...]] = [("session", "turns", "opened", "changed", "ends")]
    rows += [
        (
            one.session,
            str(one.turn_count),
            *map(_clock, (one.opened_at, one.at, one.expires_at)),
        )
        for one in found.sessions
    ]
    if len(rows) == 1:
        return out.line("No session is open.")
    head, *lines = aligned(rows)
    out.line(out.dim(head))
    for line in lines:
        out.line(line)
    return None


def _show(outputs: dict[str, Any], out: Console) -> None:
    found: SessionDetails = encoding.read(outputs, SessionDetails)
    out.line(out.bold(found.session))
    said = {
        "signature": found.settings.signature or "none",
        "opened": _clock(found.opened_at),
        "changed": _clock(found.at),
        "ends": _clock(found.expires_at),
        "tokens": found.usage.total_tokens,
        "values": found.values,
    }
    for line in aligned([(name, _text(value)) for name, value in said.items()]):
        out.line(f"  {line}")
    for turn in found.turns:
        out.line(out.dim(f"{turn.number}. {turn.operation}, {_clock(turn.at)}"))
        for name, value in (turn.inputs | turn.outputs).items():
            out.line(f"  {name}: {_text(value)}")
    if found.next is not None:
        out.line(out.dim(f"… of {found.turn_count} turns"))


def _closed(outputs: dict[str, Any], out: Console) -> None:
    found: SessionInfo = encoding.read(outputs, SessionInfo)
    turns = "turn" if found.turn_count == 1 else "turns"
    out.line(f"{found.session} is closed, after {found.turn_count} {turns}.")


def _text(value: Any) -> str:
    text = value if isinstance(value, str) else encoding.encode(value).decode()
    line = " ".join(text.split())
    return line if len(line) <= SHOWN else f"{line[: SHOWN - 1]}…"


def _clock(at: float) -> str:
    found = datetime.datetime.fromtimestamp(at / 1000).astimezone()
    return found.strftime("%Y-%m-%d %H:%M:%S")


_SHOW = {"ls": _list, "show": _show, "close": _closed}
