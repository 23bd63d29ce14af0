"""``dspex-replay``: start one, or several; they are equal."""

from __future__ import annotations

import sys

from dspex.bus.program import parser, run
from dspex.services.replay.service import main as serve


def main() -> int:
    """Run the program and return its exit status."""
    command = parser("dspex-replay", "Requests of the journal again.")
    return run(serve, command.parse_args(), "dspex-replay")


if __name__ == "__main__":
    sys.exit(main())
