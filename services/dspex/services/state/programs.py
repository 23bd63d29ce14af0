"""Stored programs: put, get, list, describe, delete; and which tools are offered."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec.structs import replace

from dspex.bus.clock import now_ms
from dspex.bus.discovering import services
from dspex.bus.provisioning import Names
from dspex.contracts import encoding
from dspex.contracts.failures import BadRequest, Conflict
from dspex.contracts.headers import TOOL
from dspex.contracts.program_requests import (
    DeletedProgram,
    OfferedTool,
    ProgramList,
    StoredProgram,
    StoredRecord,
    StoredVersion,
    ToolList,
)
from dspex.contracts.program_specs import MAX_BYTES, MAX_PARTS, Specification
from dspex.contracts.subjects import covers
from dspex.native.programs.describing import describe
from dspex.native.programs.nodes import read_reference, references
from dspex.native.programs.pinning import pinned
from dspex.native.programs.planning import plan
from dspex.services.state.answers import outcome, tenant_of
from dspex.services.state.versions import Versions

if TYPE_CHECKING:
    from dspex.bus.connection import NatsBus
    from dspex.bus.events import Events
    from dspex.bus.program import Context
    from dspex.bus.running import Outcome
    from dspex.contracts import program_requests as requests
    from dspex.contracts.program_specs import Program
    from dspex.services.state.answers import Operation


class Programs:
    """The stored programs.

    Args:
        bus: Where they are.
        prefix: First token of every subject.
        own: Programs that the workers' configuration names.
    """

    def __init__(self, bus: NatsBus, prefix: str, own: frozenset[str]) -> None:
        self._bus = bus
        self._stored = Versions(bus, Names(prefix).programs, StoredRecord, "program")
        self._own = own

    async def put(self, body: requests.PutProgram, events: Events) -> Outcome:
        """Store a new version."""
        tenant = tenant_of(events)
        if body.name in self._own:
            raise Conflict(
                f"{body.name!r} is a program of the workers' configuration.",
                hint="Take another name.",
                field="name",
            )
        specification = pinned(
            body.specification, await self._newest(tenant, body.specification)
        )
        plan(specification, (await self._all(tenant, specification)).get)
        last, sequence = await self._stored.last(tenant, body.name)
        self._stored.expect(body.name, body.expected_version, last)
        record = _record(body, specification, self._stored.next(last, sequence))
        data = encoding.encode(record)
        if len(data) > min(MAX_BYTES, self._bus.max_payload - 1024):
            raise BadRequest(
                f"The specification has {len(data)} bytes; at most {MAX_BYTES} are "
                "stored.",
                field="specification",
                hint="Store parts of it as programs of their own, or fewer demos.",
            )
        await self._stored.put(tenant, body.name, data, sequence)
        return outcome(_stored(body.name, record))

    async def get(self, body: requests.GetProgram, events: Events) -> Outcome:
        """Say what a version is."""
        record = await self._stored.find(tenant_of(events), body.name, body.version)
        return outcome(_stored(body.name, record))

    async def list(self, body: requests.ListPrograms, events: Events) -> Outcome:
        """Say which there are."""
        found, more = await self._stored.page(tenant_of(events), body.after, body.limit)
        programs = [_version(name, record) for name, record in found]
        return outcome(ProgramList(programs=programs, more=more))

    async def delete(self, body: requests.DeleteProgram, events: Events) -> Outcome:
        """Delete one; its numbers are not given again."""
        last = await self._stored.delete(
            tenant_of(events), body.name, body.expected_version
        )
        return outcome(DeletedProgram(name=body.name, version=last.version))

    async def describe(self, body: requests.DescribeProgram, events: Events) -> Outcome:
        """Say what a program takes and gives."""
        tenant = tenant_of(events)
        node = plan(body.program, (await self._all(tenant, body.program)).get)
        if isinstance(body.program, str) and body.program not in self._own:
            name, version = read_reference(body.program)
            record = await self._stored.find(tenant, name, version)
            return outcome(describe(node, name, record.version))
        return outcome(describe(node))

    async def looked_up(self, tenant: str, program: Program | None) -> Program | None:
        """A program as it is now; those that a configuration names stay names.

        Raises:
            Failure: It is not there, or not sound.
        """
        if program is None:
            return None
        named = await self._all(tenant, program)
        plan(program, named.get)
        return named.get(program, program) if isinstance(program, str) else program

    async def tools(self, body: requests.ListTools, events: Events) -> Outcome:
        """Say which tools are offered to this tenant."""
        subjects = events.audience.subjects
        found: dict[str, OfferedTool] = {}
        for said in await services(self._bus, body.wait_s):
            for tool in _offered(said):
                if covers(subjects.mcp_tools(), tool.subject):
                    server, name = tool.subject.split(".")[-2:]
                    tool = replace(tool, mcp=f"mcp:{server}/{name}")
                elif not covers(subjects.tools(), tool.subject):
                    continue
                before = found.get(tool.subject)
                instances = before.instances + 1 if before else 1
                found[tool.subject] = replace(tool, instances=instances)
        tools = sorted(found.values(), key=lambda one: (one.name, one.subject))
        return outcome(ToolList(tools=tools))

    async def _all(self, tenant: str, program: Program) -> dict[str, Specification]:
        """All stored programs that a program names, and that those name."""
        found: dict[str, Specification] = {}
        waiting = references(program)
        while waiting and len(found) <= MAX_PARTS:
            text = waiting.pop()
            if text in found or text in self._own:
                continue
            name, version = read_reference(text)
            record = await self._stored.find(tenant, name, version)
            found[text] = encoding.read(record.specification, Specification)
            waiting += references(found[text])
        return found

    async def _newest(self, tenant: str, program: Program) -> dict[str, int]:
        """The versions that programs named without one have now."""
        found: dict[str, int] = {}
        for text in references(program):
            name, version = read_reference(text)
            if version is None and name not in self._own:
                found[name] = (await self._stored.find(tenant, name)).version
        return found


def stored(context: Context) -> Programs:
    """The stored programs under a configuration's prefix."""
    configuration = context.configuration
    own = frozenset(configuration.programs)
    return Programs(context.bus, configuration.prefix, own)


