"""Signs of progress whose thread fails."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dspex.bus.progress import Progress

if TYPE_CHECKING:
    import pytest

    from dspex.bus.core import Bus


async def test_it_is_stopped_after_its_thread_has_failed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A thread that ended by itself has said why, and holds up no stop."""

    async def connect() -> Bus:
        raise ValueError("no way there")

    progress = Progress(connect, every=60.0)
    progress.start()
    progress._thread.join()

    await progress.stop()

    assert "signs of progress ended" in caplog.text
