"""What a replay has of stored programs and datasets, on a real server."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from dspex.bus.durable import ensure_stream
from dspex.bus.histories import Histories
from dspex.bus.journal import stored_at
from dspex.bus.provisioning import Names, declared
from dspex.bus.stores import Blobs
from dspex.contracts import encoding
from dspex.contracts.dataset_requests import DatasetRecord
from dspex.contracts.subjects import Subjects
from dspex.services.replay.stored import StoredBefore

if TYPE_CHECKING:
    from dspex.bus.connection import NatsBus

pytestmark = pytest.mark.nats


async def prefix_of(bus: NatsBus) -> str:
    """A prefix with the buckets of programs and datasets."""
    prefix = f"s{uuid4().hex[:8]}"
    names = Names(prefix)
    wanted = {f"KV_{names.programs}", f"KV_{names.datasets}", f"OBJ_{names.datasets}"}
    for config in declared(Subjects(prefix)):
        if config.name in wanted:
            await ensure_stream(bus, config)
    return prefix


async def put(bus: NatsBus, prefix: str, version: int, earlier: dict[str, int]) -> int:
    """Store a version of the dataset ``d`` as dspex-state does."""
    bucket = Names(prefix).datasets
    record = DatasetRecord(
        version=version,
        at=0.0,
        digest="x",
        blob=f"d.{version}",
        sequences=earlier,
        fields=[],
    )
    await Blobs(bus, bucket).put(record.blob, b"{}" * version)
    last = max(earlier.values(), default=0)
    data = encoding.encode(record)
    return await Histories(bus, bucket).put("default", "d", data, last)


async def test_datasets_as_of_a_time(bus: NatsBus) -> None:
    """A dataset is there in the versions it had then, with their examples, and says
    where those before it are now."""
    source, target = await prefix_of(bus), await prefix_of(bus)
    old = Histories(bus, Names(source).datasets)
    new = Histories(bus, Names(target).datasets)
    objects = Blobs(bus, Names(target).datasets)
    first = await put(bus, source, 1, {})
    second = await put(bus, source, 2, {"1": first})
    await Blobs(bus, Names(source).datasets).delete("d.1")
    await put(bus, source, 3, {"1": first, "2": second})
    before = StoredBefore(bus, source, target)
    await before.read()
    then = await bus.request(
        f"$JS.API.DIRECT.GET.KV_{Names(source).datasets}",
        encoding.encode({"seq": second}),
        timeout=20,
    )

    await before.put(stored_at(then))
    found = await new.last("default", "d")
    assert found is not None
    record = encoding.decode(found.data, DatasetRecord)
    assert record.version == 2
    assert (await new.at("default", "d", record.sequences["1"])).sequence == 1
    assert await objects.get("d.2") == b"{}{}"

    await before.put(float("inf"))
    newest = await new.last("default", "d")
    assert newest is not None
    assert encoding.decode(newest.data, DatasetRecord).version == 3
    assert await objects.get("d.3") == b"{}{}{}"
    assert await old.last("default", "d") is not None
