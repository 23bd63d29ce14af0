"""Which programs make up a stack, and how each one is started: pure."""

from __future__ import annotations

from pathlib import Path

from msgspec import Struct

from dspex.bus.children import Program, Role
from dspex.cli.lm import Choice
from dspex.cli.toy import PARENT_PIPE
from dspex.contracts.configuration import Configuration, to_environ

_SERVICES: dict[Role, str] = {
    "router": "dspex.router",
    "native": "dspex.native",
    "state": "dspex.services.state",
}


class Plan(Struct, frozen=True, kw_only=True):
    """What to run.

    Attributes:
        configuration: As it was read.
        choice: The language model ``default``.
        python: Interpreter of the programs.
        config_path: File that every program reads; ``None`` for the defaults.
        joins: Whether this is one more host of a stack that runs elsewhere: only a
            supervisor is started.
    """

    configuration: Configuration
    choice: Choice
    python: str
    config_path: Path | None = None
    joins: bool = False

    def services(self, url: str) -> list[Program]:
        """The programs that need no language model: router, native-ops, state."""
        environ = self._environ(url)
        if self.joins:
            return []
        return [
            Program(name=role, role=role, argv=self._argv(module), environ=environ)
            for role, module in _SERVICES.items()
        ]

    def supervisor(self, url: str, model: dict[str, str], logs: Path) -> Program:
        """What starts and keeps the worker processes of all pools.

        Args:
            url: Address of the NATS server.
            model: Variables by which workers find the model server, if it runs.
            logs: Folder of the workers' logs.
        """
        return Program(
            name="supervisor",
            role="supervisor",
            argv=self._argv("dspex.services.supervisor", "--logs", str(logs)),
            environ=self._environ(url) | self._lm() | model,
        )

    def replay(self, url: str, model: dict[str, str]) -> list[Program]:
        """The program that replays what others ask it to, if that is wanted.

        Args:
            url: Address of the NATS server.
            model: Variables by which its workers find the model server, if it runs.
        """
        if self.joins or not self.configuration.replay.on:
            return []
        return [
            Program(
                name="replay",
                role="replay",
                argv=self._argv("dspex.services.replay"),
                environ=self._environ(url) | self._lm() | model,
            )
        ]

    def _argv(self, module: str, *options: str) -> tuple[str, ...]:
        config = ("--config", str(self.config_path)) if self.config_path else ()
        return (self.python, "-m", module, *options, *config)

    def _environ(self, url: str) -> dict[str, str]:
        return {"DSPEX_NATS_URL": url, PARENT_PIPE: "1"}

    def _lm(self) -> dict[str, str]:
        # A configured model is in the file or in the environment already.
        if self.choice.configured:
            return {}
        return to_environ("default", self.choice.lm)
