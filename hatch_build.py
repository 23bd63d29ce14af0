"""Compiles what is quicker in C while the package is built: hatch calls it.

That is optional. Without a compiler, or with ``DSPEX_PURE=1``, the package is built
without it and does the same in Python, only slower.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from packaging.tags import sys_tags

SOURCE = Path("native/dspex/native/metrics/_text.c")
"""What is compiled."""

MODULE = "_text.abi3.so"
"""What comes of it; it lies beside the source, in the wheel or in the checkout."""

OLDEST = "cp311"
"""The Python whose limited API the source asks for."""

COMPILE_SECONDS = 300


class CannotCompile(Exception):
    """Why there is no compiled module."""


class TextBuildHook(BuildHookInterface[Any]):
    """Adds the module to a wheel, or puts it into the checkout of an editable one."""

    _folder: Path | None = None

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, before anything is packed.

        Args:
            version: ``editable`` or ``standard``.
            build_data: What hatch is told of the wheel.
        """
        source = Path(self.root, SOURCE)
        if not source.is_file():  # a wheel of other rooms
            return
        self._folder = Path(tempfile.mkdtemp(prefix="dspex-build-"))
        built, inside = self._folder / MODULE, source.with_name(MODULE)
        try:
            compile_module(source, built)
        except CannotCompile as problem:
            self.app.display_warning(f"The metrics stay in pure Python: {problem}")
            if version == "editable":
                inside.unlink(missing_ok=True)
            return
        if version == "editable":
            # At once: a program that has the old one in use keeps it.
            beside = shutil.copy(built, inside.with_suffix(f".{os.getpid()}"))
            Path(beside).replace(inside)
            return
        path = inside.relative_to(Path(self.root, "native"))
        build_data["force_include"][str(built)] = path.as_posix()
        build_data["pure_python"] = False
        build_data["tag"] = f"{OLDEST}-abi3-{_platform()}"

    def finalize(
        self, version: str, build_data: dict[str, Any], artifact_path: str
    ) -> None:
        """Remove what was compiled for this wheel."""
        if self._folder is not None:
            shutil.rmtree(self._folder)


def compile_module(source: Path, target: Path) -> None:
    """Compile a module of one C file; ``CFLAGS`` are added, as is usual.

    Raises:
        CannotCompile: There is no compiler, it failed, or none is wanted.
    """
    if os.environ.get("DSPEX_PURE") == "1":
        raise CannotCompile("DSPEX_PURE is 1")
    if sys.implementation.name != "cpython" or sysconfig.get_config_var(
        "Py_GIL_DISABLED"
    ):
        raise CannotCompile("this Python has no limited API")
    try:
        subprocess.run(
            [*_compiler(), *_flags(), str(source), "-o", str(target)],
            check=True,
            capture_output=True,
            text=True,
            timeout=COMPILE_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CannotCompile(str(error)) from error
    except subprocess.CalledProcessError as error:
        raise CannotCompile(error.stderr[-2000:]) from error


def _compiler() -> list[str]:
    found = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "")
    if not found:
        raise CannotCompile("this Python names no C compiler")
    return found


def _flags() -> list[str]:
    module = ["-shared", "-fPIC"]
    if sys.platform == "darwin":
        module = ["-bundle", "-undefined", "dynamic_lookup"]
    headers = {sysconfig.get_path("include"), sysconfig.get_path("platinclude")}
    added = shlex.split(os.environ.get("CFLAGS", ""))
    return [*module, "-O2", *(f"-I{path}" for path in sorted(headers)), *added]


def _platform() -> str:
    """This platform as wheels name it, without a promise about its C library."""
    return next(
        tag.platform
        for tag in sys_tags()
        if not tag.platform.startswith(("manylinux", "musllinux"))
    )
