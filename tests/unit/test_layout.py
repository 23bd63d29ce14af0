"""The tree keeps its own rules: rooms, packages, sizes, and one-way doors."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from shutil import copytree

import msgspec
import pytest
from tests.support import sources
from tests.support.sources import ROOMS, ROOT

MODULES = sources.modules()
PACKAGES = [path.parent for path in MODULES if path.name == "__init__.py"]
LONGEST = 400
DEEPEST = 4

UNFINISHED = re.compile(r"\b(?:TO" r"DO|FIX" r"ME|XX" r"X|HA" r"CK)\b")
SOMEBODYS_FOLDER = re.compile(r"/(?:home|Users|ro" r"ot|tmp)/\w")
NEVER_CALLED = {"eval", "exec", "__import__"}


def ids(path: Path) -> str:
    return sources.name_of(path)


@pytest.mark.parametrize("room", ROOMS)
def test_dspex_is_a_namespace(room: str) -> None:
    """No room may hold dspex/__init__.py: it would hide all other rooms."""
    assert (ROOT / room / "dspex").is_dir()
    assert not (ROOT / room / "dspex" / "__init__.py").exists()


@pytest.mark.parametrize("folder", PACKAGES, ids=ids)
def test_packages_are_typed(folder: Path) -> None:
    """Every package, or one around it, says that it is typed."""
    assert any((outer / "py.typed").is_file() for outer in (folder, folder.parent))


@pytest.mark.parametrize("path", MODULES, ids=ids)
def test_modules_belong_to_a_package(path: Path) -> None:
    """Every module lies in a package and begins by saying what it is for."""
    assert (path.parent / "__init__.py").is_file()
    assert ast.get_docstring(sources.tree(path))


@pytest.mark.parametrize("folder", PACKAGES, ids=ids)
def test_packages_hold_a_docstring(folder: Path) -> None:
    """A package's own file has a docstring, and at most names it hands on."""
    body = sources.tree(folder / "__init__.py").body[1:]

    imported = sorted(
        alias.asname or alias.name
        for node in body
        if isinstance(node, ast.ImportFrom) and node.module != "__future__"
        for alias in node.names
    )
    exported = [
        ast.literal_eval(node.value) for node in body if isinstance(node, ast.Assign)
    ]

    assert all(isinstance(node, ast.ImportFrom | ast.Assign) for node in body)
    assert (sorted(exported[0]) if exported else []) == imported


@pytest.mark.parametrize("path", MODULES + sources.support(), ids=ids)
def test_files_are_short(path: Path) -> None:
    """No file is longer than 400 lines, and no block deeper than four."""
    lines = path.read_text(encoding="utf-8").count("\n")

    assert lines <= LONGEST
    assert sources.depth(sources.tree(path)) <= DEEPEST


@pytest.mark.parametrize("path", MODULES, ids=ids)
def test_subjects_come_from_the_contracts(path: Path) -> None:
    """Only subjects.py spells subjects; others may draw one, <in brackets>, in help."""
    if sources.name_of(path).startswith("contracts/dspex/contracts/"):
        return

    spelt = [
        text
        for text in sources.texts(path)
        if re.search(r"\bdspex\.v1\b(?!\S*<)", text)
    ]

    assert spelt == []


@pytest.mark.parametrize("path", MODULES, ids=ids)
def test_tasks_have_an_owner(path: Path) -> None:
    """Only Tasks starts tasks, so that none is forgotten."""
    allowed = sources.name_of(path) == "contracts/dspex/bus/tasks.py"

    assert allowed or not {"create_task", "ensure_future"} & sources.called(path)


@pytest.mark.parametrize("path", MODULES, ids=ids)
def test_nothing_named_on_the_wire_is_run(path: Path) -> None:
    """No module evaluates text or reads pickles."""
    imported = {
        alias.name
        for node in ast.walk(sources.tree(path))
        if isinstance(node, ast.Import)
        for alias in node.names
    }

    assert not NEVER_CALLED & sources.called(path)
    assert not {"pickle", "marshal", "shelve"} & imported


@pytest.mark.parametrize("path", sources.tests(), ids=ids)
def test_tests_wait_for_events(path: Path) -> None:
    """No test sleeps for time to pass."""
    sleepers = [one.name for one in sources.test_functions(path) if sources.sleeps(one)]

    assert sleepers == []


