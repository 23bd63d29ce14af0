"""``dspex-worker --pool light``: one process of one pool; start as many as you like."""

from __future__ import annotations

import os
import sys

from dspex.bus.program import parser, run


def main() -> int:
    """Run a worker and return its exit status."""
    command = parser("dspex-worker", "Runs DSPy programs for a pool.")
    command.add_argument("--pool", default="light", help="its pool (default: light)")
    arguments = command.parse_args()
    # LiteLLM would fetch a price list from the internet, with retries.
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    from dspex.services.worker.service import configure_dspy
    from dspex.services.worker.service import main as serve

    configure_dspy()
    return run(serve, arguments, f"dspex-worker-{arguments.pool}")


if __name__ == "__main__":
    sys.exit(main())
