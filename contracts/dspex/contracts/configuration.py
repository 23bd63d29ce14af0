"""The configuration file ``dspex.toml`` and the environment that overrides it.

Every program reads the same file. A variable ``DSPEX_<SECTION>_<KEY>`` overrides
a key: ``DSPEX_NATS_URL``, ``DSPEX_POOLS_LIGHT_PROCESSES``, ``DSPEX_LMS_DEFAULT_MODEL``.
``DSPEX_LM`` is short for the model of the language model ``default`` and
``DSPEX_PREFIX`` for the key ``prefix``. Unknown keys are refused, with the nearest
valid one named.
"""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct, field

from dspex.contracts import catalog, encoding
from dspex.contracts.bodies import Bodies
from dspex.contracts.failures import BadRequest, nearest
from dspex.contracts.job_settings import Jobs
from dspex.contracts.journaling import Journal
from dspex.contracts.pooling import Pool, Supervising
from dspex.contracts.program_settings import McpServer, OwnProgram, Tools
from dspex.contracts.redaction import rules_of
from dspex.contracts.replay_settings import Replaying
from dspex.contracts.sharing import Fallback as Fallback
from dspex.contracts.sharing import Tenant as Tenant
from dspex.contracts.subjects import DEFAULT_PREFIX, Subjects, token

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

BUILTIN_MODEL = "builtin"
"""The ``model`` of the built-in toy model."""


class ConfigurationError(Exception):
    """The configuration cannot be used; the message says which key and why."""


