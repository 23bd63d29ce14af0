"""What the documentation shows can be typed, sent and configured as it stands."""

from __future__ import annotations

import ast
import inspect
import json
import re
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from tests.support import documents

from dspex.cli import __main__ as command
from dspex.cli import jobs, journal, pools, replay
from dspex.contracts import catalog
from dspex.contracts.configuration import parse
from dspex.contracts.session_requests import Turn

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from tests.support.documents import Snippet

NATS = re.compile(r"dspex\.v1\.(?:session\.[\w-]+\.)?(?:call|native)\.([\w.]+)")


def named(found: Iterable[Snippet]) -> list[Any]:
    """Parameters of a test, one for each block, by page and number."""
    return [
        pytest.param(one, id=f"{one.page}-{number}") for number, one in enumerate(found)
    ]


@pytest.mark.parametrize("page", documents.pages(), ids=lambda one: one.stem)
def test_links_lead_somewhere(page: Path) -> None:
    """Every file and heading that a page links to is there."""
    missing = []
    for link in documents.links(page):
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        known = not anchor or anchor in documents.anchors(target)
        if not (target.exists() and known):
            missing.append(link)

    assert missing == []


@pytest.mark.parametrize("snippet", named(documents.snippets("toml")))
def test_configurations_are_read(snippet: Snippet) -> None:
    """A piece of `dspex.toml` has keys that there are, with values that they take."""
    models = {
        f"DSPEX_LMS_{name}_MODEL": "openai/any"
        for name in ("DEFAULT", "SPARE", "BACKUP", "LOCAL")
    }
    more = {f"DSPEX_POOLS_{name}_PROCESSES": "1" for name in ("LIGHT", "SPARE")}

    assert parse(snippet.text, models | more).prefix == "dspex"


@pytest.mark.parametrize("snippet", named(documents.snippets("json")))
def test_bodies_are_json(snippet: Snippet) -> None:
    """What is shown as JSON is JSON."""
    assert json.loads(snippet.text)


@pytest.mark.parametrize("snippet", named(documents.snippets("python")))
def test_python_is_python(snippet: Snippet) -> None:
    """What is shown as Python compiles, with `await` as a notebook has it."""
    flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT

    assert compile(snippet.text, snippet.page, "exec", flags=flags)


def examples_of_help() -> list[tuple[str, list[str]]]:
    """The command lines in the help of the commands."""
    found = []
    for module in (command, jobs, journal, pools, replay):
        source = inspect.getsource(module).replace("\\\\\n", "")
        kept = (line.strip() for line in source.split("\n") if line[:8] == "  dspex ")
        lines = documents.command_lines("\n".join(kept))
        found += [(module.__name__, words[1:]) for words in lines]
    return found


@pytest.mark.parametrize(
    ("page", "words"), [*documents.commands("dspex"), *examples_of_help()]
)
def test_commands_are_there(page: str, words: list[str]) -> None:
    """Every `dspex …` of a page and of a help text is a command with such options."""
    assert command.parse(words).command, page


@pytest.mark.parametrize(("page", "words"), documents.commands("nats"))
def test_nats_commands_are_requests(page: str, words: list[str]) -> None:
    """What `nats req` sends is a body of that operation."""
    if words[0] != "req":
        assert words[0] in ("sub", "service", "pub"), page
        return
    at = next(at for at, word in enumerate(words) if word.startswith("dspex.v1."))
    found = NATS.fullmatch(words[at])
    assert found, page
    turn = ".session." in words[at]
    kind = Turn if turn else catalog.operation(found[1]).request

    body = msgspec.json.decode(words[at + 1].replace("…", "x"), type=kind)

    assert isinstance(body, kind)


def test_every_operation_is_documented() -> None:
    """docs/operations.md names each operation of the catalog."""
    text = (documents.ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    known = set()
    for line in text.split("\n"):
        family = ""
        for name in re.findall(r"`(\.?[a-z_.]+)`", line.split(" | ")[0]):
            family = name.partition(".")[0] or family
            known.add(name if name[0] != "." else f"{family}{name}")

    assert set(catalog.OPERATIONS) - known == set()
