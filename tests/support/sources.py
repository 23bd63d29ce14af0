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
        if not isinstance(node, ast.Constant) or id(node) in silent:
            continue
        if isinstance(node.value, str):
            yield node.value


def called(path: Path) -> set[str]:
    """The last name of everything a file calls: ``run`` of ``subprocess.run()``."""
    return {
        _last_name(node.func)
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Call)
    }


def test_functions(path: Path) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Every test of a file."""
    return [
        node
        for node in ast.walk(tree(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name.startswith("test_")
    ]


def sleeps(node: ast.AST) -> bool:
    """Whether a body lets time pass, other than ``sleep(0)``, which lets others run.

    Functions inside it do not count: one of them may play a slow program.
    """
    inner = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
    children = [one for one in ast.iter_child_nodes(node) if not isinstance(one, inner)]
    return _is_sleep(node) or any(sleeps(one) for one in children)


def depth(node: ast.AST) -> int:
    """How many blocks stand inside each other; ``elif`` is no deeper than ``if``."""
    elif_of = node.orelse if isinstance(node, ast.If) else []
    deepest = 0
    for child in ast.iter_child_nodes(node):
        is_elif = elif_of == [child] and isinstance(child, ast.If)
        own = isinstance(child, _BLOCKS) and not is_elif
        deepest = max(deepest, depth(child) + own)
    return deepest


def _is_sleep(node: ast.AST) -> bool:
    if not isinstance(node, ast.Call) or _last_name(node.func) != "sleep":
        return False
    return not (node.args and ast.unparse(node.args[0]) == "0")


def _last_name(function: ast.expr) -> str:
    return ast.unparse(function).rpartition(".")[2]
