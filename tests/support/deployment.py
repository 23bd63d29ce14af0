"""The files of the folder deploy, as the tests read them."""

from __future__ import annotations

import tomllib
from importlib import metadata
from typing import Any

import msgspec
from tests.support.documents import ROOT

DEPLOY = ROOT / "deploy"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))[
    "project"
]


def text(name: str) -> str:
    """What is in a file of deploy."""
    return (DEPLOY / name).read_text(encoding="utf-8")


def yaml(name: str) -> dict[str, Any]:
    """A file of YAML."""
    found: dict[str, Any] = msgspec.yaml.decode(text(name))
    return found


def services() -> dict[str, dict[str, Any]]:
    """The services of compose.yaml that are programs of DSPex, by name."""
    everything = yaml("compose.yaml")["services"]
    return {name: one for name, one in everything.items() if "build" in one}


def deployments() -> dict[str, dict[str, Any]]:
    """The Deployments of Kubernetes, by name."""
    named = yaml("kubernetes/kustomization.yaml")["resources"]
    found = [yaml(f"kubernetes/{name}") for name in named]
    return {one["metadata"]["name"]: one for one in found}


def container(deployment: dict[str, Any]) -> dict[str, Any]:
    """The one container of a Deployment's pods."""
    (found,) = deployment["spec"]["template"]["spec"]["containers"]
    assert isinstance(found, dict)
    return found


def units() -> dict[str, dict[str, list[str]]]:
    """The units of systemd, by file name: the values of each key."""
    return {one.name: _unit(one.read_text()) for one in DEPLOY.glob("systemd/*")}


def module(command: str) -> str:
    """The module that a command of the package runs, as ``python -m`` takes it."""
    (script,) = metadata.entry_points(group="console_scripts", name=command)
    return script.module.removesuffix(".__main__")


def commands() -> list[tuple[str, ...]]:
    """Every command line that starts a program, once."""
    lines = [one["command"] for one in services().values()]
    lines += [container(one)["command"] for one in deployments().values()]
    for unit in units().values():
        (line,) = unit["ExecStart"]
        lines.append(line.removeprefix("/opt/dspex/bin/").split())
    return sorted({tuple(line) for line in lines})


def _unit(text: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        key, assigned, value = line.partition("=")
        if assigned and not line.startswith("#"):
            found.setdefault(key, []).append(value)
    return found
