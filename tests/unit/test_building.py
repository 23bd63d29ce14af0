"""Wheels, with the text functions compiled and without."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path
from shutil import copytree

import pytest
from tests.support.sources import ROOT

from dspex.native.metrics.texts import COMPILED

MODULE = "dspex/native/metrics/_text.abi3.so"


def build(folder: Path, **environ: str) -> zipfile.ZipFile:
    source = folder / "source"
    for room in ("contracts", "native"):
        copytree(ROOT / room, source / room)
    for name in ("pyproject.toml", "hatch_build.py", "README.md", "LICENSE"):
        (source / name).write_bytes((ROOT / name).read_bytes())
    code = "import hatchling.build as b, sys; print(b.build_wheel(sys.argv[1]))"
    ran = subprocess.run(
        [sys.executable, "-c", code, str(folder)],
        cwd=source,
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    return zipfile.ZipFile(folder / ran.stdout.split()[-1])


@pytest.mark.skipif(COMPILED is None, reason="there was no compiler")
def test_compiled_wheel(tmp_path: Path) -> None:
    """One wheel serves all Pythons from 3.11 on, and only this platform."""
    with build(tmp_path) as wheel:
        assert "-cp311-abi3-" in str(wheel.filename)
        assert [name for name in wheel.namelist() if name.endswith(".so")] == [MODULE]
        assert not any(name.endswith(".c") for name in wheel.namelist())


@pytest.mark.parametrize(
    "environ", [{"DSPEX_PURE": "1"}, {"CC": "/nowhere/cc"}, {"CFLAGS": "-bogus!"}]
)
def test_pure_wheel(tmp_path: Path, environ: dict[str, str]) -> None:
    """Without a compiler, or if asked to, it builds a wheel for all platforms."""
    with build(tmp_path, **environ) as wheel:
        assert str(wheel.filename).endswith("-py3-none-any.whl")
        assert not any(name.endswith(".so") for name in wheel.namelist())
