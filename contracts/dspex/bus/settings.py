"""Where the configuration comes from: a file, overridden by the environment.

What is in it, and which key is refused, is ``dspex.contracts.configuration``.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from dspex.contracts import configuration
from dspex.contracts.configuration import Configuration, ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULT_FILE = Path("dspex.toml")
"""Read from the current folder when no other file is named."""


def locate(path: Path | None, environ: Mapping[str, str]) -> Path | None:
    """The file to read: ``path``, else ``DSPEX_CONFIG``, else ``./dspex.toml``.

    Returns:
        Its path; ``None`` when none is named and ``./dspex.toml`` does not exist.

    Raises:
        ConfigurationError: A file is named and is not there.
    """
    if path is not None:
        return _existing(path, "--config")
    if named := environ.get("DSPEX_CONFIG"):
        return _existing(Path(named), "DSPEX_CONFIG")
    return DEFAULT_FILE if DEFAULT_FILE.is_file() else None


def load(path: Path | None, environ: Mapping[str, str]) -> Configuration:
    """Read the configuration that ``locate`` finds; without a file, the defaults.

    Raises:
        ConfigurationError: The file is missing or cannot be read, or what it or
            the environment says cannot be used.
    """
    found = locate(path, environ)
    if found is None:
        return configuration.parse("", environ)
    try:
        text = found.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"Cannot read {found}: {error}.") from None
    return configuration.parse(text, environ)


def _existing(path: Path, source: str) -> Path:
    if not path.is_file():
        raise ConfigurationError(
            f"{source} names {path}, and there is no such file. "
            "Correct the path, or leave it out to use ./dspex.toml or the defaults."
        )
    return path
