"""The server of the built-in toy model, as a child process."""

from __future__ import annotations

import asyncio
import json
import re
import secrets
import sys
import tempfile
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from dspex.bus.children import Child, Ended, Program
from dspex.contracts.failures import NoWorker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

READY_WITHIN = 900.0
"""Longest wait for it, seconds: the first time its weights are fetched."""

PARENT_PIPE = "DSPEX_PARENT_PIPE"
"""Tells a program to stop when its standard input closes: its parent is gone."""

STOP_SECONDS = 10.0

_READY = re.compile(r'^\{.*"type"\s*:\s*"ready"')


def secret() -> str:
    """What its callers must show."""
    return secrets.token_urlsafe(24)


def program(python: str, key: str) -> Program:
    """How it is started; it fetches its weights if need be."""
    return Program(
        name="model",
        role="model",
        argv=(python, "-m", "dspex.services.model"),
        environ={"DSPEX_MODEL_KEY": key, PARENT_PIPE: "1"},
    )


async def started(child: Child, say: Callable[[str], None]) -> dict[str, str]:
    """Start it, and wait until it answers.

    Returns:
        The variables by which workers find it.

    Raises:
        Ended: It ended instead.
        TimeoutError: It was not ready in time.
    """
    await child.start(piped=True)
    async with asyncio.timeout(READY_WITHIN):
        said = await child.announced(_READY, say)
    url = json.loads(said.splitlines()[-1])["url"]
    return {
        "DSPEX_MODEL_URL": url,
        "DSPEX_MODEL_KEY": child.program.environ["DSPEX_MODEL_KEY"],
    }


@asynccontextmanager
async def serving(say: Callable[[str], None]) -> AsyncIterator[dict[str, str]]:
    """Serve it while the block runs, and yield the variables by which it is found.

    Raises:
        NoWorker: It cannot be started.
    """
    with tempfile.TemporaryDirectory(prefix="dspex-model-") as folder:
        wanted = program(sys.executable, secret())
        child = Child(wanted, Path(folder) / "model.log")
        try:
            try:
                found = await started(child, say)
            except (Ended, TimeoutError) as error:
                raise NoWorker(
                    f"The built-in model does not start: {error}",
                    hint="`dspex doctor` says what it lacks.",
                ) from None
            yield found
        finally:
            await child.stop(STOP_SECONDS)
