"""Builds the stand-in for NVIDIA's library, where there is a C compiler."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

SOURCE = Path(__file__).with_name("fake_nvml.c")


def build_fake_nvml(folder: Path) -> dict[str, str]:
    """Compile it and return the environment that makes a process load it."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler for the stand-in of libnvidia-ml.so.1")
    library = folder / "libnvidia-ml.so.1"
    subprocess.run(
        [
            compiler,
            *("-shared", "-fPIC", "-O1", "-Wall", "-Werror"),
            "-Wl,-soname,libnvidia-ml.so.1",
            *("-o", str(library), str(SOURCE)),
        ],
        check=True,
    )
    return {"LD_LIBRARY_PATH": str(folder)}
