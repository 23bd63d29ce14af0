"""What the processes of one host have promised of its GPUs, each in a file of its own.

A process holds a lock on its file for as long as it lives, so that what a dead one had
promised is seen to be nobody's. Whoever promises more does it under one lock for all.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections import Counter
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_LONGEST = 1 << 16


def folder() -> Path:
    """Where the processes of this user on this host keep their promises."""
    return Path(tempfile.gettempdir()) / f"dspex-gpus-{os.getuid()}"


class Promises:
    """The bytes promised of each GPU, by its UUID.

    Args:
        path: Folder that all processes of the host share; made when it is missing.

    Raises:
        OSError: The folder is another user's, or cannot be written.
    """

    def __init__(self, path: Path) -> None:
        path.mkdir(mode=0o700, exist_ok=True)
        if path.is_symlink() or path.stat().st_uid != os.getuid():
            raise PermissionError(f"{path} is another user's")
        self._folder = path
        self._all = (path / "lock").open("ab")
        self._name = f"{os.getpid()}-{uuid4().hex}.json"
        with self.locked(wait=True):  # or it would look as if nobody had it
            self._own = (path / self._name).open("w+b")
            fcntl.flock(self._own, fcntl.LOCK_EX)

    @contextmanager
    def locked(self, *, wait: bool = False) -> Iterator[bool]:
        """Keep the others from promising meanwhile; ``False``: one of them does."""
        try:
            fcntl.flock(self._all, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
            return
        try:
            yield True
        finally:
            fcntl.flock(self._all, fcntl.LOCK_UN)

    def tell(self, promised: Mapping[str, int]) -> None:
        """What this process has promised now, in one write."""
        data = msgspec.json.encode(promised)
        os.pwrite(self._own.fileno(), data.ljust(_size(self._own.fileno())), 0)

    def others(self) -> Counter[str]:
        """What the other processes have promised; files of dead ones are removed."""
        found: Counter[str] = Counter()
        for path in self._folder.glob("*.json"):
            if path.name != self._name:
                with suppress(FileNotFoundError):
                    found.update(_read(path))
        return found

    def close(self) -> None:
        """Promise nothing any more."""
        (self._folder / self._name).unlink(missing_ok=True)
        self._own.close()
        self._all.close()


def _size(descriptor: int) -> int:
    return os.fstat(descriptor).st_size


def _read(path: Path) -> dict[str, int]:
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            data = file.read(_LONGEST)
            return msgspec.json.decode(data, type=dict[str, int]) if data else {}
        path.unlink()
        return {}
