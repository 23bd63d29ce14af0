"""What each kind of user of a NATS server may publish and subscribe to.

Pure: made from the subject table, told as the configuration of a nats-server. Programs
answer to inboxes by name and never by ``allow_responses``: a client could aim that at
the server's own API.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from msgspec import Struct

from dspex.bus.core import INBOX
from dspex.bus.provisioning import Names
from dspex.contracts.subjects import (
    DEFAULT_TENANT,
    NATIVE_QUEUE,
    REPLAY_POOL,
    ROUTER_QUEUE,
    STATE_POOL,
    SUPERVISOR_POOL,
    Subjects,
)

if TYPE_CHECKING:
    from collections.abc import Callable

CLIENTS = ("client", "functions")
"""Roles that belong to a tenant: who asks, and who also offers functions."""

PROGRAMS = ("router", "native", "state", "worker", "supervisor", "replay")
"""Roles of the programs, by the pool of their heartbeats but for workers."""

ROLES = (*CLIENTS, *PROGRAMS, "operator")

CLIENTS_INBOX = f"{INBOX}.client"
"""First tokens of the inboxes that are clients' alone, unless they are given others."""

_ANY = "*"
_WORKERS = ("worker", "supervisor")
_INBOXES = f"{INBOX}.>"
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


def permissions(
    role: str, subjects: Subjects, inbox: str = CLIENTS_INBOX
) -> Permissions:
    """The rights that a role needs, and no others.

    Args:
        role: One of ``ROLES``.
        subjects: The prefix, and for clients the tenant.
        inbox: For clients: first tokens of the inboxes that are theirs alone.
    """
    if role in CLIENTS:
        return _client(role, subjects, inbox)
    if role == "operator":
        everything = [subjects.everything(), *_STORES, _SERVICES, _INBOXES]
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


def configuration(subjects: Subjects, inbox: str = CLIENTS_INBOX) -> str:
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
        _pool_runs(subjects),
        subjects.cancels(),
        f"$O.{Names(subjects.prefix).blobs}.>",
        f"$JS.API.STREAM.INFO.{blobs}",
        f"$JS.API.DIRECT.GET.{blobs}",
        f"$JS.API.DIRECT.GET.{blobs}.>",
    ]
    subscribe = [
        _events(subjects),
        _session_events(subjects),
        f"{inbox}.>",
    ]
    if role == "functions":
        publish.append(_INBOXES)
        subscribe += [subjects.tools(), _SERVICES]
    return Permissions(publish=publish, subscribe=subscribe)


def _router(subjects: Subjects) -> tuple[list[str], list[str]]:
    publish = [
        *_to_worker(subjects),
        *_faces(subjects, _turns_run, _events, _session_events),
        subjects.notice(">"),
        subjects.discover(),
        subjects.admin("decisions"),
    ]
    asked = (Subjects.calls, Subjects.session_calls, Subjects.cancels)
    subscribe = [
        *_faces(subjects, *asked, _events, _session_events),
        subjects.heartbeats(),
        subjects.notice(">"),
    ]
    return publish, subscribe


def _native(subjects: Subjects) -> tuple[list[str], list[str]]:
    def run(one: Subjects) -> str:
        return one.pool_run(NATIVE_QUEUE)

    publish = _faces(subjects, _events, _session_events)
    return publish, _faces(subjects, Subjects.natives, run, Subjects.cancels)


def _worker(subjects: Subjects) -> tuple[list[str], list[str]]:
    told = (_events, _session_events, _records, Subjects.session_logs, Subjects.tools)
    publish = [
        *_faces(subjects, *told, Subjects.calls, _turns_run, Subjects.natives),
        subjects.mcp_tools(),
        subjects.job(_ANY, _ANY),
        subjects.dead(_ANY),
        subjects.notice(">"),
        subjects.discover(),
        subjects.replayed(),
    ]
    asked = (_pool_runs, _turns_run, Subjects.cancels, Subjects.natives)
    heard = (_events, _session_events, Subjects.session_logs)
    subscribe = [
        *_faces(subjects, *asked, *heard),
        subjects.mcp_tools(),
        subjects.heartbeats(),
        subjects.notice(">"),
    ]
    return publish, subscribe


def _state(subjects: Subjects) -> tuple[list[str], list[str]]:
    publish, subscribe = _worker(subjects)
    own = [subjects.later_job(_ANY, _ANY), _SERVICES]
    return [*publish, *_faces(subjects, Subjects.cancels), *own], [
        *subscribe,
        f"$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.{Names(subjects.prefix).jobs}.*",
    ]


def _supervisor(subjects: Subjects) -> tuple[list[str], list[str]]:
    """Its workers connect as it does."""
    return _worker(subjects)


def _replay(_: Subjects) -> tuple[list[str], list[str]]:
    """A replay runs all programs, each time under a new prefix."""
    everything = [Subjects(_ANY).everything(), _SERVICES]
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


def _faces(subjects: Subjects, *families: Callable[[Subjects], str]) -> list[str]:
    """Families that clients see, of all tenants."""
    tenants = (subjects.of(DEFAULT_TENANT), subjects.of(_ANY))
    return [family(one) for family in families for one in tenants]


def _events(subjects: Subjects) -> str:
    return subjects.event(_ANY, _ANY)


def _session_events(subjects: Subjects) -> str:
    return subjects.session_event(_ANY, _ANY, _ANY)


def _records(subjects: Subjects) -> str:
    return subjects.record(_ANY, _ANY)


def _turns_run(subjects: Subjects) -> str:
    return subjects.session_run(_ANY)


def _pool_runs(subjects: Subjects) -> str:
    return subjects.pool_run(_ANY)
