"""Every subject of wire version 1, one function each.

No other file spells a subject. ``Subjects().call("predict")`` is
``dspex.v1.call.predict``; ``Subjects(tenant="acme").call("predict")`` is
``dspex.v1.tenant.acme.call.predict``: what clients publish and subscribe to also
exists in a form of its own for each tenant, so that permissions can pin a
client to it. The plain form belongs to tenant ``default``.
"""

from __future__ import annotations

import re

from msgspec import Struct

from dspex.contracts.failures import BadRequest

VERSION = "v1"
DEFAULT_PREFIX = "dspex"
DEFAULT_TENANT = "default"

ROUTER_QUEUE = "router"
"""Queue group of the routers."""

NATIVE_QUEUE = "native"
"""Queue group of the native-ops services; also the name of their pool."""

SUPERVISOR_POOL = "supervisor"
"""Pool under which supervisors send heartbeats."""

REPLAY_POOL = "replay"
"""Pool of the processes that replay what others ask them to."""

STATE_POOL = "state"
"""Pool of the processes that answer for sessions, jobs and programs."""

_LONGEST = 255
_TOKEN = re.compile(r"[A-Za-z0-9_-]{1,64}")
# Anything else could aim our rights at the server's own API.
_INBOX = re.compile(r"(_INBOX|_R_)(\.[^\s.*>]+)+")


def token(value: str, what: str) -> str:
    """Return ``value`` if it may stand as one token of a subject.

    Raises:
        BadRequest: It is not 1 to 64 characters of ``A-Z a-z 0-9 _ -``.
    """
    if not is_token(value):
        raise BadRequest(
            f"{what} {value[:80]!r} is not 1 to 64 characters of A-Z a-z 0-9 _ -.",
            field=what,
            hint="Use a UUID, or letters, digits, '_' and '-' only.",
        )
    return value


def is_token(value: str) -> bool:
    """Whether ``value`` may stand as one token of a subject."""
    return _TOKEN.fullmatch(value) is not None


def answerable(reply: str) -> bool:
    """Whether a reply subject is an inbox, the only thing ever answered."""
    return _INBOX.fullmatch(reply) is not None


def is_literal(subject: str) -> bool:
    """Whether a subject is one to call: tokens, dots between, no wildcard."""
    return len(subject) <= _LONGEST and all(map(is_token, subject.split(".")))


def covers(pattern: str, subject: str) -> bool:
    """Whether a subject is one of those that a pattern with wildcards means."""
    wanted, tokens = pattern.split("."), subject.split(".")
    for index, one in enumerate(wanted):
        if one == ">":
            return len(tokens) > index
        if index >= len(tokens) or one not in ("*", tokens[index]):
            return False
    return len(wanted) == len(tokens)


class Address(Struct, frozen=True):
    """What a client-facing subject says: whose it is, and what it names.

    Attributes:
        tenant: The tenant of the subject.
        name: An operation (``call``) or a request id (``cancel``).
        session: The session whose subject it is; empty: none.
    """

    tenant: str
    name: str
    session: str = ""


