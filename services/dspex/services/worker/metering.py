"""How long a call of a language model took, and the tokens it used, as metrics."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from dspex.bus import metrics
from dspex.services.worker.failures import to_failure
from dspex.services.worker.usage import entries

if TYPE_CHECKING:
    from collections.abc import Iterator

    import dspy

_TYPES = {"input": "prompt_tokens", "output": "completion_tokens"}


@contextmanager
def metered(lm: dspy.LM) -> Iterator[None]:
    """Measure the call of a language model that is made in this block."""
    if not metrics.is_on():
        yield
        return
    begun, before, code = time.perf_counter(), len(entries(lm)), "done"
    try:
        yield
    except BaseException as error:
        code = to_failure(error).code
        raise
    finally:
        used = entries(lm)[before:] if code == "done" else []
        last = dict(used[-1]) if used else {}
        tokens = {kind: last[key] for kind, key in _TYPES.items() if last.get(key)}
        metrics.lm_called(lm.model, code, time.perf_counter() - begun, tokens)
