"""One example of every operation on datasets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dspex.contracts.dataset_requests import (
    DeleteDataset,
    GetDataset,
    ListDatasets,
    PutDataset,
)

if TYPE_CHECKING:
    from dspex.contracts.requests import Body

_EXAMPLE = {"question": "What is the capital of Norway?", "answer": "Oslo"}
_VERSION = {
    "name": "capitals",
    "version": 3,
    "at": 1789000000000.0,
    "digest": "b0a0e0a8a43c8ab4a6a2a1d1a2c1e8f3d9d6f1b8d7a3a0c5e4f2b1a0c9d8e7f6",
    "count": 1,
    "bytes": 66,
    "fields": ["answer", "question"],
    "note": "Northern ones.",
}
_STORED = {**_VERSION, "versions": [1, 2, 3], "dataset": [_EXAMPLE]}

REQUESTS: dict[str, Body] = {
    "dataset.put": PutDataset(
        name="capitals",
        dataset=[_EXAMPLE],
        expected_version=2,
        note="Northern ones.",
    ),
    "dataset.get": GetDataset(name="capitals", version=3, limit=100),
    "dataset.list": ListDatasets(limit=10),
    "dataset.delete": DeleteDataset(name="capitals", expected_version=3),
}
"""The body of a request, by operation."""

OUTPUTS: dict[str, dict[str, Any]] = {
    "dataset.put": _STORED | {"dataset": None},
    "dataset.get": _STORED,
    "dataset.list": {"datasets": [_VERSION], "more": False},
    "dataset.delete": {"name": "capitals", "version": 3},
}
"""The outputs that answer the request of the same operation."""
