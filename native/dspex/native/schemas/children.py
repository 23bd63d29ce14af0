"""Keywords that apply other schemas to the properties and items of a value."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dspex.native.schemas.keywords import told
from dspex.native.schemas.nodes import Check, Descent, Node, Path

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dspex.native.schemas.leaves import Matcher
    from dspex.native.schemas.nodes import Run

Part = tuple[Node, Any, Path]


class Properties(Descent):
    """``properties``: a schema per name.

    Args:
        pointer: See `Check`.
        nodes: The schemas.
    """

    __slots__ = ("_nodes",)

    def __init__(self, pointer: str, nodes: dict[str, Node]) -> None:
        super().__init__("properties", pointer)
        self._nodes = nodes

    def parts(self, value: Any, run: Run) -> Iterator[Part]:
        """Yield the properties that are there."""
        if type(value) is not dict:
            return
        # Whichever is shorter leads: neither a small value nor a small schema
        # should pay for the size of the other.
        if len(value) < len(self._nodes):
            for name, part in value.items():
                if name in self._nodes:
                    yield self._nodes[name], part, (name,)
            return
        for name, node in self._nodes.items():
            if name in value:
                yield node, value[name], (name,)

    def accepts(self, value: Any, run: Run) -> bool:
        """Say whether all that are there are accepted."""
        if type(value) is not dict:
            return True
        run.spend(min(len(value), len(self._nodes)) >> 2)
        nodes = self._nodes
        if len(value) < len(nodes):
            return super().accepts(value, run)
        for name, node in nodes.items():
            if name in value and not node.accepts(value[name], run):
                return False
        return True

    def evaluated(self, value: Any, run: Run) -> set[Any]:
        """Return the names that it knows."""
        if type(value) is not dict:
            return set()
        run.spend(len(value))
        return {name for name in value if name in self._nodes}


class PatternProperties(Descent):
    """``patternProperties``: a schema per pattern of names."""

    __slots__ = ("_nodes",)

    def __init__(self, pointer: str, nodes: list[tuple[Matcher, Node]]) -> None:
        super().__init__("patternProperties", pointer)
        self._nodes = nodes

    def parts(self, value: Any, run: Run) -> Iterator[Part]:
        """Yield the properties whose names match, for each pattern that does."""
        if type(value) is not dict:
            return
        for name, part in value.items():
            for matcher, node in self._nodes:
                if matcher.search(name, run):
                    yield node, part, (name,)

    def evaluated(self, value: Any, run: Run) -> set[Any]:
        """Return the names that match."""
        return {steps[0] for _, _, steps in self.parts(value, run)}


class AdditionalProperties(Descent):
    """``additionalProperties``: a schema for what no other keyword beside it names.

    Args:
        pointer: See `Check`.
        node: The schema.
        names: Those that ``properties`` names.
        matchers: Those of ``patternProperties``.
    """

    __slots__ = ("_matchers", "_names", "_node")

    def __init__(
        self,
        pointer: str,
        node: Node,
        names: frozenset[str],
        matchers: list[Matcher],
    ) -> None:
        super().__init__("additionalProperties", pointer)
        self._node = node
        self._names = names
        self._matchers = matchers

    def parts(self, value: Any, run: Run) -> Iterator[Part]:
        """Yield the properties that nothing names."""
        if type(value) is not dict:
            return
        for name, part in value.items():
            if not self._is_named(name, run):
                yield self._node, part, (name,)

    def accepts(self, value: Any, run: Run) -> bool:
        """Say whether all the properties that nothing names are accepted."""
        if type(value) is not dict:
            return True
        run.spend(len(value) >> 4)
        return value.keys() <= self._names or super().accepts(value, run)

    def _is_named(self, name: str, run: Run) -> bool:
        run.spend(1)
        if name in self._names:
            return True
        return any(matcher.search(name, run) for matcher in self._matchers)

    def evaluated(self, value: Any, run: Run) -> set[Any]:
        """Return the names that nothing names."""
        return {steps[0] for _, _, steps in self.parts(value, run)}


class PropertyNames(Check):
    """``propertyNames``: a schema for the names themselves."""

    __slots__ = ("_node",)

    def __init__(self, pointer: str, node: Node) -> None:
        super().__init__("propertyNames", pointer)
        self._node = node

    def accepts(self, value: Any, run: Run) -> bool:
        """Say whether it is no object, or all of its names are accepted."""
        return type(value) is not dict or all(
            self._node.accepts(name, run) for name in value
        )

    def message(self, value: Any, run: Run) -> str:
        """Show the first name that is not allowed."""
        wrong = next(name for name in value if not self._node.accepts(name, run))
        return f"The name {told(wrong)} is not allowed."


class Items(Descent):
    """``items`` and the like: a schema for the items of an array.

    Args:
        keyword: See `Check`.
        pointer: See `Check`.
        node: The schema.
        start: The first index that it is for.
    """

    __slots__ = ("_node", "_start")

    def __init__(self, keyword: str, pointer: str, node: Node, start: int = 0) -> None:
        super().__init__(keyword, pointer)
        self._node = node
        self._start = start

    def parts(self, value: Any, run: Run) -> Iterator[Part]:
        """Yield the items."""
        if type(value) is list:
            for i in range(self._start, len(value)):
                yield self._node, value[i], (i,)

    def accepts(self, value: Any, run: Run) -> bool:
        """Say whether all the items are accepted."""
        if type(value) is not list:
            return True
        accepts = self._node.accepts
        for item in value[self._start :] if self._start else value:
            if not accepts(item, run):
                return False
        return True

    def evaluated(self, value: Any, run: Run) -> set[Any]:
        """Return the indices that it is for."""
        return _indices(value, run, self._start)


class PrefixItems(Descent):
    """``prefixItems``: a schema for each of the first items."""

    __slots__ = ("_nodes",)

    def __init__(self, keyword: str, pointer: str, nodes: list[Node]) -> None:
        super().__init__(keyword, pointer)
        self._nodes = nodes

    def parts(self, value: Any, run: Run) -> Iterator[Part]:
        """Yield the items that have a schema."""
        if type(value) is list:
            for i, (node, item) in enumerate(zip(self._nodes, value, strict=False)):
                yield node, item, (i,)

    def evaluated(self, value: Any, run: Run) -> set[Any]:
        """Return the indices that have a schema."""
        return _indices(value, run, 0, len(self._nodes))


class Contains(Check):
    """``contains``: how many items a schema accepts.

    Args:
        pointer: See `Check`.
        node: The schema.
        least: How many at least.
        most: How many at most, if there is a limit.
    """

    __slots__ = ("_least", "_most", "_node")

    def __init__(
        self, pointer: str, node: Node, least: float, most: float | None
    ) -> None:
        super().__init__("contains", pointer)
        self._node = node
        self._least = least
        self._most = most

    def accepts(self, value: Any, run: Run) -> bool:
        """Say whether it is no array, or so many items are accepted."""
        if type(value) is not list:
            return True
        found = 0
        for item in value:
            if self._node.accepts(item, run):
                found += 1
                if self._most is None and found >= self._least:
                    return True
                if self._most is not None and found > self._most:
                    return False
        return found >= self._least

    def message(self, value: Any, run: Run) -> str:
        """Say how many there should be."""
        limits = f"at least {self._least}"
        if self._most is not None:
            limits += f" and at most {self._most}"
        return f"Expected {limits} items that the schema accepts."

    def evaluated(self, value: Any, run: Run) -> set[Any]:
        """Return the indices of the items that the schema accepts."""
        if type(value) is not list:
            return set()
        return {i for i, item in enumerate(value) if self._node.accepts(item, run)}


def _indices(value: Any, run: Run, start: int, end: int | None = None) -> set[Any]:
    if type(value) is not list:
        return set()
    run.spend(len(value))
    return set(range(len(value))[start:end])
