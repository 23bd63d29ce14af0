"""``dspex-native``: start one, or several; they are equal."""

from __future__ import annotations

import sys

from dspex.bus.program import parser, run
from dspex.native.service import main as serve


def main() -> int:
    """Run native-ops and return its exit status."""
    arguments = parser("dspex-native", "Native operations.").parse_args()
    return run(serve, arguments, "dspex-native")


if __name__ == "__main__":
    sys.exit(main())
