"""A program as a tree of checked parts."""

from __future__ import annotations

import dataclasses
import hashlib
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from dspex.contracts import gpu_memory, versions
from dspex.contracts.program_parts import children

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from dspex.contracts.program_functions import Tool
    from dspex.contracts.program_specs import Program, Specification
    from dspex.contracts.program_states import PredictorState
    from dspex.contracts.versions import Reference
    from dspex.native.signatures.compiling import Compiled, Slot

    Face = dict[str, "Slot | None"]
    """Names of values, with their fields where these are known."""


class Part(NamedTuple):
    """A node as a part of another.

    Attributes:
        node: The part.
        inputs: For an input of it, its name in the whole, where that is another.
        outputs: For an output of it, its name in the whole, where that is another.
    """

    node: Node
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]

    @property
    def gives(self) -> Face:
        """Its outputs as the whole calls them."""
        return {self.outputs.get(n, n): slot for n, slot in self.node.gives.items()}


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Node:
    """One specification of a program, checked.

    Attributes:
        spec: As it was given.
        path: Where in the program; empty for the whole.
        needs: The inputs it takes.
        required: Those it cannot do without.
        gives: The outputs it is known to give.
        compiled: Its signature, if it has one.
        parts: What it is composed of.
        states: What was learned, by the names of predictors.
        open: What it takes and gives is not known here: a stored program that was
            not looked up, or one written in Python.
        reference: The name under which it was looked up; empty: it was given.
    """

    spec: Specification | None
    path: str
    needs: Face
    required: frozenset[str]
    gives: Face
    compiled: Compiled | None = None
    parts: tuple[Part, ...] = ()
    states: Mapping[str, PredictorState] = dataclasses.field(default_factory=dict)
    open: bool = False
    reference: str = ""

    def __deepcopy__(self, memo: object) -> Node:
        return self  # DSPy copies programs; what they are made from stays

    @property
    def module(self) -> str:
        """Which module or composition it is; empty for one not looked up."""
        return str(self.spec.__struct_config__.tag) if self.spec is not None else ""

    @property
    def gpu_memory_mib(self) -> int:
        """What a run of it needs, as far as it was looked up."""
        if self.spec is None:
            return 0
        parts = [part.node.gpu_memory_mib for part in self.parts]
        return gpu_memory.of_specification(self.spec, parts)

    def walk(self) -> Iterator[Node]:
        """It and all in it."""
        yield self
        for part in self.parts:
            yield from part.node.walk()

    def digest(self) -> str:
        """SHA-256 of what an instance is made from, in hexadecimal."""
        said = (self.spec, [part.node.digest() for part in self.parts])
        encoded = msgspec.msgpack.encode(said, order="deterministic")
        return hashlib.sha256(encoded).hexdigest()


def read_reference(text: str, path: str = "program") -> Reference:
    """Read ``name`` or ``name@version``.

    Raises:
        BadRequest: It is neither.
    """
    return versions.read_reference(text, path, "program")


def below(path: str, inner: str) -> str:
    """The path of a part, such as ``steps[0]`` of ``program``."""
    if not path or inner.startswith("["):
        return f"{path}{inner}"
    return f"{path}.{inner}"


def references(program: Program) -> list[str]:
    """The stored programs that a program names itself, each once."""
    found: dict[str, None] = {}
    waiting: list[Program] = [program]
    while waiting:
        one = waiting.pop()
        if isinstance(one, str):
            found[one] = None
        else:
            waiting += [inner for _, inner in children(one)]
    return list(found)


def tools_of(spec: Any) -> list[Tool | str]:
    """The tools of one specification; those of MCP servers are names."""
    found: list[Tool | str] = getattr(spec, "tools", [])
    return found


def read_mcp_tool(text: str) -> tuple[str, str]:
    """Take ``mcp:<server>/<tool>`` apart, which the contract has checked."""
    server, _, tool = text.removeprefix("mcp:").partition("/")
    return server, tool


def remotes_of(spec: Any) -> list[tuple[str, str]]:
    """The subjects that one specification names, with their paths in it."""
    found: list[tuple[str, str]] = [
        (f"tools[{index}].subject", tool.subject)
        for index, tool in enumerate(tools_of(spec))
        if not isinstance(tool, str)
    ]
    for name in ("reward", "vectorizer", "metric"):
        subject = getattr(getattr(spec, name, None), "subject", None)
        if subject is not None:
            found.append((f"{name}.subject", subject))
    return found
