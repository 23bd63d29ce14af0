"""``python -m tests.support.write_configuration [--check]``: docs/configuration.md.

Written from the structs of ``dspex.contracts.configuration`` and their docstrings;
with ``--check`` it only says whether the file is out of date.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import msgspec

from dspex.contracts import configuration, journaling, pooling, program_settings
from dspex.contracts.bodies import Bodies
from dspex.contracts.job_settings import Jobs
from dspex.contracts.replay_settings import Replaying
from dspex.contracts.schemas import attributes

FILE = Path(__file__).parents[2] / "docs" / "configuration.md"
HOW = "python -m tests.support.write_configuration"

_HEAD = """\
# Configuration

Every key of `dspex.toml`, generated from the code by `make schemas`.

Every program reads one file: the one that `--config` names, or else `DSPEX_CONFIG`, or
else `dspex.toml` in the current folder. Without any, the defaults hold.
A variable overrides a key, with or without a file: `DSPEX_POOLS_LIGHT_PROCESSES=4`.
`DSPEX_LM` is short for `DSPEX_LMS_DEFAULT_MODEL`.
An unknown key or variable of a section is refused, with the nearest valid one named.
[deploy/pools.toml](../deploy/pools.toml) is a file to start from.
"""

_SECTIONS = (
    ("Top level", "", "DSPEX_PREFIX", configuration.Configuration),
    ("`[nats]`", "The NATS server.", "DSPEX_NATS_<KEY>", configuration.Nats),
    (
        "`[lms.<name>]`",
        'A language model and how to reach it; a request picks it with `"lm"`. '
        "Without any, `dspex up` looks for one and says which it found.",
        "DSPEX_LMS_<NAME>_<KEY>",
        configuration.Lm,
    ),
    (
        "`[pools.<name>]`",
        "Worker processes that are alike. Without any, there is one pool, `light`, "
        "with two processes.",
        "DSPEX_POOLS_<NAME>_<KEY>",
        pooling.Pool,
    ),
    ("`[router]`", "The routers.", "DSPEX_ROUTER_<KEY>", configuration.Router),
    (
        "`[jobs]`",
        "[Jobs](jobs.md); the same for all programs.",
        "DSPEX_JOBS_<KEY>",
        Jobs,
    ),
    (
        "`[supervisor]`",
        "What keeps the workers of one host; the host's own name is replaced by the "
        "variable `DSPEX_HOST`.",
        "DSPEX_SUPERVISOR_<KEY>",
        pooling.Supervising,
    ),
    (
        "`[fallbacks.<operation>]`",
        'What stands in for what; `[fallbacks."*"]` is for operations without their '
        "own section. A request that names its pool in `Dspex-Route` gets that pool.",
        "",
        configuration.Fallback,
    ),
    (
        "`[tenants.<name>]`",
        'What a tenant may use; `[tenants."*"]` is for each one without its own '
        "section, and `default` is who publishes on the plain subjects.",
        "",
        configuration.Tenant,
    ),
    (
        "`[tools]`",
        "Which functions programs may call; see [programs](programs.md).",
        "",
        program_settings.Tools,
    ),
    (
        "`[mcp.<name>]`",
        "A server of the Model Context Protocol whose tools programs may call, by "
        "`mcp:<name>/<tool>`; see [programs](programs.md#mcp-servers).",
        "DSPEX_MCP_<NAME>_<KEY>",
        program_settings.McpServer,
    ),
    (
        "`[programs.<name>]`",
        "A program written in Python, which requests run by its name. Only what is "
        "named here is ever imported.",
        "",
        program_settings.OwnProgram,
    ),
    (
        "`[journal]`",
        "The copies of what happened; see [the journal](journal.md).",
        "DSPEX_JOURNAL_<KEY>",
        journaling.Journal,
    ),
    (
        "`[journal.redact]`",
        "What those copies leave out.",
        "",
        journaling.Redact,
    ),
    (
        "`[bodies]`",
        "Requests and replies too large for a message; see [data](data.md).",
        "DSPEX_BODIES_<KEY>",
        Bodies,
    ),
    (
        "`[replay]`",
        "Replays that are asked for on the bus; see [replay](replay.md).",
        "DSPEX_REPLAY_<KEY>",
        Replaying,
    ),
)


def text() -> str:
    """What the file must hold."""
    return "\n".join([_HEAD, *(_section(*one) for one in _SECTIONS)])


def main(arguments: list[str]) -> int:
    """Write, or with ``--check`` compare; returns the exit status."""
    if "--check" not in arguments:
        FILE.write_text(text(), encoding="utf-8")
        return 0
    if FILE.read_text(encoding="utf-8") == text():
        return 0
    print(f"{FILE.name} is out of date. Run: {HOW}", file=sys.stderr)
    return 1


def _section(title: str, said: str, variable: str, struct: type[Any]) -> str:
    meanings = attributes(struct)
    rows = [
        f"| `{field.encode_name}` | {_type(field.type)} | {_default(field)} "
        f"| {_cell(meanings[field.name])} |"
        for field in msgspec.structs.fields(struct)
        if not _is_section(field.type)
    ]
    lines = [f"## {title}", "", *([said, ""] if said else [])]
    lines += [f"Variable: `{variable}`.", ""] if variable else []
    lines += ["| key | type | default | meaning |", "| --- | --- | --- | --- |", *rows]
    return "\n".join([*lines, ""])


def _is_section(annotation: Any) -> bool:
    names = str(annotation)
    return any(struct.__name__ in names for _, _, _, struct in _SECTIONS)


def _type(annotation: Any) -> str:
    schema = msgspec.json.schema(annotation)
    options = [
        one for one in schema.get("anyOf", [schema]) if one.get("type") != "null"
    ]
    return " or ".join(_bounded(one) for one in options)


def _bounded(schema: dict[str, Any]) -> str:
    if "enum" in schema:
        return " or ".join(f"`{value}`" for value in schema["enum"])
    name = {"string": "text", "boolean": "true or false"}.get(
        schema["type"], schema["type"]
    )
    if "minimum" in schema:
        return f"{name}, at least {schema['minimum']}"
    if "exclusiveMinimum" in schema:
        return f"{name}, more than {schema['exclusiveMinimum']}"
    return str(name)


def _default(field: msgspec.structs.FieldInfo) -> str:
    if field.required:
        return "required"
    if field.default is None:
        return "absent"
    if field.default is msgspec.NODEFAULT:
        return "empty"
    return f"`{msgspec.json.encode(field.default).decode()}`"


def _cell(meaning: str) -> str:
    return meaning.replace("|", "\\|")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
