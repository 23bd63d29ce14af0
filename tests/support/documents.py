"""The pages of the documentation, and the snippets in them."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]

_FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.M | re.S)
_HEADING = re.compile(r"^#+ (.*)$", re.M)
_LINK = re.compile(r"\]\(([^)\s]+)\)")


class Snippet(NamedTuple):
    """A block of code on a page.

    Attributes:
        page: Its page, from the root of the repository.
        language: What follows its fence.
        text: Its lines.
    """

    page: str
    language: str
    text: str


def pages() -> list[Path]:
    """Every page that users read."""
    found = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]
    for folder in ("docs", "deploy", "clients"):
        found += (ROOT / folder).rglob("*.md")
    return sorted(one for one in found if "node_modules" not in one.parts)


def snippets(*languages: str) -> list[Snippet]:
    """The blocks of these languages, of all pages."""
    return [
        Snippet(str(page.relative_to(ROOT)), language, text)
        for page in pages()
        for language, text in _FENCE.findall(page.read_text(encoding="utf-8"))
        if language in languages
    ]


def commands(program: str) -> list[tuple[str, list[str]]]:
    """The command lines of a program in all blocks of shell: page, words after it."""
    found = []
    for page, _, text in snippets("sh", "console"):
        for words in command_lines(text):
            if words[:1] == [program]:
                found.append((page, words[1:]))
    return found


def command_lines(text: str) -> list[list[str]]:
    """Each command with its words, comments left out; quotes may span lines."""
    found: list[list[str]] = []
    held = ""
    for line in text.split("\n"):
        held += line.removeprefix("$ ")
        if held.endswith("\\"):
            held = f"{held[:-1]} "
            continue
        try:
            words = shlex.split(held, comments=True)
        except ValueError:  # a quote is still open
            held += "\n"
            continue
        held = ""
        if words:
            found.append(words)
    return found


def links(page: Path) -> list[str]:
    """Where a page leads, without the web."""
    text = _FENCE.sub("", page.read_text(encoding="utf-8"))
    found = _LINK.findall(text)
    return [one for one in found if not one.startswith(("http:", "https:"))]


def anchors(page: Path) -> set[str]:
    """The names under which a page's headings are linked to."""
    text = _FENCE.sub("", page.read_text(encoding="utf-8"))
    kept = (re.sub(r"[^\w\- ]", "", one).lower() for one in _HEADING.findall(text))
    return {one.strip().replace(" ", "-") for one in kept}
