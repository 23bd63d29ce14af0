"""Keeps the logs of workers from filling the disk."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

LARGEST = 16 << 20
"""Bytes beyond which the beginning of a log is dropped."""

KEPT = 1 << 20
"""Bytes of its end that are kept."""


def bound(paths: Iterable[Path]) -> None:
    """Cut what has grown too long, while others append to it."""
    for path in paths:
        with contextlib.suppress(OSError):
            if path.stat().st_size > LARGEST:
                _cut(path)


def _cut(path: Path) -> None:
    with path.open("rb") as log:
        log.seek(-KEPT, os.SEEK_END)
        end = log.read(KEPT)
    # Whoever writes appends: what comes meanwhile follows the new end.
    os.truncate(path, 0)
    with path.open("ab") as log:
        log.write(b"... the beginning was dropped\n" + end)
