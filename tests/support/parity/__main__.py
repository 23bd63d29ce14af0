"""``python -m tests.support.parity``: every program with DSPy alone, as its users do.

Run by the interpreter of each release. It has a scripted model of its own, and prints
one JSON object: for each case its outputs and what the model was asked, or why it
cannot be done; and what ``probe_release`` finds, for whoever waits for such a process
anyway.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import logging
import os
import sys
import threading
import warnings
from typing import TYPE_CHECKING, Any

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")

from tests.support.parity.case import dspy
from tests.support.parity.cases import CASES
from tests.support.probe_release import probed
from tests.support.scripted_model import ScriptedModel

if TYPE_CHECKING:
    from tests.support.parity.case import Case


class Background:
    """A scripted model on an event loop of its own."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self.loop.run_forever, daemon=True).start()
        self.model = ScriptedModel()
        opening = self.model.__aenter__()
        asyncio.run_coroutine_threadsafe(opening, self.loop).result()

    def asked(self) -> list[Any]:
        """What it was asked since the last time."""
        found = [request.body for request in self.model.requests]
        self.model.requests.clear()
        return found


def done(case: Case, background: Background) -> dict[str, Any]:
    """What a case gives."""
    if lacking := case.lacking():
        return {"lacks": lacking}
    options = {"temperature": None, "max_tokens": None} | case.options
    lm = dspy.LM(
        "openai/scripted",
        api_base=background.model.url,
        api_key="test-key-not-a-secret",
        cache=False,
        **options,
    )
    background.model.reply_with(case.answers())
    adapter = getattr(dspy, case.adapter)()
    try:
        with dspy.context(lm=lm, adapter=adapter, trace=[]):
            outputs = dict(case.work())
    except Exception as error:  # noqa: BLE001 - whatever it raises is told
        said = f"{type(error).__name__}: {error}"
        return {"error": said, "prompts": background.asked()}
    return {"outputs": outputs, "prompts": background.asked()}


def main() -> None:
    """Print what all cases give."""
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    dspy.configure(trace=None, disable_history=True)
    background = Background()
    wanted = sys.argv[1:] or list(CASES)
    with contextlib.redirect_stdout(io.StringIO()):  # DSPy prints
        found = {name: done(CASES[name], background) for name in wanted}
        said = {"cases": found, "probed": probed()}
    json.dump(said, sys.stdout)
    sys.stdout.flush()
    os._exit(0)  # threads of DSPy's may be left


if __name__ == "__main__":
    main()
