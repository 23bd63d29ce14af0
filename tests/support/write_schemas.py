"""``python -m tests.support.write_schemas [--check]``: the files in contracts/schemas.

Writes what ``dspex.contracts.schemas`` and ``dspex.contracts.asyncapi`` generate;
with ``--check`` it only says which files are out of date.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import msgspec

from dspex.contracts import asyncapi, schemas

FOLDER = Path(__file__).parents[2] / "contracts" / "schemas"
HOW = "python -m tests.support.write_schemas"


def files() -> dict[str, bytes]:
    """What the folder must hold, by the name of the file."""
    documents: dict[str, Any] = schemas.documents()
    documents["asyncapi.json"] = asyncapi.document()
    return {name: _text(found) for name, found in sorted(documents.items())}


def stale(folder: Path) -> list[str]:
    """Names of files that are missing, out of date or no longer generated."""
    wanted = files()
    there = {path.name: path.read_bytes() for path in folder.glob("*.json")}
    names = sorted(wanted.keys() | there.keys())
    return [name for name in names if wanted.get(name) != there.get(name)]


def write(folder: Path) -> None:
    """Bring the folder up to date."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.glob("*.json"):
        path.unlink()
    for name, text in files().items():
        (folder / name).write_bytes(text)


def main(arguments: list[str]) -> int:
    """Write, or with ``--check`` compare; returns the exit status."""
    if "--check" not in arguments:
        write(FOLDER)
        return 0
    found = stale(FOLDER)
    if found:
        print(f"Out of date: {', '.join(found)}. Run: {HOW}", file=sys.stderr)
    return 1 if found else 0


def _text(document: Any) -> bytes:
    return msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