@pytest.mark.parametrize("path", sources.tests(), ids=ids)
def test_tests_say_what_holds(path: Path) -> None:
    """Every test has one sentence that says what holds."""
    silent = [
        one.name
        for one in sources.test_functions(path)
        if not (ast.get_docstring(one) or "").endswith(".")
    ]

    assert silent == []


@pytest.mark.parametrize("path", MODULES + sources.support(), ids=ids)
def test_nothing_is_left_open(path: Path) -> None:
    """No file has notes of unfinished work or somebody's own folder in it."""
    text = path.read_text(encoding="utf-8")

    assert not UNFINISHED.search(text)
    assert not SOMEBODYS_FOLDER.search(text)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("asyncio.sleep(0)", False),
        ("asyncio.sleep(0.1)", True),
        ("with a:\n  time.sleep(1)", True),
        ("def slow():\n  time.sleep(1)", False),
    ],
)
def test_sleeps(text: str, found: bool) -> None:
    """A sleep counts where time passes for the test itself."""
    assert sources.sleeps(ast.parse(text)) is found


def test_depth() -> None:
    """Depth counts blocks inside each other, and takes elif for what it reads as."""
    flat = ast.parse("if a:\n  b\nelif c:\n  d\nelse:\n  e")
    deep = ast.parse("for a in b:\n  if a:\n    b\n  else:\n    while c:\n      d")

    assert sources.depth(flat) == 1
    assert sources.depth(deep) == 3


# The rooms a room is built on, itself included.
ALONE = {
    "contracts": ["contracts"],
    "native": ["contracts", "native"],
    "router": ["contracts", "native", "router"],
    "clients": ["contracts", "native", "services", "clients"],
}

_IMPORT = """
import importlib, importlib.abc, sys

class Refuse(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.partition(".")[0] in {refused!r}:
            raise ImportError(f"{{name}} is not a base dependency")

sys.meta_path.insert(0, Refuse())
# No .pth file is read: the checkout must not be found beside the wheel.
sys.path[:0] = {paths!r}
for name in {names!r}:
    importlib.import_module(name)
"""
_REFUSED = {"dspy", "litellm", "pyarrow", "xllamacpp", "fastapi", "uvicorn", "pynvml"}


@pytest.mark.parametrize("room", ALONE)
def test_rooms_install_alone(room: str, tmp_path: Path) -> None:
    """The wheel of a room and those below it runs with the base dependencies alone."""
    installed = _install(ALONE[room], tmp_path)
    names = [_dotted(path) for path in MODULES if _room(path) == room]
    paths = [str(installed), str(Path(msgspec.__file__).parents[1])]
    code = _IMPORT.format(refused=_REFUSED, paths=paths, names=names)

    ran = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert ran.returncode == 0, ran.stderr


def test_services_install_alone(tmp_path: Path) -> None:
    """The wheel of the workers' room has every file of it, and of no other program."""
    installed = _install(["contracts", "native", "services"], tmp_path)

    there = {
        path.relative_to(installed / "dspex").parts[0]
        for path in installed.glob("dspex/**/*.py")
    }

    assert there == {"contracts", "bus", "native", "services"}


def _install(rooms: list[str], folder: Path) -> Path:
    """Build a wheel of some rooms only and unpack it."""
    source, target = folder / "source", folder / "installed"
    source.mkdir()
    for name in ("pyproject.toml", "hatch_build.py", "README.md", "LICENSE"):
        (source / name).write_bytes((ROOT / name).read_bytes())
    for room in rooms:
        copytree(ROOT / room / "dspex", source / room / "dspex")
    build = "import hatchling.build as b, sys; print(b.build_wheel(sys.argv[1]))"
    ran = subprocess.run(
        [sys.executable, "-c", build, str(folder)],
        cwd=source,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    with zipfile.ZipFile(folder / ran.stdout.split()[-1]) as wheel:
        wheel.extractall(target)
    return target


def _room(path: Path) -> str:
    return path.relative_to(ROOT).parts[0]


def _dotted(path: Path) -> str:
    parts = path.relative_to(ROOT / _room(path)).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
