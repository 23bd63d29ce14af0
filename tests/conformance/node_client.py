"""Runs scripts with the NATS client for Node.js, installed once per lock file."""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

REPOSITORY = Path(__file__).parents[2]
EXAMPLE = REPOSITORY / "clients" / "node"
SCRIPT = Path(__file__).parent / "node" / "client.mjs"
CACHE = REPOSITORY / "build" / "node"
MANIFESTS = ("package.json", "package-lock.json")
OLDEST_NODE = 18

# What npm says when there is no registry to be reached. Anything else, such as
# an integrity check that fails or a lock file out of step, is a failing test.
_UNREACHABLE = (
    "ENOTFOUND",
    "ECONNREFUSED",
    "ECONNRESET",
    "EAI_AGAIN",
    "ENETUNREACH",
    "EHOSTUNREACH",
    "ETIMEDOUT",
    "ERR_SOCKET_TIMEOUT",
    "E403",
    "E404",
    "E502",
    "E503",
)
_INSTALL = (
    "npm",
    "ci",
    "--ignore-scripts",
    "--no-audit",
    "--no-fund",
    "--fetch-retries=1",
    "--fetch-timeout=20000",
)


def node_modules() -> Path:
    """The installed packages of the example; skips the test without node or registry.

    The example has the only manifest: what it pins is what is tested.
    """
    _require_node()
    digest = hashlib.sha256()
    for name in MANIFESTS:
        digest.update((EXAMPLE / name).read_bytes())
    folder = CACHE / digest.hexdigest()[:16]
    folder.mkdir(parents=True, exist_ok=True)
    with _alone(folder / ".lock"):
        if not (folder / ".complete").exists():
            _install(folder)
            (folder / ".complete").touch()
    return folder / "node_modules"


async def run(
    script: Path, *arguments: str, folder: Path, environ: dict[str, str]
) -> str:
    """Run a script and return what it printed.

    Args:
        script: Copied into ``folder``, for Node looks for packages beside it.
        *arguments: Its command line.
        folder: An empty folder.
        environ: Added to the test's own.
    """
    (folder / "node_modules").symlink_to(node_modules())
    copy = shutil.copy(script, folder)
    process = await asyncio.create_subprocess_exec(
        "node",
        copy,
        *arguments,
        env=os.environ | environ,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(60):
            said, problems = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, problems.decode()
    return said.decode()


async def converse(name: str, folder: Path, environ: dict[str, str]) -> Any:
    """Have one conversation of ``client.mjs`` and return what it saw."""
    return json.loads(await run(SCRIPT, name, folder=folder, environ=environ))


def _require_node() -> None:
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    said = subprocess.run(
        ["node", "--version"], capture_output=True, text=True, check=True
    )
    if int(said.stdout.lstrip("v").partition(".")[0]) < OLDEST_NODE:
        pytest.skip(f"node {said.stdout.strip()} is older than {OLDEST_NODE}")


def _install(folder: Path) -> None:
    for name in MANIFESTS:
        shutil.copy(EXAMPLE / name, folder)
    try:
        done = subprocess.run(
            _INSTALL, cwd=folder, capture_output=True, text=True, timeout=90
        )
    except subprocess.TimeoutExpired:
        pytest.skip("npm found no registry within 90 s")
    if done.returncode == 0:
        return
    for reason in _UNREACHABLE:
        if reason in done.stderr:
            pytest.skip(f"npm cannot reach its registry: {reason}")
    pytest.fail(f"npm ci failed:\n{done.stderr}")


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """Keep other test processes out while the block runs."""
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield
