"""An owner for tasks: none is forgotten, and all of them end with it."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Coroutine

_log = logging.getLogger(__name__)


class Tasks:
    """The tasks one object started; nothing else in the project starts any."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[Any]] = set()

    def __len__(self) -> int:
        return len(self._running)

    def start(self, work: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        """Run ``work`` in the background; what it raises is logged."""
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._running.add(task)
        task.add_done_callback(self._ended)
        return task

    async def wait(self, grace: float) -> None:
        """Wait up to ``grace`` seconds for all to end."""
        if others := self._running - {asyncio.current_task()}:
            await asyncio.wait(others, timeout=grace)

    async def join(self, grace: float) -> None:
        """Wait up to ``grace`` seconds for all to end, then cancel the rest."""
        await self.wait(grace)
        await self.cancel()

    async def cancel(self) -> None:
        """Cancel all that run, and wait until they have ended."""
        me = asyncio.current_task()
        while others := self._running - {me}:
            for task in others:
                task.cancel()
            await asyncio.wait(others, timeout=1)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error(
                "background task failed",
                exc_info=error,
                extra={"task": task.get_name()},
            )
