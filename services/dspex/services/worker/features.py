"""What this worker lacks of all that requests may need, for its heartbeats."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

import dspy

from dspex.contracts.features import MCP
from dspex.services.worker.mcp_servers import installed
from dspex.services.worker.modules import CODE
from dspex.services.worker.optimizers import missing

if TYPE_CHECKING:
    from dspex.services.worker.interpreters import Interpreters


def lacking(interpreters: Interpreters | None) -> list[str]:
    """The features that requests for them would be refused for.

    Args:
        interpreters: Makes what runs code that models write, if there is such.
    """
    found = [
        f"module:{module}"
        for module, cls in CODE.items()
        if interpreters is None or not hasattr(dspy, cls)
    ]
    if importlib.util.find_spec("numpy") is None:
        found += ["module:knn", "module:knn_few_shot"]
    if not installed():
        found.append(MCP)
    if not hasattr(dspy, "XMLAdapter"):
        found.append("adapter:xml")
    return sorted([*found, *(f"optimizer:{name}" for name in missing())])
