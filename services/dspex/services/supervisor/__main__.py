"""``dspex-supervisor``: keeps the workers of this host; one process, without DSPy."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from dspex.bus.program import parser, run
from dspex.services.supervisor.service import main as serve


def main() -> int:
    """Run a supervisor and return its exit status."""
    command = parser("dspex-supervisor", "Starts and watches the workers of a host.")
    command.add_argument(
        "--host", help="what this host is called (default: DSPEX_HOST, its own name)"
    )
    command.add_argument(
        "--logs", type=Path, help="folder of the workers' logs (default: .dspex/logs)"
    )
    arguments = command.parse_args()
    if arguments.host:
        os.environ["DSPEX_HOST"] = arguments.host
    return run(serve, arguments, "dspex-supervisor")


if __name__ == "__main__":
    sys.exit(main())