def operations(programs: Programs) -> dict[str, Operation]:
    """What answers the operations on programs and tools."""
    return {
        "program.put": programs.put,
        "program.get": programs.get,
        "program.list": programs.list,
        "program.describe": programs.describe,
        "program.delete": programs.delete,
        "tool.list": programs.tools,
    }


def _record(
    body: requests.PutProgram,
    specification: Specification,
    place: tuple[int, dict[str, int]],
) -> StoredRecord:
    plain = msgspec.to_builtins(specification)
    encoded = msgspec.json.encode(plain, order="deterministic")
    version, earlier = place
    return StoredRecord(
        version=version,
        at=now_ms(),
        digest=hashlib.sha256(encoded).hexdigest(),
        specification=plain,
        note=body.note,
        score=body.score,
        sequences=earlier,
    )


def _stored(name: str, record: StoredRecord) -> StoredProgram:
    versions = [*map(int, record.sequences), record.version]
    return StoredProgram(
        **msgspec.structs.asdict(_version(name, record)),
        specification=record.specification or {},
        versions=versions,
    )


def _version(name: str, record: StoredRecord) -> StoredVersion:
    return StoredVersion(
        name=name,
        version=record.version,
        at=record.at,
        digest=record.digest,
        module=str((record.specification or {}).get("module", "")),
        note=record.note,
        score=record.score,
    )


def _offered(said: dict[str, Any]) -> list[OfferedTool]:
    """The tools that a service says it offers; what it says wrongly is left out."""
    found = []
    endpoints = said.get("endpoints")
    for one in endpoints if isinstance(endpoints, list) else ():
        try:
            declared = msgspec.json.decode(one["metadata"][TOOL])
            tool = {"subject": one["subject"], "service": said["name"], **declared}
            found.append(msgspec.convert(tool, OfferedTool))
        except (LookupError, TypeError, msgspec.MsgspecError):
            continue
    return found
