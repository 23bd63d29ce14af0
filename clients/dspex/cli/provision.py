"""``dspex provision``: make every stream, bucket and consumer there is to be."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from dspex.bus import settings
from dspex.bus.provisioning import Provisioned, provision
from dspex.cli import home
from dspex.cli.asking import connected
from dspex.cli.call import report
from dspex.cli.console import aligned, console
from dspex.contracts.failures import Failure

if TYPE_CHECKING:
    import argparse

    from dspex.contracts.configuration import Configuration

ABOUT = """\
Create the streams, buckets and consumers that DSPex needs, and update those that
differ from their declaration. The state program does the same when it starts; this is
for operators whose programs may not. Exit status 1 if one exists and cannot be
updated.
"""


def main(arguments: argparse.Namespace) -> int:
    """Run the command and return its exit status."""
    environ = dict(os.environ)
    try:
        found = settings.load(arguments.config, environ)
        url = home.find_url(arguments.url, environ, found, Path())
        made = asyncio.run(_provision(url, found))
    except Failure as failure:
        report(failure, as_json=arguments.json)
        return 1
    if arguments.json:
        print(msgspec.json.encode(made).decode())
        return 0
    out = console(environ, sys.stdout)
    head, *lines = aligned(
        [("kind", "name", ""), *((one.kind, one.name, one.made) for one in made)]
    )
    out.line(out.dim(head))
    for line in lines:
        out.line(line)
    return 0


async def _provision(url: str, found: Configuration) -> list[Provisioned]:
    bus = await connected(url, found, "dspex-provision")
    try:
        return await provision(bus, found)
    finally:
        await bus.close()
