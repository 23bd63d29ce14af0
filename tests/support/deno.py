"""A stand-in for Deno: it runs a test's own code, in the words of every release.

``environ()`` makes a folder for PATH and PYTHONPATH. It confines nothing, and is given
nothing but what a test wrote. With the variable ``CONFINED`` it refuses to start where
the real one would let the code read every file.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path


CONFINED = "DSPEX_TEST_CONFINED"


class Final(BaseException):
    """The code has said its answer."""


def folder(at: Path) -> Path:
    """A folder with an executable ``deno``, which this interpreter runs."""
    at.mkdir(parents=True, exist_ok=True)
    script = at / "deno"
    script.write_text(f'#!/bin/sh\nexec {sys.executable} {__file__} "$@"\n')
    script.chmod(0o755)
    # Where the package is installed that brings Deno, it is asked first.
    (at / "deno.py").write_text(f"def find_deno_bin():\n    return {str(script)!r}\n")
    return at


def environ(at: Path) -> dict[str, str]:
    """Variables of a process that shall take the stand-in for Deno."""
    found = folder(at)
    return {
        "PATH": f"{found}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(found),
    }


def end(*args: Any, **named: Any) -> None:
    """What ends a program, under whatever name a release gives it."""
    raise Final(*args, *([named] if named else []))


def ran(code: str, names: dict[str, Any]) -> dict[str, Any]:
    """Run code: what it printed, or its final answer."""
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed):
            exec(code, names)
    except Final as final:
        return {"final": list(final.args)}
    except Exception as error:  # noqa: BLE001 - the code's own, and told
        return {"failed": [type(error).__name__, str(error)]}
    return {"output": printed.getvalue()}


def in_words_of_old(found: dict[str, Any]) -> dict[str, Any]:
    """As releases before 3.1 read it."""
    if "final" in found:
        said = found["final"]
        return {"error": "", "errorType": "FinalAnswer", "errorArgs": said}
    if "failed" in found:
        kind, why = found["failed"]
        return {"error": why, "errorType": kind}
    return found


def in_json_rpc(found: dict[str, Any], number: Any) -> dict[str, Any]:
    """As later ones do."""
    answer: dict[str, Any] = {"jsonrpc": "2.0", "id": number}
    if "final" in found:
        [said] = found["final"]
        return answer | {"result": {"final": said}}
    if "failed" in found:
        kind, why = found["failed"]
        error = {"code": -32099, "message": why, "data": {"type": kind}}
        return answer | {"error": error}
    return answer | {"result": found}


def serve() -> None:
    """Answer a line with a line until there are no more."""
    old: dict[str, Any] = {"final_answer": end}
    new: dict[str, Any] = {"SUBMIT": end}
    for line in sys.stdin:
        said = json.loads(line)
        method = said.get("method")
        if said.get("shutdown") or method == "shutdown":
            return
        if "code" in said:
            answer = in_words_of_old(ran(said["code"], old))
        elif method == "execute":
            answer = in_json_rpc(ran(said["params"]["code"], new), said["id"])
        else:
            answer = {"jsonrpc": "2.0", "id": said["id"], "result": {}}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "--version":
        print("deno 2.4.0")
    elif sys.argv[1] == "info":
        print(json.dumps({"denoDir": "/nowhere"}))
    elif CONFINED in os.environ and "--allow-read" in sys.argv:
        sys.exit("The code may read everything.")
    else:
        serve()
