"""Datasets that a request names, in place of examples that it brings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from dspex.contracts.failures import BusUnavailable, Failure
from dspex.contracts.versions import read_reference

if TYPE_CHECKING:
    from dspex.bus.audiences import Audience
    from dspex.bus.calling import Operations
    from dspex.services.worker.learning import Learning

FIELDS = ("dataset", "trainset", "valset")


async def with_examples(
    asked: Learning, operations: Operations | None, audience: Audience
) -> tuple[Learning, dict[str, str]]:
    """A request with the examples of the datasets it names.

    Args:
        asked: What was asked.
        operations: Asks for them.
        audience: Of the request; its tenant asks.

    Returns:
        Beside it, for each field, which version that was.

    Raises:
        Failure: There is none, or it cannot be had; ``field`` names it.
    """
    found: dict[str, Any] = {}
    used: dict[str, str] = {}
    for path in FIELDS:
        text = getattr(asked, path, None)
        if not isinstance(text, str):
            continue
        name, version = read_reference(text, path, "dataset")
        body = {"name": name} | ({"version": version} if version else {})
        try:
            if operations is None:
                raise BusUnavailable("Nothing that is stored can be read here.")
            stored = await operations.call("dataset.get", body, audience)
        except Failure as failure:
            failure.field = path
            raise
        found[path] = stored["dataset"]
        used[path] = f"{name}@{stored['version']}"
    return replace(asked, **found), used
