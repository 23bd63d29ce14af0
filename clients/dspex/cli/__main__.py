"""The command ``dspex``."""

from __future__ import annotations

import argparse
import logging
import math
import os
import sys
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dspex.bus.permissions import CLIENTS_INBOX
from dspex.cli import (
    call,
    decisions,
    demo,
    doctor,
    jobs,
    journal,
    permissions,
    pools,
    profile,
    provision,
    replay,
    session,
    up,
)
from dspex.contracts import catalog
from dspex.contracts.configuration import ConfigurationError
from dspex.contracts.failures import Failure
from dspex.contracts.subjects import DEFAULT_TENANT

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

UNREAD = 141
"""Exit status when nobody reads the output any more, as shells have it."""

_UP = """\
Start a whole DSPex here and keep it running: nats-server with JetStream, router,
native-ops, state and a supervisor, which keeps the workers of every pool; each is a
process of its own.

Configured by dspex.toml and DSPEX_… variables; without any, two workers on
127.0.0.1:4222 (or a free port when that is taken) with the first language model that
can be found. Ctrl-C drains and stops it.

  dspex up --join nats://machine-1:4222      # only workers: one more host of that stack
"""

_DEMO = """\
Start a stack of its own on a free port, ask it four questions as a plain NATS
client would (subject, JSON body), print answers and the same questions as `nats`
commands, stop it. Exit status 0 if every question was answered.
"""

_CALL = """\
Send one request and print the answer. Without --url it goes to the `dspex up` of
this folder.

  dspex call predict --signature "question -> answer" question="Why is the sky blue?"
  dspex call predict --signature "text -> name: str, age: int" text="Ann is 31." --json
  dspex call chain_of_thought --signature "question -> answer" question=… --stream
  dspex call run --program triage ticket="The database is down."
  dspex call signature.parse --signature "text -> sentiment: Literal['good', 'bad']"
  dspex call signature.validate --signature "n: int -> m: int" \\
      --body '{"side": "inputs"}' n=3
  dspex call response.parse --signature "q -> a: int" text="[[ ## a ## ]] 3"
  dspex call template.render --body '{"template": "Dear {{ name }}"}' name=Ann
  dspex call metric.score metric=f1 prediction="red tea" answers='["green tea"]'

name=value is an input, or a value of an operation that takes values; otherwise it
is a field of the body. It is read as JSON if it is JSON (3, true, ["a", "b"]),
except where a text is wanted.
"""

_CALL_END = """\
If the request fails, the exit status is 1, and standard error says what was wrong
and what to do about it.
"""

_DECISIONS = """\
Ask every router for its counters, its view of the pools, open breakers, and its
last decisions with their reasons.

  dspex decisions --limit 20
  dspex decisions --request 0198a5c2-7f3e-7d4b-9c1a-2f6e8d0b4a71
"""

_SESSION = """\
Show which sessions are open, what one holds, or end one.

  dspex session ls
  dspex session show chat-1
  dspex session close chat-1
"""

_DOCTOR = """\
Check what a stack needs on this machine: Python, nats-server, its port, the
configuration, DSPy, the language model, the GPU; and say what to do about what is
missing. Exit status 1 if a check fails.
"""

_SESSION_ACTIONS = {
    "ls": "list the open sessions",
    "show": "show a session and its turns",
    "close": "end a session",
}

_CONFIG = "configuration file (default: DSPEX_CONFIG, else ./dspex.toml if it is there)"


def parser() -> argparse.ArgumentParser:
    """The command line of ``dspex``."""
    found = argparse.ArgumentParser(
        prog="dspex",
        description="Serve DSPy programs to any NATS client.",
        epilog="`dspex COMMAND --help` says more.",
    )
    found.add_argument("--version", action="version", version=f"dspex {_version()}")
    commands = found.add_subparsers(dest="command", metavar="COMMAND", required=True)
    _add_up(_add(commands, "up", "run the whole stack here until Ctrl-C", _UP))
    _add(commands, "demo", "start a stack, ask it questions, stop it", _DEMO)
    _add_call(_add(commands, "call", "send one request and print the answer", _CALL))
    _add_decisions(
        _add(commands, "decisions", "show what the routers decided and why", _DECISIONS)
    )
    jobs.add(
        _add(commands, "job", "submit, list, show and cancel jobs", jobs.ABOUT),
        _seconds,
    )
    _add_permissions(
        _add(commands, "permissions", "print users' rights for NATS", permissions.ABOUT)
    )
    _add_provision(
        _add(commands, "provision", "create streams and consumers", provision.ABOUT)
    )
    pools.add(partial(_add, commands))
    profile.add(
        _add(
            commands, "profile", "show what a process spends its time on", profile.ABOUT
        )
    )
    _add_session(_add(commands, "session", "list, show and close sessions", _SESSION))
    kept = _add(
        commands, "journal", "list, show and export what happened", journal.ABOUT
    )
    journal.add(kept.add_subparsers(dest="what", metavar="WHAT", required=True))
    replay.add(_add(commands, "replay", "send recorded requests again", replay.ABOUT))
    doctor = _add(commands, "doctor", "check this machine", _DOCTOR)
    doctor.add_argument("--json", action="store_true", help="print one JSON object")
    return found


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read a command line; ``name=value`` may stand before and after options."""
    command = parser()
    given, rest = command.parse_known_args(arguments)
    # argparse ends a list of arguments at the first option.
    command = getattr(given, "parser", command)
    takes_values = hasattr(given, "values")
    unknown = [one for one in rest if not takes_values or one[0:1] == "-"]
    if unknown:
        command.error(f"unrecognized arguments: {' '.join(unknown)}")
    if takes_values:
        given.values = [*given.values, *rest]
        for one in given.values:
            if not one.partition("=")[0] or "=" not in one:
                command.error(f'{one!r} is not name=value, such as question="Why?"')
    return given


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status."""
    if not (sys.argv[1:] if arguments is None else arguments):
        parser().print_help(sys.stderr)
        return 2
    given = parse(arguments)
    # What the bus logs while it tries is for programs; here the outcome is told.
    logging.getLogger().addHandler(logging.NullHandler())
    try:
        status = _COMMANDS[given.command](given)
        sys.stdout.flush()
    except BrokenPipeError:
        return _unread()
    except ConfigurationError as error:
        print(f"dspex {given.command}: {error}", file=sys.stderr)
    except Failure as failure:
        print(f"dspex {given.command}: {failure} {failure.hint}", file=sys.stderr)
    except KeyboardInterrupt:
        return 130
    else:
        return status
    return 1


