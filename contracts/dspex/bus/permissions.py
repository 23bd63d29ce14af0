"""What each kind of user of a NATS server may publish and subscribe to.

Pure: made from the subject table, told as the configuration of a nats-server. Programs
answer to inboxes by name and never by ``allow_responses``: a client could aim that at
the server's own API.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from msgspec import Struct

from dspex.bus.provisioning import Names
from dspex.contracts.subjects import (
    DEFAULT_TENANT,
    NATIVE_QUEUE,
    REPLAY_POOL,
    ROUTER_QUEUE,
    STATE_POOL,
    SUPERVISOR_POOL,
    VERSION,
)

if TYPE_CHECKING:
    from dspex.contracts.subjects import Subjects

CLIENTS = ("client", "functions")
"""Roles that belong to a tenant: who asks, and who also offers functions."""

PROGRAMS = ("router", "native", "state", "worker", "supervisor", "replay")
"""Roles of the programs, by the pool of their heartbeats but for workers."""

ROLES = (*CLIENTS, *PROGRAMS, "operator")

_ANY = "*"
_WORKERS = ("worker", "supervisor")
_INBOXES = "_INBOX.>"
# JetStream is one API for all streams; the server keeps no rights apart in it.
_STORES = ("$JS.API.>", "$JS.ACK.>", "$JS.FC.>", "$KV.>", "$O.>")
_SERVICES = "$SRV.>"


class Permissions(Struct, frozen=True, kw_only=True):
    """The rights of a user, as subjects with wildcards.

    Attributes:
        publish: What it may publish on.
        subscribe: What it may subscribe to.
        never: What it may not publish on though ``publish`` covers it.
    """

    publish: list[str]
    subscribe: list[str]
    never: list[str] = []


def permissions(role: str, subjects: Subjects, inbox: str = "_INBOX") -> Permissions:
    """The rights that a role needs, and no others.

    Args:
        role: One of ``ROLES``.
        subjects: The prefix, and for clients the tenant.
        inbox: For clients: first tokens of the inboxes that are theirs alone.
    """
    if role in CLIENTS:
        return _client(role, subjects, inbox)
    if role == "operator":
        everything = [_root(subjects, ">"), *_STORES, _SERVICES, _INBOXES]
        return Permissions(publish=everything, subscribe=[*everything, "$JS.EVENT.>"])
    publish, subscribe = _OWN[role](subjects)
    pools = {ROUTER_QUEUE, NATIVE_QUEUE, STATE_POOL, SUPERVISOR_POOL, REPLAY_POOL}
    own = _ANY if role in _WORKERS else role
    others = sorted(pools - {role}) if role in _WORKERS else []
    return Permissions(
        publish=[*publish, subjects.heartbeat(own, _ANY), *_STORES, _INBOXES],
        subscribe=[*subscribe, *_to_process(subjects), _SERVICES, _INBOXES],
        never=[subjects.heartbeat(pool, _ANY) for pool in others],
    )


def configuration(subjects: Subjects, inbox: str = "_INBOX.client") -> str:
    """Every role as a variable of a nats-server's configuration.

    ``{user: ask, password: …, permissions: $dspex_client}`` then has those of a client.
    """
    return "\n".join(_declared(role, subjects, inbox) for role in ROLES)


def variable(role: str, subjects: Subjects) -> str:
    """What the configuration calls the rights of a role."""
    return re.sub(r"\W", "_", f"{subjects.prefix}_{role}")


def _declared(role: str, subjects: Subjects, inbox: str) -> str:
    found = permissions(role, subjects, inbox)
    denied = f", deny: {_list(found.never)}" if found.never else ""
    return (
        f"{variable(role, subjects)}: {{\n"
        f"  publish: {{ allow: {_list(found.publish)}{denied} }}\n"
        f"  subscribe: {{ allow: {_list(found.subscribe)} }}\n"
        "}\n"
    )


def _list(subjects: list[str]) -> str:
    lines = "".join(f'\n    "{one}"' for one in subjects)
    return f"[{lines}\n  ]"


def _client(role: str, subjects: Subjects, inbox: str) -> Permissions:
    blobs = f"OBJ_{Names(subjects.prefix).blobs}"
    publish = [
        subjects.calls(),
        subjects.session_calls(),
        subjects.natives(),
        subjects.pool_run(_ANY),
        subjects.cancels(),
        f"$O.{Names(subjects.prefix).blobs}.>",
        f"$JS.API.STREAM.INFO.{blobs}",
        f"$JS.API.DIRECT.GET.{blobs}",
        f"$JS.API.DIRECT.GET.{blobs}.>",
    ]
    subscribe = [
        subjects.event(_ANY, _ANY),
        subjects.session_event(_ANY, _ANY, _ANY),
        f"{inbox}.>",
    ]
    if role == "functions":
        publish.append(_INBOXES)
        subscribe += [subjects.tools(), _SERVICES]
    return Permissions(publish=publish, subscribe=subscribe)


def _router(subjects: Subjects) -> tuple[list[str], list[str]]:
    publish = [
        *_to_worker(subjects),
        *_faces(subjects, "session.*.run", "event.>", "session.*.event.>"),
        _root(subjects, "notice.>"),
        subjects.discover(),
        subjects.admin("decisions"),
    ]
    subscribe = [
        *_faces(subjects, "call.>", "session.*.call.>", "cancel.*", "event.>"),
        *_faces(subjects, "session.*.event.>"),
        subjects.heartbeats(),
        _root(subjects, "notice.>"),
    ]
    return publish, subscribe


def _native(subjects: Subjects) -> tuple[list[str], list[str]]:
    publish = _faces(subjects, "event.>", "session.*.event.>")
    return publish, _faces(subjects, "native.>", "pool.native.run", "cancel.*")


def _worker(subjects: Subjects) -> tuple[list[str], list[str]]:
    told = ("event.>", "session.*.event.>", "record.>", "session.*.log", "tool.>")
    publish = [
        *_faces(subjects, *told, "call.>", "session.*.run", "native.>"),
        *(_root(subjects, one) for one in ("mcp.*.*", "job.*.*", "dead.*")),
        _root(subjects, "notice.>"),
        subjects.discover(),
        subjects.replayed(),
    ]
    served = ("pool.*.run", "session.*.run", "cancel.*", "event.>", "native.>")
    subscribe = [
        *_faces(subjects, *served, "session.*.event.>", "session.*.log"),
        subjects.mcp_tools(),
        subjects.heartbeats(),
        _root(subjects, "notice.>"),
    ]
    return publish, subscribe


def _state(subjects: Subjects) -> tuple[list[str], list[str]]:
    publish, subscribe = _worker(subjects)
    own = [_root(subjects, "later.*.*"), _SERVICES]
    return [*publish, *_faces(subjects, "cancel.*"), *own], [
        *subscribe,
        f"$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.{Names(subjects.prefix).jobs}.*",
    ]


def _supervisor(subjects: Subjects) -> tuple[list[str], list[str]]:
    """Its workers connect as it does."""
    return _worker(subjects)


def _replay(subjects: Subjects) -> tuple[list[str], list[str]]:
    """A replay runs all programs, each time under a new prefix."""
    everything = [f"*.{VERSION}.>", _SERVICES]
    return everything, everything


_OWN = {
    "router": _router,
    "native": _native,
    "worker": _worker,
    "state": _state,
    "supervisor": _supervisor,
    "replay": _replay,
}


def _to_worker(subjects: Subjects) -> list[str]:
    told = (subjects.worker_run, subjects.worker_ping, subjects.worker_stop)
    return [subject(_ANY) for subject in told]


def _to_process(subjects: Subjects) -> list[str]:
    """What comes to every program: each has an id that only it knows beforehand."""
    return [*_to_worker(subjects), subjects.discover(), subjects.admin(">")]


def _root(subjects: Subjects, family: str) -> str:
    return subjects.of(DEFAULT_TENANT).admin("").removesuffix("admin.") + family


def _faces(subjects: Subjects, *families: str) -> list[str]:
    """Families that clients see, of all tenants."""
    return [
        _root(subjects, f"{tenant}{family}")
        for family in families
        for tenant in ("", "tenant.*.")
    ]
