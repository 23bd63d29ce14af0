from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from dspex.bus.tasks import Tasks

if TYPE_CHECKING:
    import pytest


async def test_join() -> None:
    """Joining waits for what ends in time."""
    tasks = Tasks()
    done: list[int] = []

    async def work() -> None:
        await asyncio.sleep(0)
        done.append(1)

    for _ in range(3):
        tasks.start(work(), "work")
    assert len(tasks) == 3
    await tasks.join(10)

    assert done == [1, 1, 1]
    assert len(tasks) == 0


async def test_join_cancels() -> None:
    """Joining cancels what does not end in time, also what ignores it at first."""
    tasks = Tasks()
    cancelled: list[int] = []

    async def stubborn() -> None:
        for _ in range(2):
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled.append(1)

    task = tasks.start(stubborn(), "stubborn")
    await asyncio.sleep(0)
    async with asyncio.timeout(5):
        await tasks.join(0)

    assert task.done()
    assert cancelled == [1, 1]


async def test_a_task_may_end_its_siblings() -> None:
    """A task that joins its own owner does not wait for itself."""
    tasks = Tasks()
    sibling = tasks.start(asyncio.Event().wait(), "sibling")

    async def ends_all() -> None:
        await tasks.join(0)

    await tasks.start(ends_all(), "ends")

    assert sibling.cancelled()


async def test_errors_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    """What a task raises is in the log, under the task's name."""
    tasks = Tasks()

    async def fails() -> None:
        raise ValueError("a defect")

    tasks.start(fails(), "the one")
    await tasks.join(1)

    [record] = caplog.records
    assert record.__dict__["task"] == "the one"
    assert record.exc_info is not None
    assert str(record.exc_info[1]) == "a defect"
