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

needs_compiler = pytest.mark.skipif(COMPILED is None, reason="there was no compiler")


@pytest.fixture(name="source")
def _source(tmp_path: Path) -> Path:
    source = tmp_path / "source"
    for room in ("contracts", "native"):
        copytree(ROOT / room, source / room)
    for name in ("pyproject.toml", "hatch_build.py", "README.md", "LICENSE"):
        (source / name).write_bytes((ROOT / name).read_bytes())
    return source


def build(source: Path, kind: str = "wheel", **environ: str) -> zipfile.ZipFile:
    code = f"import hatchling.build as b, sys; print(b.build_{kind}(sys.argv[1]))"
    ran = subprocess.run(
        [sys.executable, "-c", code, str(source.parent)],
        cwd=source,
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    return zipfile.ZipFile(source.parent / ran.stdout.split()[-1])


@needs_compiler
def test_compiled_wheel(source: Path) -> None:
    """One wheel serves all Pythons from 3.11 on, and only this platform."""
    with build(source) as wheel:
        assert "-cp311-abi3-" in str(wheel.filename)
        assert [name for name in wheel.namelist() if name.endswith(".so")] == [MODULE]
        assert not any(name.endswith(".c") for name in wheel.namelist())


@pytest.mark.parametrize(
    "environ", [{"DSPEX_PURE": "1"}, {"CC": "/nowhere/cc"}, {"CFLAGS": "-bogus!"}]
)
def test_pure_wheel(source: Path, environ: dict[str, str]) -> None:
    """Without a compiler, or if asked to, it builds a wheel for all platforms."""
    with build(source, **environ) as wheel:
        assert str(wheel.filename).endswith("-py3-none-any.whl")
        assert not any(name.endswith(".so") for name in wheel.namelist())


@needs_compiler
def test_editable_install(source: Path) -> None:
    """An editable install has the module in the checkout, unless none is wanted."""
    module = source / "native" / MODULE
    module.unlink()

    build(source, "editable").close()
    compiled = module.is_file()
    build(source, "editable", DSPEX_PURE="1").close()

    assert (compiled, module.is_file()) == (True, False)