class Nats(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Section ``[nats]``.

    Attributes:
        url: Server to use; absent: an embedded one is started by ``dspex up``.
        listen: Where the embedded server listens, ``host:port``; port 0 is a free
            one; absent: ``127.0.0.1:4222``, or a free port when that one is taken.
        store: Folder of its JetStream data.
        credentials: File with an NKey seed or a credentials file, for ``url``.
        grace: Seconds without a server after which a program gives up.
        replicas: Servers of a cluster that hold each stream: 1, 3 or 5.
    """

    url: str | None = None
    listen: str | None = None
    store: str = ".dspex/nats"
    credentials: str | None = None
    grace: Annotated[float, Meta(gt=0)] = 30.0
    replicas: Literal[1, 3, 5] = 1


class Lm(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Section ``[lms.<name>]``: one language model and how to reach it.

    Attributes:
        model: As DSPy names it, such as ``openai/gpt-4o-mini``; ``builtin`` is the
            built-in toy model.
        api_key_env: Environment variable that holds the key.
        api_key: The key itself, for local servers.
        api_base: Address of a local or private server.
        temperature: Default randomness; absent: the provider's.
        max_tokens: Default longest answer; absent: the provider's.
        num_retries: Retries inside one attempt, by DSPy.
        timeout_s: Longest wait for one call, seconds.
        response_schema: The server at ``api_base`` constrains answers to a JSON Schema.
    """

    model: str
    api_key_env: str | None = None
    api_key: str | None = None
    api_base: str | None = None
    temperature: float | None = None
    max_tokens: Annotated[int, Meta(ge=1)] | None = None
    num_retries: Annotated[int, Meta(ge=0)] = 0
    timeout_s: Annotated[float, Meta(gt=0)] = 60.0
    response_schema: bool = False

    def __repr__(self) -> str:
        # An address may hold a password, so it is not shown either.
        return f"Lm(model={self.model!r})"


class Router(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Section ``[router]``: how requests are admitted, retried and kept.

    Attributes:
        queue: Most requests that wait for one pool in one router.
        queue_timeout_s: Longest wait for a slot, seconds.
        retries: How often a request is tried again after its language model failed.
        slow_call_s: Calls of a language model that take longer are slow, and when all
            are, it is left alone for a while; absent: none is.
        cache: What holds for requests without ``Dspex-Cache``: ``off`` or ``use``.
        cache_mib: Most memory of kept answers, MiB; 0 keeps none.
        cache_ttl_s: How long an answer is kept, seconds.
        shared_cache: Whether routers share kept answers, in a NATS key-value bucket.
        decisions: How many of the last decisions are kept to look at.
    """

    queue: Annotated[int, Meta(ge=0, le=100_000)] = 1000
    queue_timeout_s: Annotated[float, Meta(gt=0)] = 30.0
    retries: Annotated[int, Meta(ge=0, le=100)] = 3
    slow_call_s: Annotated[float, Meta(gt=0)] | None = None
    cache: Literal["off", "use"] = "off"
    cache_mib: Annotated[float, Meta(ge=0)] = 64.0
    cache_ttl_s: Annotated[float, Meta(gt=0)] = 3600.0
    shared_cache: bool = False
    decisions: Annotated[int, Meta(ge=0, le=100_000)] = 1000


_SECTIONS: dict[str, type[Struct]] = {
    "NATS": Nats,
    "ROUTER": Router,
    "JOBS": Jobs,
    "TOOLS": Tools,
    "SUPERVISOR": Supervising,
    "LMS": Lm,
    "POOLS": Pool,
    "JOURNAL": Journal,
    "MCP": McpServer,
    "BODIES": Bodies,
    "REPLAY": Replaying,
}
"""The struct of each section that variables can override."""


class Configuration(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole file.

    Attributes:
        prefix: First token of every subject.
        nats: Which server.
        lms: Language models by name.
        pools: Pools by name; without any, pool ``light`` with two processes.
        router: How requests are admitted, retried and kept.
        jobs: How jobs are tried and kept.
        supervisor: What keeps the workers of one host.
        fallbacks: What stands in for what, by operation.
        tenants: What tenants may use, by name.
        tools: Which functions programs may call.
        mcp: MCP servers whose tools programs may call, by name.
        programs: Programs written in Python, by name.
        journal: The copies of what happened.
        bodies: Requests and replies too large for a message.
        replay: Replays that are asked for on the bus.
    """

    prefix: str = DEFAULT_PREFIX
    nats: Nats = field(default_factory=Nats)
    lms: dict[str, Lm] = field(default_factory=dict)
    pools: dict[str, Pool] = field(default_factory=lambda: {"light": Pool(processes=2)})
    router: Router = field(default_factory=Router)
    jobs: Jobs = field(default_factory=Jobs)
    supervisor: Supervising = field(default_factory=Supervising)
    fallbacks: dict[str, Fallback] = field(default_factory=dict)
    tenants: dict[str, Tenant] = field(default_factory=dict)
    tools: Tools = field(default_factory=Tools)
    mcp: dict[str, McpServer] = field(default_factory=dict)
    programs: dict[str, OwnProgram] = field(default_factory=dict)
    journal: Journal = field(default_factory=Journal)
    bodies: Bodies = field(default_factory=Bodies)
    replay: Replaying = field(default_factory=Replaying)

    @property
    def subjects(self) -> Subjects:
        """The subjects under this configuration's prefix."""
        return Subjects(self.prefix)


def parse(
    text: str, environ: Mapping[str, str], source: str = "dspex.toml"
) -> Configuration:
    """Read the text of a ``dspex.toml``, overridden by environment variables.

    Args:
        text: Of the file; empty for the defaults.
        environ: Where the variables are.
        source: What errors call the file.

    Raises:
        ConfigurationError: Not TOML, an unknown key, or a value of the wrong type;
            the message names the file, or the variable that said it.
    """
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{source} is not TOML: {error}.") from None
    origins = _Origins(source)
    _override(values, environ, origins)
    try:
        found: Configuration = encoding.read(values, Configuration)
    except BadRequest as error:
        member = _member_at_fault(values)
        path = (error.field or "").replace("[...]", member)
        message = error.message.replace("[...]", member)
        raise ConfigurationError(f"{origins.of(path)}: {message}") from None
    _check(found, origins)
    return found


class _Origins:
    """Which variable said what; the file said the rest."""

    def __init__(self, file: str) -> None:
        self.file = file
        self._variables: dict[str, str] = {}

    def note(self, path: str, variable: str) -> None:
        """``variable`` is why there is something at ``path``."""
        self._variables[path] = variable

    def of(self, path: str) -> str:
        """What is at fault for ``path``; what lacks a key was begun by a variable."""
        return self._variables.get(path) or next(
            (
                variable
                for known, variable in self._variables.items()
                if known.startswith(f"{path}.")
            ),
            self.file,
        )


def _member_at_fault(values: dict[str, Any]) -> str:
    """Which member of a section cannot be read: msgspec does not say its name."""
    for section in ("lms", "pools", "mcp"):
        members = values.get(section)
        for name, member in members.items() if isinstance(members, dict) else ():
            try:
                encoding.read(member, _SECTIONS[section.upper()])
            except BadRequest:
                return f".{name}"
    return "[...]"


def _check(found: Configuration, origins: _Origins) -> None:
    _check_name(found.prefix, "prefix", origins)
    for name, pool in found.pools.items():
        _check_name(name, f"pools.{name}", origins)
        if found.lms and pool.lm not in found.lms:
            raise ConfigurationError(
                f"{origins.of(f'pools.{name}.lm')}: pools.{name}.lm is {pool.lm!r}, "
                f"which no [lms.{pool.lm}] section describes. "
                f"Described: {', '.join(sorted(found.lms))}."
            )
        _check_pool(name, pool, origins)
    for name, fallback in found.fallbacks.items():
        _check_fallback(name, fallback, found, origins)
    for name in found.tenants.keys() - {"*"}:
        _check_name(name, f"tenants.{name}", origins)
    for name in found.programs:
        _check_name(name, f"programs.{name}", origins)
    for name, server in found.mcp.items():
        _check_mcp(name, server, origins)
    try:
        rules_of(found.journal.redact)
    except ValueError as error:
        said = f"{origins.of('journal.redact')}: journal.redact: {error}."
        raise ConfigurationError(said) from None


def _check_pool(name: str, pool: Pool, origins: _Origins) -> None:
    done = catalog.served_by("python")
    for operation in pool.operations:
        if operation not in done:
            raise ConfigurationError(
                f"{origins.of(f'pools.{name}.operations')}: pools.{name}.operations "
                f"names {operation!r}. {nearest(operation, done)}"
            )
    if pool.max is not None and pool.max < pool.min:
        raise ConfigurationError(
            f"{origins.of(f'pools.{name}.max')}: pools.{name}.max is {pool.max}, "
            f"less than pools.{name}.min, which is {pool.min}."
        )


def _check_mcp(name: str, server: McpServer, origins: _Origins) -> None:
    path = f"mcp.{name}"
    _check_name(name, path, origins)
    if (server.command is None) == (server.url is None):
        raise ConfigurationError(
            f"{origins.of(path)}: {path} needs either the command that starts the "
            "server or the url where it is."
        )


def _check_fallback(
    name: str, fallback: Fallback, found: Configuration, origins: _Origins
) -> None:
    path = f"fallbacks.{name}"
    if name != "*" and name not in catalog.OPERATIONS:
        raise ConfigurationError(
            f"{origins.of(path)}: {path} is for no operation. "
            + nearest(name, [*catalog.OPERATIONS, "*"])
        )
    named = {lm for one, others in fallback.lms.items() for lm in (one, *others)}
    if found.lms and (unknown := sorted(named - found.lms.keys())):
        raise ConfigurationError(
            f"{origins.of(path)}: {path}.lms names {unknown[0]!r}, "
            f"which no [lms.{unknown[0]}] section describes. "
            f"Described: {', '.join(sorted(found.lms))}."
        )


def _check_name(text: str, path: str, origins: _Origins) -> None:
    try:
        token(text, path)
    except BadRequest as error:
        raise ConfigurationError(f"{origins.of(path)}: {error.message}") from None


def _override(
    values: dict[str, Any], environ: Mapping[str, str], origins: _Origins
) -> None:
    if prefix := environ.get("DSPEX_PREFIX"):
        values["prefix"] = prefix
        origins.note("prefix", "DSPEX_PREFIX")
    if model := environ.get("DSPEX_LM"):
        lms = _table(values, "lms", origins)
        _table(lms, "default", origins)["model"] = model
        origins.note("lms.default.model", "DSPEX_LM")
    for name, text in environ.items():
        section, _, key = name.removeprefix("DSPEX_").partition("_")
        if name.startswith("DSPEX_") and section in _SECTIONS and key and text:
            table = _table(values, section.lower(), origins)
            path = _override_one(table, section, key.lower(), text, origins)
            origins.note(path, name)


def _override_one(
    table: dict[str, Any], section: str, key: str, text: str, origins: _Origins
) -> str:
    """Put a variable's value in its place, and return the path of that place."""
    kinds = {one.name: one.type for one in msgspec.structs.fields(_SECTIONS[section])}
    path = [section.lower(), key]
    if section in ("LMS", "POOLS", "MCP"):
        member, key = _split(key, kinds)
        table = _table(table, member, origins)
        path = [section.lower(), member, key]
    # A key of digits or a model called "true" is text all the same.
    is_text = kinds.get(key) in (str, str | None)
    table[key] = text if is_text else _literal(text)
    return ".".join(path)


def _split(key: str, known: Iterable[str]) -> tuple[str, str]:
    """Take ``my_pool_request_timeout_s`` apart; the longest key that fits counts."""
    for one in sorted(known, key=len, reverse=True):
        if key.endswith(f"_{one}"):
            return key.removesuffix(f"_{one}"), one
    member, _, rest = key.partition("_")
    return member, rest


def _table(values: dict[str, Any], name: str, origins: _Origins) -> dict[str, Any]:
    found: Any = values.setdefault(name, {})
    if not isinstance(found, dict):
        raise ConfigurationError(
            f"{origins.file}: {name!r} is a value and must be a section: [{name}]."
        )
    return found


def _literal(text: str) -> Any:
    """A variable's text as TOML would read it; text that is no literal is itself."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def to_environ(name: str, one: Lm) -> dict[str, str]:
    """The environment that describes one language model to a child process."""
    said = {k: v for k, v in msgspec.to_builtins(one).items() if v is not None}
    return {
        f"DSPEX_LMS_{name.upper()}_{key.upper()}": (
            str(value).lower() if isinstance(value, bool) else str(value)
        )
        for key, value in said.items()
    }
