"""``dspex-router``: start one, or several; they are equal."""

from __future__ import annotations

import sys

from dspex.bus.program import parser, run
from dspex.router.service import main as serve


def main() -> int:
    """Run the router and return its exit status."""
    arguments = parser("dspex-router", "Routes requests to workers.").parse_args()
    return run(serve, arguments, "dspex-router")


if __name__ == "__main__":
    sys.exit(main())
