"""Bodies and outputs of the operations on datasets: examples with a name."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, Struct, field

from dspex.contracts.program_functions import Name
from dspex.contracts.requests import Body
from dspex.contracts.versions import Record, Version

Examples = Annotated[list[dict[str, Any]], Meta(min_length=1, max_length=100_000)]
DatasetName = Annotated[str, Meta(min_length=1, max_length=80)]
"""``name`` for the newest version of a dataset, ``name@3`` for that one."""


class PutDataset(Body, frozen=True, kw_only=True):
    """Store a new version of a dataset.

    Attributes:
        name: Of the dataset; letters, digits, ``_`` and ``-``.
        dataset: The examples; as an Arrow column of structs, ``example``.
        expected_version: Store it only if this is the newest version now; 0: only if
            there is none.
        note: For people.
    """

    name: Name
    dataset: Examples
    expected_version: Annotated[int, Meta(ge=0)] | None = None
    note: Annotated[str, Meta(max_length=1000)] = ""


class GetDataset(Body, frozen=True, kw_only=True):
    """Ask for a stored dataset.

    Attributes:
        name: Of the dataset.
        version: Which; default: the newest.
        after: Examples to leave out at the beginning.
        limit: Examples at most; 0: none, what is known of it alone.
    """

    name: Name
    version: Version | None = None
    after: Annotated[int, Meta(ge=0)] = 0
    limit: Annotated[int, Meta(ge=0, le=100_000)] = 100_000


class DeleteDataset(Body, frozen=True, kw_only=True):
    """Delete a dataset with its examples; its version numbers are not given again.

    Attributes:
        name: Of the dataset.
        expected_version: Delete it only if this is the newest version now.
    """

    name: Name
    expected_version: Version | None = None


class ListDatasets(Body, frozen=True, kw_only=True):
    """Ask which datasets there are.

    Attributes:
        after: Begin behind this name.
        limit: Datasets at most.
    """

    after: Annotated[str, Meta(max_length=64)] = ""
    limit: Annotated[int, Meta(ge=1, le=500)] = 100


class DatasetVersion(Struct, frozen=True, kw_only=True):
    """One version of a stored dataset.

    Attributes:
        name: Of the dataset.
        version: Its number: 1, 2, ...
        at: When it was stored, unix milliseconds.
        digest: SHA-256 of the examples as JSON lines, in hexadecimal.
        count: Examples.
        bytes: Size as JSON lines.
        fields: Names of the fields that examples have.
        note: For people.
    """

    name: str
    version: int
    at: float
    digest: str
    count: int
    bytes: int
    fields: list[str]
    note: str = ""


class StoredDataset(DatasetVersion, frozen=True, kw_only=True):
    """A stored dataset.

    Attributes:
        versions: The versions that are kept, oldest first.
        dataset: The examples that were asked for; as an Arrow column, ``example``.
    """

    versions: list[int]
    dataset: list[dict[str, Any]] | None = None


class DeletedDataset(Struct, frozen=True, kw_only=True):
    """A dataset that is gone.

    Attributes:
        name: Of the dataset.
        version: The newest version there was.
    """

    name: str
    version: int


class DatasetList(Struct, frozen=True, kw_only=True):
    """The datasets there are.

    Attributes:
        datasets: Their newest versions, by name.
        more: Whether there are more behind the last.
    """

    datasets: list[DatasetVersion]
    more: bool = False


class DatasetRecord(Record, frozen=True, kw_only=True):
    """What is stored of one version: a value of the bucket of datasets.

    Attributes:
        blob: Name of the object that holds the examples, as JSON lines.
        count: Examples.
        bytes: Size of the object.
        fields: Names of the fields that examples have.
    """

    blob: str = ""
    count: int = 0
    bytes: int = 0
    fields: list[str] = field(default_factory=list)
