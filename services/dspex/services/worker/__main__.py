"""``dspex-worker --pool light``: one process of one pool; start as many as you like."""

from __future__ import annotations

import os
import sys
from functools import partial
from typing import TYPE_CHECKING

from dspex.bus.children import end_with_parent
from dspex.bus.program import parser, run

if TYPE_CHECKING:
    from collections.abc import Callable

    from dspex.bus.running import Run


def main(wrap: Callable[[Run], Run] | None = None) -> int:
    """Run a worker and return its exit status.

    Args:
        wrap: Puts something around what does an operation; absent: nothing.
    """
    command = parser("dspex-worker", "Runs DSPy programs for a pool.")
    command.add_argument("--pool", default="light", help="its pool (default: light)")
    arguments = command.parse_args()
    end_with_parent(os.environ)
    # What modules of DSPy print (Refine does) holds inputs; logs go to stderr.
    sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - to the end
    # LiteLLM would fetch a price list from the internet, with retries.
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    from dspex.services.worker.service import configure_dspy
    from dspex.services.worker.service import main as serve

    configure_dspy()
    served = serve if wrap is None else partial(serve, wrap=wrap)
    return run(served, arguments, f"dspex-worker-{arguments.pool}")


if __name__ == "__main__":
    sys.exit(main())
