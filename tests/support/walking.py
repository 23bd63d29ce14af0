"""``dspex replay --step`` as a machine reads and writes it."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any, Self

from tests.support.commands import begin

if TYPE_CHECKING:
    from tests.support.stack import Stack

WITHIN = 90.0
"""Seconds in which the next line comes; the first one waits for processes."""


class Walking:
    """One walk: what it says is read line by line, what it is told is JSON.

    Args:
        stack: Where the request was recorded.
        *words: Of the command line.
    """

    def __init__(self, stack: Stack, *words: str) -> None:
        self._stack = stack
        self._words = words

    async def __aenter__(self) -> Self:
        words = ("replay", *self._words, "--json")
        pipe = asyncio.subprocess.PIPE
        self._process = await begin(self._stack, *words, stdin=pipe)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()

    async def line(self) -> dict[str, Any]:
        """What it says next."""
        assert self._process.stdout is not None
        async with asyncio.timeout(WITHIN):
            said = await self._process.stdout.readline()
        if not said:
            assert self._process.stderr is not None
            raise EOFError((await self._process.stderr.read()).decode())
        found: dict[str, Any] = json.loads(said)
        return found

    async def tell(self, **decision: Any) -> dict[str, Any]:
        """Decide about a call, and read what it says then."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{json.dumps(decision)}\n".encode())
        await self._process.stdin.drain()
        return await self.line()

    async def status(self) -> int:
        """Its exit status, once it has ended by itself."""
        async with asyncio.timeout(WITHIN):
            return await self._process.wait()
