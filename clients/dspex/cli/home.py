"""The folder ``.dspex``, where a running stack of this folder leaves its traces."""

from __future__ import annotations

import fcntl
from contextlib import contextmanager
from tempfile import TemporaryFile
from typing import TYPE_CHECKING

from dspex.bus.settings import FOLDER, published, url_file
from dspex.contracts.configuration import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from dspex.contracts.configuration import Configuration


def trouble(folder: Path) -> tuple[str, str] | None:
    """Why ``dspex up`` could not keep its files in ``folder``, and what to do."""
    home = folder / FOLDER
    if home.exists() and not home.is_dir():
        found = f"{home.absolute()} is a file; dspex keeps its files in a folder there."
        return found, "Move it away, or run dspex in another folder."
    kept = home if home.exists() else folder
    try:
        with TemporaryFile(dir=kept):
            return None
    except OSError as error:
        found = f"{kept.absolute()} cannot be written to: {error.strerror}."
        return found, "Run dspex in a folder of yours."


@contextmanager
def claim(folder: Path) -> Iterator[None]:
    """Be the only stack of ``folder``: two would share one store.

    The system gives the claim back when this process ends, however it ends.

    Raises:
        ConfigurationError: Another stack runs there, or nothing can be written.
    """
    if problem := trouble(folder):
        raise ConfigurationError(" ".join(problem))
    path = folder / FOLDER / "lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ConfigurationError(
                f"Another `dspex up` runs in {folder.resolve()}. Use it (`dspex call` "
                "finds it), or start this one in another folder."
            ) from None
        yield


@contextmanager
def publish(folder: Path, url: str) -> Iterator[None]:
    """Let ``dspex call`` in ``folder`` find the server at ``url``.

    The file is locked for as long as it holds true, and the system ends the lock
    with this process: whoever reads it knows whether somebody is there.
    """
    path = url_file(folder)
    new = path.with_suffix(".new")
    with new.open("w", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write(f"{url}\n")
        file.flush()
        new.replace(path)
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def find_url(
    given: str | None,
    environ: Mapping[str, str],
    configuration: Configuration,
    folder: Path,
) -> str:
    """The server to call: ``--url``, the settings, else the stack of ``folder``.

    Raises:
        ConfigurationError: None of them says one, or the stack is gone.
    """
    settings = environ.get("DSPEX_NATS_URL") or configuration.nats.url
    if url := given or settings:
        return url
    stack = published(folder)
    if stack is None:
        raise ConfigurationError(
            "Which NATS server? Run `dspex up` in this folder first, give --url "
            "nats://host:4222, set DSPEX_NATS_URL, or set nats.url in dspex.toml."
        )
    if not stack.alive:
        raise ConfigurationError(
            f"The `dspex up` of this folder, which served {stack.url}, is gone: it was "
            "killed. Start it again, or give --url."
        )
    return stack.url
