"""Compare texts with the C code built to notice every byte misused; needs gcc.

    python -m tests.fuzz.fuzz_text 20000

builds ``_text.c`` with AddressSanitizer and UndefinedBehaviorSanitizer and runs the
tests of both builds with it, that many examples each (default: 5000). Not part of
``make test``.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from hatch_build import MODULE, SOURCE, compile_module
from tests.support.sources import ROOT

FLAGS = (
    "-g -O1 -Wall -Wextra -Werror -fno-omit-frame-pointer "
    "-fsanitize=address,undefined -fno-sanitize-recover=all"
)

TESTS = ["tests/unit/native/test_texts.py", "-k", "not dspy and not pure_python"]
OPTIONS = [
    *("-p", "tests.support.text_build", "-p", "no:cacheprovider"),
    # What a sanitizer says before it ends the process is to be seen.
    *("-q", "-s", "--timeout", "3600"),
]


def main() -> int:
    """Build, test, and return the status of the tests."""
    examples = sys.argv[1] if len(sys.argv) > 1 else "5000"
    with tempfile.TemporaryDirectory() as folder:
        module = Path(folder, MODULE)
        os.environ["CFLAGS"] = FLAGS
        compile_module(ROOT / SOURCE, module)
        environ = {
            **os.environ,
            "TEXT_BUILD": str(module),
            "DSPEX_TEST_EXAMPLES": examples,
            "LD_PRELOAD": f"{_library('libasan.so')} {_library('libubsan.so')}",
            # Python itself forgets some; it must ask for memory where it is watched.
            "ASAN_OPTIONS": "detect_leaks=0",
            "PYTHONMALLOC": "malloc",
        }
        command = [sys.executable, "-m", "pytest", *OPTIONS, *TESTS]
        return subprocess.call(command, cwd=ROOT, env=environ)


def _library(name: str) -> str:
    found = subprocess.run(
        ["gcc", f"-print-file-name={name}"], capture_output=True, text=True, check=True
    )
    return found.stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
