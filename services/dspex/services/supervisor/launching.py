"""How one worker is started: command and variables, from its pool's settings."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct, field

from dspex.bus.children import Program
from dspex.bus.gpu import VISIBLE
from dspex.services.supervisor import limits

if TYPE_CHECKING:
    from dspex.contracts.pooling import Pool

PIPE = "DSPEX_PARENT_PIPE"


class Launcher(Struct, frozen=True, kw_only=True):
    """What is alike for all workers.

    Attributes:
        host: What this host is called.
        url: The NATS server.
        config: The configuration file; ``None``: they find the one we found.
        logs: Folder of their logs.
        log_level: As on our own command line.
        python: Interpreter of pools that name none.
        environ: Further variables.
        cgroup: Folder of the cgroup below which each gets its own.
    """

    host: str
    url: str
    logs: Path
    config: Path | None = None
    log_level: str = "INFO"
    python: str = sys.executable
    environ: dict[str, str] = field(default_factory=dict)
    cgroup: Path | None = None

    def program(self, name: str, pool_name: str, pool: Pool, gpu: str = "") -> Program:
        """One worker.

        Args:
            name: Its name on this host.
            pool_name: Its pool.
            pool: What that says.
            gpu: UUID of the GPU it is to use; empty: those there are.
        """
        options = ("--pool", pool_name, "--log-level", self.log_level)
        config = ("--config", str(self.config)) if self.config else ()
        ours = {"DSPEX_NATS_URL": self.url, "DSPEX_HOST": self.host, PIPE: "1"}
        shown = {VISIBLE: gpu} if gpu else {}
        return Program(
            name=name,
            role="worker",
            argv=(pool.python or self.python, "-m", pool.module, *options, *config),
            environ={**self.environ, **limits.environ(pool), **ours, **shown},
        )

    def log(self, name: str) -> Path:
        """Where a worker's output goes."""
        return self.logs / f"worker-{name}.log"
