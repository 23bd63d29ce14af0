"""``dspex-state``: start one, or several; they are equal."""

from __future__ import annotations

import sys

from dspex.bus.program import parser, run
from dspex.services.state.service import main as serve


def main() -> int:
    """Run the program and return its exit status."""
    command = parser("dspex-state", "Sessions, jobs and programs, on JetStream.")
    return run(serve, command.parse_args(), "dspex-state")


if __name__ == "__main__":
    sys.exit(main())
