from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dspex.services.model.settings import SettingsError, read


def test_defaults() -> None:
    """With a key alone, the weights are beside the project and the port is free."""
    found = read([], {"DSPEX_MODEL_KEY": "secret"})

    assert (found.key, found.port, found.prepare) == ("secret", 0, False)
    assert found.models == Path(".dspex/models")


def test_the_folder_and_the_port_can_be_chosen() -> None:
    """DSPEX_MODELS and --port are taken."""
    environ = {"DSPEX_MODEL_KEY": "secret", "DSPEX_MODELS": "elsewhere"}

    found = read(["--port", "4321", "--verbose"], environ)

    assert (found.models, found.port) == (Path("elsewhere"), 4321)
    assert found.verbose


def test_a_key_is_needed_to_serve() -> None:
    """Without a key nothing is served; preparing needs none."""
    with pytest.raises(SettingsError, match="DSPEX_MODEL_KEY is not set"):
        read([], {})

    assert read(["--prepare"], {}).prepare


def test_the_key_is_not_shown() -> None:
    """The repr, which ends up in logs, hides the key."""
    assert "secret" not in repr(read([], {"DSPEX_MODEL_KEY": "secret"}))


def test_the_program_says_what_is_missing() -> None:
    """A start without a key ends with status 2 and the reason, not a traceback."""
    environ = {**os.environ, "DSPEX_MODEL_KEY": ""}
    command = [sys.executable, "-m", "dspex.services.model"]

    done = subprocess.run(
        command, env=environ, capture_output=True, text=True, check=False
    )

    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("DSPEX_MODEL_KEY is not set")
