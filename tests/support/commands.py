"""Running ``dspex …`` against a stack, as a user would."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.support.stack import Stack

SECONDS = 60


async def begin(
    stack: Stack, *words: str, environ: dict[str, str] | None = None, **pipes: int
) -> asyncio.subprocess.Process:
    """Start a command; it runs until it ends by itself, or is ended.

    Args:
        stack: Whose configuration it has.
        *words: Its command line.
        environ: All of its configuration, instead of the stack's.
        **pipes: Its ``stdin``, ``stdout`` or ``stderr``.
    """
    pipe = asyncio.subprocess.PIPE
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "dspex.cli", *words),
        env=os.environ | (stack.environ if environ is None else environ),
        stdin=pipes.get("stdin", asyncio.subprocess.DEVNULL),
        stdout=pipes.get("stdout", pipe),
        stderr=pipes.get("stderr", pipe),
    )


async def dspex(stack: Stack, *words: str) -> tuple[int | None, str, str]:
    """Exit status, output and errors of a command."""
    process = await begin(stack, *words)
    async with asyncio.timeout(SECONDS):
        out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()
