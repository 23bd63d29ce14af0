"""Tensors and tables over NATS: a program in Python takes arrays and gives them."""

from __future__ import annotations

from base64 import b64decode, b64encode
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pytest
import safetensors.numpy
from tests.support.stack import Program, Stack

from dspex.client import Client
from dspex.client.arrays import packed, unpacked

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.asking import Asker

    from dspex.bus.connection import NatsBus

pytestmark = [pytest.mark.nats, pytest.mark.dspy]

MODULE = """
import dspy
import numpy
import pyarrow


class Sums(dspy.Module):
    async def aforward(self, matrix, named, table, wave):
        assert isinstance(matrix, numpy.ndarray)
        assert isinstance(table, pyarrow.Table)
        return dspy.Prediction(
            doubled=matrix * 2,
            total=matrix.sum(),
            named={name: array.T for name, array in named.items()},
            table=table.append_column("twice", pyarrow.array([2, 4])),
            wave=wave,
        )
"""
MATRIX = np.arange(6, dtype="f4").reshape(2, 3)
NAMED = {"eye": np.array([[1, 2], [3, 4]], "f2")}
TABLE = pa.table({"n": [1, 2]})
WAVE = np.linspace(0, 1, 1 << 20)
"""8 MiB, far more than a message holds."""


def tag(name: str, data: bytes, **more: Any) -> dict[str, Any]:
    return {"$t": name, "data": b64encode(data).decode()} | more


def tensor(array: Any, dtype: str) -> dict[str, Any]:
    return tag("tensor", array.tobytes(), dtype=dtype, shape=list(array.shape))


def table_bytes(table: Any) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    found: bytes = sink.getvalue().to_pybytes()
    return found


def arrow_tensor(array: Any) -> bytes:
    sink = pa.BufferOutputStream()
    pa.ipc.write_tensor(pa.Tensor.from_numpy(array), sink)
    found: bytes = sink.getvalue().to_pybytes()
    return found


def array_of(value: dict[str, Any], kind: str) -> Any:
    assert value["$t"] == "tensor"
    return np.frombuffer(b64decode(value["data"]), kind).reshape(value["shape"])


@pytest.fixture(name="sums")
async def _sums(own: Stack, bus: NatsBus, tmp_path: Path) -> Client:
    """A client of workers that have the program."""
    (tmp_path / "summing.py").write_text(MODULE)
    config = tmp_path / "dspex.toml"
    config.write_text('[programs.sums]\npath = "summing:Sums"\n')
    environ = {"DSPEX_CONFIG": str(config), "PYTHONPATH": str(tmp_path)}
    await own.start(
        Program("dspex.router"),
        Program("dspex.services.state", environ=environ),
        Program("dspex.services.worker", "--pool", "light", environ=environ),
    )
    await own.ready(workers=1, native=0, state=1)
    return Client(bus, own.subjects)


async def test_there_and_back(sums: Client, ask: Asker) -> None:
    """Arrays, files of them and tables are what they say in the program, and come back
    as such; what is none is refused with its path."""
    inputs = {
        "matrix": tensor(MATRIX, "F32"),
        "named": tag("safetensors", safetensors.numpy.save(NAMED)),
        "table": tag("arrow", table_bytes(TABLE)),
        "wave": tag("arrow_tensor", arrow_tensor(WAVE)),
    }

    found = await sums.call("run", {"program": "sums", "inputs": inputs})
    wrong = inputs | {
        "wave": None,
        "matrix": inputs["matrix"] | {"shape": [7]},
    }
    refused = await ask.ask("run", {"program": "sums", "inputs": wrong})
    body = {"matrix": MATRIX, "named": NAMED, "table": TABLE, "wave": [WAVE[:2]]}
    again = await sums.call("run", {"program": "sums", "inputs": packed(body)})
    outputs = unpacked(again.outputs)
    same = {name: name for name in body}
    steps = [
        {"program": "sums", "inputs": same, "outputs": {"doubled": "twice"}},
        {"program": "sums", "inputs": same | {"matrix": "twice"}},
    ]
    chain = {"program": {"module": "chain", "steps": steps}, "inputs": packed(body)}
    chained = await sums.call("run", chain)

    assert (array_of(found.doubled, "<f4") == MATRIX * 2).all()
    assert found.total == 15.0
    assert (array_of(found.named["eye"], "<f2") == NAMED["eye"].T).all()
    table = pa.ipc.open_stream(b64decode(found.table["data"])).read_all()
    assert table.to_pydict() == {"n": [1, 2], "twice": [2, 4]}
    assert array_of(found.wave, "<f8").tobytes() == WAVE.tobytes()
    assert (outputs["doubled"] == MATRIX * 2).all()
    assert (unpacked(chained.outputs)["doubled"] == MATRIX * 4).all()
    assert outputs["table"].equals(table)
    assert outputs["wave"][0].tolist() == WAVE[:2].tolist()
    assert refused.code == "invalid_inputs"
    assert refused.body["field"] == "inputs.matrix.data"
