"""Where programs come from: the bucket of stored ones, and the configuration.

What a request names is looked up in these two, and nothing else. Only the worker's
configuration can make it import a module.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

import dspy
from cachetools import LRUCache

from dspex.contracts import encoding
from dspex.contracts.configuration import ConfigurationError
from dspex.contracts.failures import NotFound
from dspex.contracts.program_requests import StoredRecord
from dspex.contracts.program_specs import Specification
from dspex.native.programs.nodes import read_reference

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dspex.bus.histories import Histories
    from dspex.contracts.program_settings import OwnProgram

KEPT = 256
"""Versions kept ready; they never change."""


class StoredPrograms:
    """Looks stored programs up.

    What is newest is read each time, so that a worker runs a program as soon as it is
    put, and none that was deleted; the versions themselves never change.
    """

    def __init__(self, histories: Histories) -> None:
        self._histories = histories
        self._kept: LRUCache[tuple[str, str, int], Specification] = LRUCache(KEPT)

    async def find(self, tenant: str, reference: str) -> Specification:
        """The specification stored as ``name`` or ``name@version``.

        Raises:
            NotFound: There is none.
            BusUnavailable: It cannot be known.
        """
        name, version = read_reference(reference)
        last = await self._histories.last(tenant, name)
        if last is None or last.deleted:
            raise NotFound(
                f"There is no program {name!r}.",
                hint="program.list says which there are.",
                field="program",
            )
        newest: StoredRecord = encoding.decode(last.data, StoredRecord)
        wanted = version or newest.version
        found = self._kept.get((tenant, name, wanted))
        if found is None:
            record = newest
            if wanted != newest.version:
                record = await self._older(tenant, name, wanted, newest)
            found = encoding.read(record.specification, Specification)
            self._kept[tenant, name, wanted] = found
        return found

    async def _older(
        self, tenant: str, name: str, version: int, newest: StoredRecord
    ) -> StoredRecord:
        sequence = newest.sequences.get(str(version))
        if sequence is None:
            kept = ", ".join([*newest.sequences, str(newest.version)])
            raise NotFound(
                f"{name!r} has no version {version} that is kept. Kept: {kept}.",
                hint="Name one of these, or none for the newest.",
                field="program",
            )
        older = await self._histories.at(tenant, name, sequence)
        found: StoredRecord = encoding.decode(older.data, StoredRecord)
        return found


def load_own(configured: Mapping[str, OwnProgram]) -> dict[str, dspy.Module]:
    """Make the programs that the configuration names.

    Raises:
        ConfigurationError: One cannot be imported or made, or is no ``dspy.Module``.
    """
    return {name: _own(name, one.path) for name, one in configured.items()}


def _own(name: str, path: str) -> dspy.Module:
    module, _, attribute = path.partition(":")
    try:
        made = getattr(importlib.import_module(module), attribute)()
    except Exception as error:
        raise ConfigurationError(
            f"programs.{name}.path {path!r} cannot be loaded: "
            f"{type(error).__name__}: {error}"
        ) from error
    if not isinstance(made, dspy.Module):
        raise ConfigurationError(
            f"programs.{name}.path {path!r} makes a {type(made).__name__}, and must "
            "make a dspy.Module."
        )
    return made
