"""Keywords that apply other schemas to the very same value."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dspex.native.schemas.keywords import listed, told
from dspex.native.schemas.nodes import Check, Descent, Node, Path

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from dspex.native.schemas.nodes import Run

Part = tuple[Node, Any, Path]
_HERE: Path = ()


class Unevaluated(Descent):
    """``unevaluatedProperties`` and ``unevaluatedItems``.

    Args:
        keyword: See `Check`.
        pointer: See `Check`.
        node: The schema for what is left.
        owner: The schema that the keyword stands in.
    """

    __slots__ = ("_kind", "_node", "_owner")

    def __init__(self, keyword: str, pointer: str, node: Node, owner: Node) -> None:
        super().__init__(keyword, pointer)
        self._kind = dict if keyword == "unevaluatedProperties" else list
        self._node = node
        self._owner = owner

    def parts(self, value: Any, run: Run) -> Iterator[Part]:
        """Yield what no other keyword of the schema has seen to."""
        if type(value) is not self._kind or not value:
            return
        seen: set[Any] = set()
        for check in self._owner.checks:
            if not isinstance(check, Unevaluated):
                seen |= check.evaluated(value, run)
        for step in value if self._kind is dict else range(len(value)):
            run.spend(1)
            if step not in seen:
                yield self._node, value[step], (step,)

    def evaluated(self, value: Any, run: Run) -> set[Any]:
        """Return all there is, for it sees to what the others left."""
        if type(value) is not self._kind:
            return set()
        run.spend(len(value))
        return set(value) if self._kind is dict else set(range(len(value)))


class InPlace(Descent):
    """``allOf``, ``dependentSchemas``: further schemas for the value.

    Args:
        keyword: See `Check`.
        pointer: See `Check`.
        nodes: The schemas; each with the name that an object must have for it to
            count, empty for always.
    """

    __slots__ = ("_nodes",)

    def __init__(
        self, keyword: str, pointer: str, nodes: list[tuple[str | None, Node]]
    ) -> None:
        super().__init__(keyword, pointer)
        self._nodes = nodes

    def parts(self, value: Any, run: Run) -> Iterator[Part]:
        """Yield the schemas that count."""
        for name, node in self._nodes:
            run.spend(1)
            if name is None or (type(value) is dict and name in value):
                yield node, value, _HERE

    def evaluated(self, value: Any, run: Run) -> set[Any]:
        """Return what the schemas have seen to."""
        return _united([node for node, _, _ in self.parts(value, run)], value, run)


class Ref(Descent):
    """``$ref``: another schema for the value.

    Args:
        pointer: See `Check`.
        node: The schema.
    """

    __slots__ = ("_node",)

    def __init__(self, pointer: str, node: Node) -> None:
        super().__init__("$ref", pointer)
        self._node = node

    def parts(self, value: Any, run: Run) -> Iterator[Part]:
        """Yield the schema."""
        yield self._node, value, _HERE

    def accepts(self, value: Any, run: Run) -> bool:
        """Say whether the schema accepts."""
        return self._node.accepts(value, run)

    def evaluated(self, value: Any, run: Run) -> set[Any]:
        """Return what the schema has seen to."""
        return self._node.evaluated(value, run)


class DynamicRef(Descent):
    """``$dynamicRef``: the outermost schema of a name, by the way one came.

    Args:
        pointer: See `Check`.
        node: The schema where no other one has the name.
        others: Schemas of that name, by their resource.
    """

    __slots__ = ("_node", "_others")

    def __init__(self, pointer: str, node: Node, others: Mapping[str, Node]) -> None:
        super().__init__("$dynamicRef", pointer)
        self._node = node
        self._others = others

    def parts(self, value: Any, run: Run) -> Iterator[Part]:
        """Yield that schema."""
        run.spend(1 + len(run.scope) // 4)
        found = (self._others[one] for one in run.scope if one in self._others)
        yield next(found, self._node), value, _HERE

    def evaluated(self, value: Any, run: Run) -> set[Any]:
        """Return what that schema has seen to."""
        return _united([node for node, _, _ in self.parts(value, run)], value, run)


class Conditional(Descent):
    """``if``, ``then`` and ``else``."""

    __slots__ = ("_if", "_otherwise", "_then")

    def __init__(
        self, pointer: str, condition: Node, then: Node | None, otherwise: Node | None
    ) -> None:
        super().__init__("if", pointer)
        self._if = condition
        self._then = then
        self._otherwise = otherwise

    def parts(self, value: Any, run: Run) -> Iterator[Part]:
        """Yield the schema that counts, if there is one."""
        node = self._then if self._if.accepts(value, run) else self._otherwise
        if node is not None:
            yield node, value, _HERE

    def evaluated(self, value: Any, run: Run) -> set[Any]:
        """Return what the condition and the schema that counts have seen to."""
        nodes = [self._if, *(node for node, _, _ in self.parts(value, run))]
        return _united(nodes, value, run)


class Choice(Check):
    """``anyOf``, ``oneOf`` and ``not``: how many of some schemas accept.

    Args:
        keyword: See `Check`.
        pointer: See `Check`.
        nodes: The schemas.
    """

    __slots__ = ("_counts", "_nodes")

    def __init__(self, keyword: str, pointer: str, nodes: list[Node]) -> None:
        super().__init__(keyword, pointer)
        self._nodes = nodes
        self._counts = _COUNTS[keyword]

    def accepts(self, value: Any, run: Run) -> bool:
        """Say whether the right number of them accepts."""
        return self._counts(value, self._nodes, run)

    def message(self, value: Any, run: Run) -> str:
        """Say how many should accept."""
        if self.keyword == "not":
            return f"What the schema accepts is not allowed: {told(value)}."
        if self.keyword == "anyOf":
            return f"None of the {len(self._nodes)} schemas accepts {told(value)}."
        places = [i for i, node in enumerate(self._nodes) if node.accepts(value, run)]
        if not places:
            return f"None of the {len(self._nodes)} schemas accepts {told(value)}."
        names = listed([str(place) for place in places]).replace(" or ", " and ")
        return f"Exactly one schema should accept {told(value)}, but {names} do."

    def evaluated(self, value: Any, run: Run) -> set[Any]:
        """Return what those that accept have seen to."""
        return set() if self.keyword == "not" else _united(self._nodes, value, run)


def _any_of(value: Any, nodes: list[Node], run: Run) -> bool:
    for node in nodes:  # noqa: SIM110 - a generator is one more frame per level
        if node.accepts(value, run):
            return True
    return False


def _one_of(value: Any, nodes: list[Node], run: Run) -> bool:
    found = 0
    for node in nodes:
        found += node.accepts(value, run)
        if found > 1:
            return False
    return found == 1


def _none_of(value: Any, nodes: list[Node], run: Run) -> bool:
    return not _any_of(value, nodes, run)


_COUNTS: dict[str, Callable[[Any, list[Node], Run], bool]] = {
    "anyOf": _any_of,
    "oneOf": _one_of,
    "not": _none_of,
}


def _united(nodes: list[Node], value: Any, run: Run) -> set[Any]:
    found: set[Any] = set()
    for node in nodes:
        found |= node.evaluated(value, run)
    return found