def _unread() -> int:
    """Whoever read the output, such as `head`, has had enough."""
    # The interpreter flushes once more when it ends, and would complain.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return UNREAD


def _seconds(text: str) -> float:
    try:
        found = float(text)
    except ValueError:
        found = math.nan
    if not 0 < found < math.inf:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no time: it takes seconds, more than 0, such as 30"
        )
    return found


def _add(commands: Any, name: str, summary: str, description: str) -> Any:
    found = commands.add_parser(
        name,
        help=summary,
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    found.add_argument("--config", type=Path, metavar="PATH", help=_CONFIG)
    found.set_defaults(parser=found)  # what is wrong with it is its own to say
    return found


def _add_up(found: argparse.ArgumentParser) -> None:
    found.add_argument(
        "--join",
        metavar="URL",
        help="start only workers, for the stack on this NATS server",
    )
    found.add_argument(
        "--host", metavar="NAME", help="name of this host (default: its hostname)"
    )


def _add_call(found: argparse.ArgumentParser) -> None:
    found.epilog = _CALL_END
    found.add_argument(
        "operation",
        metavar="OPERATION",
        help=f"one of {', '.join(sorted(catalog.OPERATIONS))}",
    )
    found.add_argument(
        "values",
        nargs="*",
        default=[],
        metavar="name=value",
        help="inputs, values or fields",
    )
    found.add_argument("--signature", metavar="TEXT", help="'inputs -> outputs'")
    found.add_argument(
        "--program", metavar="NAME", help="for `run`: the name of a program"
    )
    found.add_argument(
        "--instructions", metavar="TEXT", help="instructions of the signature"
    )
    found.add_argument(
        "--session", default="", metavar="ID", help="send it as a turn of this session"
    )
    found.add_argument("--lm", metavar="NAME", help="name of a language model")
    found.add_argument(
        "--adapter", choices=("chat", "json", "xml"), help="how the prompt is written"
    )
    found.add_argument("--body", metavar="JSON", help="other fields of the body")
    found.add_argument(
        "--stream", action="store_true", help="print the answer as it is written"
    )
    found.add_argument("--url", metavar="URL", help="NATS server, host:port")
    found.add_argument(
        "--timeout",
        type=_seconds,
        default=120.0,
        metavar="S",
        help="default: 120",
    )
    found.add_argument(
        "--json", action="store_true", help="print the reply, or each event, as JSON"
    )


def _add_decisions(found: argparse.ArgumentParser) -> None:
    found.add_argument("--request", metavar="ID", help="only those of this request")
    found.add_argument(
        "--limit", type=int, default=10, metavar="N", help="the last N; default: 10"
    )
    found.add_argument("--url", metavar="URL", help="NATS server, host:port")
    found.add_argument("--json", action="store_true", help="print one JSON list")


def _add_permissions(found: argparse.ArgumentParser) -> None:
    found.add_argument("--tenant", default=DEFAULT_TENANT, help="whose clients")
    found.add_argument(
        "--inbox",
        default=CLIENTS_INBOX,
        metavar="PREFIX",
        help="inboxes that are the clients' alone (default: %(default)s)",
    )


def _add_provision(found: argparse.ArgumentParser) -> None:
    found.add_argument("--url", metavar="URL", help="NATS server, host:port")
    found.add_argument("--json", action="store_true", help="print one JSON list")


def _add_session(found: argparse.ArgumentParser) -> None:
    actions = found.add_subparsers(dest="action", metavar="ACTION", required=True)
    for name, summary in _SESSION_ACTIONS.items():
        one = actions.add_parser(name, help=summary, description=f"{summary}.")
        if name != "ls":
            one.add_argument("session", metavar="SESSION", help="its id")
        one.add_argument("--tenant", default=DEFAULT_TENANT, help="whose sessions")
        one.add_argument("--url", metavar="URL", help="NATS server, host:port")
        one.add_argument("--json", action="store_true", help="print the reply as JSON")


def _version() -> str:
    return version("dspex")


_COMMANDS: dict[str, Callable[[argparse.Namespace], int]] = {
    "up": up.main,
    "demo": demo.main,
    "call": call.main,
    "decisions": decisions.main,
    "job": jobs.main,
    "permissions": permissions.main,
    "provision": provision.main,
    "session": session.main,
    "doctor": doctor.main,
    **pools.COMMANDS,
    "profile": profile.main,
    "journal": journal.main,
    "replay": replay.main,
}

if __name__ == "__main__":
    sys.exit(main())