class Subjects(Struct, frozen=True):
    """The subjects under one prefix, as one tenant sees them.

    Attributes:
        prefix: First token of every subject (setting ``DSPEX_PREFIX``).
        tenant: Whose form of the client-facing subjects to build.
    """

    prefix: str = DEFAULT_PREFIX
    tenant: str = DEFAULT_TENANT

    def everything(self) -> str:
        """``dspex.v1.>``: all there is, of all tenants."""
        return f"{self._root()}.>"

    def of(self, tenant: str) -> Subjects:
        """The same prefix as another tenant sees it."""
        return self if tenant == self.tenant else Subjects(self.prefix, tenant)

    def call(self, operation: str) -> str:
        """``dspex.v1.call.<operation>``: client to router, every request."""
        return f"{self._face()}.call.{operation}"

    def calls(self) -> str:
        """``dspex.v1.call.>``: what a router serves of this tenant."""
        return f"{self._face()}.call.>"

    def tenant_calls(self) -> str:
        """``dspex.v1.tenant.*.call.>``: what a router serves of all others."""
        return f"{self._root()}.tenant.*.call.>"

    def native(self, operation: str) -> str:
        """``dspex.v1.native.<operation>``: client to native-ops."""
        return f"{self._face()}.native.{operation}"

    def natives(self) -> str:
        """``dspex.v1.native.>``: what native-ops serves of this tenant."""
        return f"{self._face()}.native.>"

    def tenant_natives(self) -> str:
        """``dspex.v1.tenant.*.native.>``: what native-ops serves of all others."""
        return f"{self._root()}.tenant.*.native.>"

    def worker_run(self, worker: str) -> str:
        """``dspex.v1.worker.<worker>.run``: router to one worker process."""
        return f"{self._root()}.worker.{worker}.run"

    def worker_ping(self, worker: str) -> str:
        """``dspex.v1.worker.<worker>.ping``: is it there? Until its last word it is."""
        return f"{self._root()}.worker.{worker}.ping"

    def worker_stop(self, worker: str) -> str:
        """``dspex.v1.worker.<worker>.stop``: router to worker, drop one attempt."""
        return f"{self._root()}.worker.{worker}.stop"

    def pool_run(self, pool: str) -> str:
        """``dspex.v1.pool.<pool>.run``: client to any worker of a pool."""
        return f"{self._face()}.pool.{pool}.run"

    def tenant_pool_runs(self, pool: str) -> str:
        """``dspex.v1.tenant.*.pool.<pool>.run``: the same, of all other tenants."""
        return f"{self._root()}.tenant.*.pool.{pool}.run"

    def event(self, request: str, kind: str) -> str:
        """``dspex.v1.event.<request>.<kind>``: the life of a request."""
        return f"{self._face()}.event.{request}.{kind}"

    def events(self, request: str) -> str:
        """``dspex.v1.event.<request>.*``: everything one request goes through."""
        return f"{self._face()}.event.{request}.*"

    def all_events(self, kind: str) -> str:
        """``dspex.v1.event.*.<kind>``: one kind of event, of this tenant."""
        return f"{self._face()}.event.*.{kind}"

    def tenant_events(self, kind: str) -> str:
        """``dspex.v1.tenant.*.event.*.<kind>``: the same, of all others."""
        return f"{self._root()}.tenant.*.event.*.{kind}"

    def cancel(self, request: str) -> str:
        """``dspex.v1.cancel.<request>``: stop it."""
        return f"{self._face()}.cancel.{request}"

    def cancels(self) -> str:
        """``dspex.v1.cancel.*``: every wish to stop, of this tenant."""
        return f"{self._face()}.cancel.*"

    def tenant_cancels(self) -> str:
        """``dspex.v1.tenant.*.cancel.*``: every wish to stop, of all others."""
        return f"{self._root()}.tenant.*.cancel.*"

    def session_calls(self) -> str:
        """``dspex.v1.session.*.call.>``: what a router serves in sessions."""
        return f"{self._face()}.session.*.call.>"

    def session_call(self, session: str, operation: str) -> str:
        """``dspex.v1.session.<session>.call.<operation>``: a turn of a session."""
        return f"{self._face()}.session.{session}.call.{operation}"

    def session_run(self, session: str) -> str:
        """``dspex.v1.session.<session>.run``: router to who holds the session."""
        return f"{self._face()}.session.{session}.run"

    def session_event(self, session: str, request: str, kind: str) -> str:
        """``dspex.v1.session.<session>.event.<request>.<kind>``: of a turn."""
        return f"{self._face()}.session.{session}.event.{request}.{kind}"

    def session_log(self, session: str) -> str:
        """``dspex.v1.session.<session>.log``: what changed in it, acknowledged."""
        return f"{self._face()}.session.{session}.log"

    def session_logs(self) -> str:
        """``dspex.v1.session.*.log``: the logs of this tenant's sessions."""
        return f"{self._face()}.session.*.log"

    def tenant_session_logs(self) -> str:
        """``dspex.v1.tenant.*.session.*.log``: those of all others."""
        return f"{self._root()}.tenant.*.session.*.log"

    def tenant_session_calls(self) -> str:
        """``dspex.v1.tenant.*.session.*.call.>``: turns in sessions of all others."""
        return f"{self._root()}.tenant.*.session.*.call.>"

    def job(self, pool: str, priority: str) -> str:
        """``dspex.v1.job.<pool>.<priority>``: durable work of a pool."""
        return f"{self._root()}.job.{pool}.{priority}"

    def later_job(self, tenant: str, job: str) -> str:
        """``dspex.v1.later.<tenant>.<job>``: a job the server puts in at its time."""
        return f"{self._root()}.later.{tenant}.{job}"

    def job_notices(self) -> str:
        """``dspex.v1.notice.job.>``: the record of ``<tenant>.<job>`` was stored."""
        return f"{self._root()}.notice.job.>"

    def dead(self, pool: str) -> str:
        """``dspex.v1.dead.<pool>``: work of a pool that failed for good."""
        return f"{self._root()}.dead.{pool}"

    def tool(self, name: str) -> str:
        """``dspex.v1.tool.<name>``: worker to whoever offers the tool."""
        return f"{self._face()}.tool.{name}"

    def tools(self) -> str:
        """``dspex.v1.tool.>``: every tool of this tenant."""
        return f"{self._face()}.tool.>"

    def mcp_tool(self, server: str, tool: str) -> str:
        """``dspex.v1.mcp.<server>.<tool>``: worker to one that holds the server."""
        return f"{self._root()}.mcp.{server}.{tool}"

    def mcp_tools(self) -> str:
        """``dspex.v1.mcp.*.*``: the tools of all MCP servers of the workers."""
        return f"{self._root()}.mcp.*.*"

    def record(self, request: str, kind: str) -> str:
        """``dspex.v1.record.<request>.<kind>``: a call of a model or of a tool."""
        return f"{self._face()}.record.{request}.{kind}"

    def session_events(self, request: str) -> str:
        """``dspex.v1.session.*.event.<request>.*``: of a request in some session."""
        return f"{self._face()}.session.*.event.{request}.*"

    def records(self, request: str) -> str:
        """``dspex.v1.record.<request>.*``: every call one request made."""
        return f"{self._face()}.record.{request}.*"

    def read_journaled(self, subject: str) -> tuple[str, str, str, str]:
        """Take tenant, family, request id and kind out of a subject of the journal.

        Returns:
            The family is ``event`` or ``record``.

        Raises:
            BadRequest: The subject is of no family that is journaled.
        """
        tokens = self._tokens(subject)
        tenant = DEFAULT_TENANT
        if tokens[0] == "tenant" and len(tokens) > 1:
            tenant, tokens = tokens[1], tokens[2:]
        if tokens[:1] == ["session"]:
            tokens = tokens[2:]
        if len(tokens) != 3 or tokens[0] not in ("event", "record"):
            raise BadRequest(f"{subject[:80]!r} is no subject of the journal.")
        return tenant, tokens[0], tokens[1], tokens[2]

    def journaled_again(self, subject: str) -> str:
        """A subject of another prefix's journal, under this one.

        Raises:
            BadRequest: The subject is of no family that is journaled.
        """
        other = Subjects(subject.partition(".")[0])
        other.read_journaled(subject)
        return self.prefix + subject.removeprefix(other.prefix)

    def journaled(self) -> list[str]:
        """What the journal keeps copies of, of all tenants."""
        root = self._root()
        families = ("event.>", "session.*.event.>", "record.>")
        return [
            f"{root}.{tenant}{family}"
            for tenant in ("", "tenant.*.")
            for family in families
        ]

    def heartbeat(self, pool: str, worker: str) -> str:
        """``dspex.v1.heartbeat.<pool>.<worker>``: capacity, every second."""
        return f"{self._root()}.heartbeat.{pool}.{worker}"

    def heartbeats(self) -> str:
        """``dspex.v1.heartbeat.*.*``: everybody's capacity."""
        return f"{self._root()}.heartbeat.*.*"

    def notice(self, kind: str) -> str:
        """``dspex.v1.notice.<kind>``: to operators, such as ``breaker``."""
        return f"{self._root()}.notice.{kind}"

    def admin(self, verb: str) -> str:
        """``dspex.v1.admin.<verb>``: operator to routers, supervisors."""
        return f"{self._root()}.admin.{verb}"

    def discover(self) -> str:
        """``dspex.v1.discover``: router to workers, heartbeat now."""
        return f"{self._root()}.discover"

    def replayed(self) -> str:
        """``dspex.v1.replay.call``: worker to a replay, what the record answered."""
        return f"{self._root()}.replay.call"

    def sender(self, subject: str) -> Subjects:
        """The subjects as the tenant sees them who published on ``subject``."""
        tokens = self._tokens(subject)
        ours = tokens[0] == "tenant" and len(tokens) > 1 and is_token(tokens[1])
        return self.of(tokens[1] if ours else DEFAULT_TENANT)

    def read_heartbeat(self, subject: str) -> tuple[str, str]:
        """Take pool and worker out of a heartbeat subject.

        Raises:
            BadRequest: One of them cannot stand in a subject of ours.
        """
        pool, worker = self._tokens(subject)[-2:]
        return token(pool, "pool"), token(worker, "worker")

    def read_call(self, subject: str) -> Address:
        """Take tenant, operation and session out of a subject of the ``call`` family.

        Raises:
            BadRequest: The subject is not of that family.
        """
        tokens = self._tokens(subject)
        tenant, session = DEFAULT_TENANT, ""
        if tokens[:1] == ["tenant"]:
            tenant, tokens = tokens[1], tokens[2:]
        if tokens[:1] == ["session"]:
            session, tokens = token(tokens[1], "session"), tokens[2:]
        if tokens[:1] != ["call"]:
            raise BadRequest(f"{subject!r} is not a call subject.")
        return Address(token(tenant, "tenant"), ".".join(tokens[1:]), session)

    def read_cancel(self, subject: str) -> Address:
        """Take tenant and request id out of a cancel subject."""
        tokens = self._tokens(subject)
        tenant = tokens[1] if tokens[0] == "tenant" else DEFAULT_TENANT
        return Address(tenant, tokens[-1])

    def read_event(self, subject: str) -> Address:
        """Take tenant and request id out of an event subject."""
        tokens = self._tokens(subject)
        tenant = tokens[1] if tokens[0] == "tenant" else DEFAULT_TENANT
        return Address(tenant, tokens[-2])

    def read_native(self, subject: str) -> str:
        """Take the operation out of a subject of the ``native`` family."""
        tokens = self._tokens(subject)
        return ".".join(tokens[3:] if tokens[0] == "tenant" else tokens[1:])

    def _tokens(self, subject: str) -> list[str]:
        return subject.removeprefix(f"{self._root()}.").split(".")

    def _root(self) -> str:
        return f"{self.prefix}.{VERSION}"

    def _face(self) -> str:
        if self.tenant == DEFAULT_TENANT:
            return self._root()
        return f"{self._root()}.tenant.{self.tenant}"
