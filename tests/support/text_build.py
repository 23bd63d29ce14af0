"""A plugin of pytest: the metrics with another build of the text functions.

    TEXT_BUILD=none python -m pytest -p tests.support.text_build …
    TEXT_BUILD=/some/_text.abi3.so python -m pytest -p tests.support.text_build …

Which build there is is settled at import, so another one needs a process of its own.
"""

from __future__ import annotations

import os
import sys
from importlib.machinery import ExtensionFileLoader
from importlib.util import module_from_spec, spec_from_file_location

NAME = "dspex.native.metrics._text"


def _take(build: str) -> None:
    if build == "none":
        # Makes every import of it fail.
        sys.modules[NAME] = None  # type: ignore[assignment]  # as Python documents it
        return
    loader = ExtensionFileLoader(NAME, build)
    spec = spec_from_file_location(NAME, build, loader=loader)
    assert spec is not None
    module = module_from_spec(spec)
    loader.exec_module(module)
    sys.modules[NAME] = module


_take(os.environ["TEXT_BUILD"])
