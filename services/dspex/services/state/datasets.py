"""Stored datasets: put, get, list, delete."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import msgspec

from dspex.bus.clock import now_ms
from dspex.bus.provisioning import Names
from dspex.bus.stores import Blobs
from dspex.contracts import encoding
from dspex.contracts.dataset_requests import (
    DatasetList,
    DatasetRecord,
    DatasetVersion,
    DeletedDataset,
    StoredDataset,
)
from dspex.contracts.failures import Conflict, NotFound
from dspex.services.state.answers import outcome, tenant_of
from dspex.services.state.versions import KEPT, Versions

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dspex.bus.connection import NatsBus
    from dspex.bus.events import Events
    from dspex.bus.running import Outcome
    from dspex.contracts import dataset_requests as requests
    from dspex.services.state.answers import Operation

_LINES: msgspec.json.Decoder[dict[str, Any]] = msgspec.json.Decoder(dict[str, Any])


class Datasets:
    """The stored datasets: their examples are objects, their versions records.

    Args:
        bus: Where they are.
        prefix: First token of every subject.
    """

    def __init__(self, bus: NatsBus, prefix: str) -> None:
        bucket = Names(prefix).datasets
        self._stored = Versions(bus, bucket, DatasetRecord, "dataset")
        self._examples = Blobs(bus, bucket)

    async def put(self, body: requests.PutDataset, events: Events) -> Outcome:
        """Store a new version."""
        tenant = tenant_of(events)
        last, sequence = await self._stored.last(tenant, body.name)
        self._stored.expect(body.name, body.expected_version, last)
        version, earlier = self._stored.next(last, sequence)
        data = msgspec.json.Encoder().encode_lines(body.dataset)
        # A name of its own: of two puts at the same moment only one is told of.
        blob = f"{tenant}.{body.name}.{version}.{events.audience.request}"
        record = DatasetRecord(
            version=version,
            at=now_ms(),
            digest=hashlib.sha256(data).hexdigest(),
            note=body.note,
            sequences=earlier,
            blob=blob,
            count=len(body.dataset),
            bytes=len(data),
            fields=sorted({name for one in body.dataset for name in one}),
        )
        await self._examples.put(blob, data)
        try:
            await self._stored.put(tenant, body.name, encoding.encode(record), sequence)
        except Conflict:
            await self._examples.delete(blob)
            raise
        if last is not None and len(last.sequences) == KEPT:
            await self._forget(tenant, body.name, last, [min(map(int, last.sequences))])
        return outcome(_stored(body.name, record))

    async def get(self, body: requests.GetDataset, events: Events) -> Outcome:
        """Say what a version is, with its examples."""
        record = await self._stored.find(tenant_of(events), body.name, body.version)
        examples: list[dict[str, Any]] | None = None
        if body.limit:
            lines = _LINES.decode_lines(await self._examples.get(record.blob))
            examples = lines[body.after : body.after + body.limit]
        return outcome(_stored(body.name, record, examples))

    async def list(self, body: requests.ListDatasets, events: Events) -> Outcome:
        """Say which there are."""
        found, more = await self._stored.page(tenant_of(events), body.after, body.limit)
        datasets = [_version(name, record) for name, record in found]
        return outcome(DatasetList(datasets=datasets, more=more))

    async def delete(self, body: requests.DeleteDataset, events: Events) -> Outcome:
        """Delete one with its examples."""
        tenant = tenant_of(events)
        last = await self._stored.delete(tenant, body.name, body.expected_version)
        await self._forget(tenant, body.name, last, map(int, last.sequences))
        await self._examples.delete(last.blob)
        return outcome(DeletedDataset(name=body.name, version=last.version))

    async def _forget(
        self, tenant: str, name: str, last: DatasetRecord, versions: Iterable[int]
    ) -> None:
        """Take away the examples of versions before the last."""
        for version in versions:
            try:
                older = await self._stored.before(tenant, name, last, version)
            except NotFound:
                continue  # it left the history before
            await self._examples.delete(older.blob)


def operations(datasets: Datasets) -> dict[str, Operation]:
    """What answers the operations on datasets."""
    return {
        "dataset.put": datasets.put,
        "dataset.get": datasets.get,
        "dataset.list": datasets.list,
        "dataset.delete": datasets.delete,
    }


def _stored(
    name: str, record: DatasetRecord, examples: list[dict[str, Any]] | None = None
) -> StoredDataset:
    return StoredDataset(
        **msgspec.structs.asdict(_version(name, record)),
        versions=[*map(int, record.sequences), record.version],
        dataset=examples,
    )


def _version(name: str, record: DatasetRecord) -> DatasetVersion:
    return DatasetVersion(
        name=name,
        version=record.version,
        at=record.at,
        digest=record.digest,
        count=record.count,
        bytes=record.bytes,
        fields=record.fields,
        note=record.note,
    )
