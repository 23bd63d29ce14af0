"""The project's own source files, for tests that hold them to its habits."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
ROOMS = ("contracts", "native", "router", "services", "clients")
_BLOCKS = (
    ast.If,
    ast.For,
    ast.AsyncFor,
    ast.While,
    ast.With,
    ast.AsyncWith,
    ast.Try,
    ast.Match,
)


def name_of(path: Path) -> str:
    """A file's name from the root of the repository."""
    return path.relative_to(ROOT).as_posix()


def modules() -> list[Path]:
    """Every module of every room."""
    found = [path for room in ROOMS for path in (ROOT / room).rglob("*.py")]
    return sorted(path for path in found if "node_modules" not in path.parts)


def tests() -> list[Path]:
    """Every file of tests."""
    return sorted((ROOT / "tests").rglob("test_*.py"))


def support() -> list[Path]:
    """What tests share."""
    return sorted((ROOT / "tests" / "support").rglob("*.py"))


@cache
def tree(path: Path) -> ast.Module:
    """A file, parsed."""
    return ast.parse(path.read_text(encoding="utf-8"))


def texts(path: Path) -> Iterator[str]:
    """Every string of a file that is no docstring."""
    module = tree(path)
    silent = {id(node.value) for node in ast.walk(module) if isinstance(node, ast.Expr)}
    for node in ast.walk(module):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            if id(node) not in silent:
                yield node.value


def called(path: Path) -> set[str]:
    """The last name of everything a file calls: ``sleep`` of ``asyncio.sleep()``."""
    found: set[str] = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Call):
            function = node.func
            if isinstance(function, ast.Attribute):
                found.add(function.attr)
            elif isinstance(function, ast.Name):
                found.add(function.id)
    return found


def depth(node: ast.AST) -> int:
    """How many blocks stand inside each other; ``elif`` is no deeper than ``if``."""
    deepest = 0
    for child in ast.iter_child_nodes(node):
        is_elif = isinstance(node, ast.If) and child in node.orelse
        own = isinstance(child, _BLOCKS) and not (
            is_elif and isinstance(child, ast.If) and len(node.orelse) == 1
        )
        deepest = max(deepest, depth(child) + own)
    return deepest
