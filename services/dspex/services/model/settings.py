"""What the program is told: arguments and environment, read once."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class SettingsError(Exception):
    """A setting is missing; the message says which."""


class Settings(Struct, frozen=True, kw_only=True):
    """How to serve the built-in model.

    Attributes:
        key: API key that clients have to send.
        models: Folder of the weights.
        port: Where to listen; zero takes a free port.
        prepare: Only fetch the weights.
        verbose: Let llama.cpp write its own log to standard error.
    """

    key: str
    models: Path
    port: int = 0
    prepare: bool = False
    verbose: bool = False

    def __repr__(self) -> str:
        return f"Settings(key=***, models={str(self.models)!r}, port={self.port})"


def read(arguments: Sequence[str], environ: Mapping[str, str]) -> Settings:
    """Read the command line and the environment.

    Raises:
        SettingsError: DSPEX_MODEL_KEY is not set.
    """
    parser = argparse.ArgumentParser(
        prog="dspex-model",
        description="Serve the built-in toy model on 127.0.0.1, until standard input "
        "(if it is a pipe) ends or SIGTERM comes.",
        epilog="DSPEX_MODEL_KEY: API key that clients must send. "
        "DSPEX_MODELS: folder of the weights, .dspex/models unless set.",
    )
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--prepare", action="store_true", help="only fetch the weights")
    parser.add_argument("--verbose", action="store_true", help="show llama.cpp's log")
    given = parser.parse_args(arguments)
    key = environ.get("DSPEX_MODEL_KEY", "")
    if not key and not given.prepare:
        raise SettingsError(
            "DSPEX_MODEL_KEY is not set and has no default. Set it to any secret "
            "text: without a key every web page could use the model."
        )
    return Settings(
        key=key,
        models=Path(environ.get("DSPEX_MODELS") or ".dspex/models"),
        port=given.port,
        prepare=given.prepare,
        verbose=given.verbose,
    )
