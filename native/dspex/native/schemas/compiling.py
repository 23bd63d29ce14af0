"""A schema made ready for checks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dspex.native.schemas.documents import Place, unsound
from dspex.native.schemas.leaves import Matcher, UnusablePattern, matcher
from dspex.native.schemas.makers import makers_of
from dspex.native.schemas.nodes import Check, Never, Node, Run, pointer

if TYPE_CHECKING:
    from dspex.native.schemas.documents import Document
    from dspex.native.schemas.nodes import Path

NODE_LIMIT = 5000
"""The most schemas in one schema that are made ready."""
PATTERN_SIZE_LIMIT = 2_000_000
"""The most that the patterns of one schema weigh together, bytes."""


class Compiler:
    """Makes one schema ready.

    Args:
        document: The schema.

    Attributes:
        size: What its patterns weigh, bytes.
        work: What may be done.
    """

    def __init__(self, document: Document) -> None:
        self.document = document
        self.size = 0
        self.work = Run()
        self._matchers: dict[str, Matcher] = {}
        self._nodes: dict[Path, Node] = {}
        self._todo: list[tuple[Node, Place]] = []

    def compile(self) -> Node:
        """Return the schema made ready.

        Raises:
            BadRequest: It cannot be used.
            Unsupported: It asks for what is not done here.
            dspex.native.work.TooMuch: It holds too large values.
            dspex.native.schemas.nodes.TooDeep: It holds too deep values.
        """
        first = Place((), "")
        root = self.node(self.document.child(first, ()))
        while self._todo:
            node, place = self._todo.pop()
            node.fill(tuple(self._checks(node, place)))
        return root

    def node(self, place: Place) -> Node:
        """Return the schema at a place, to be filled later."""
        found = self._nodes.get(place.path)
        if found is None:
            if len(self._nodes) >= NODE_LIMIT:
                raise unsound(f"it holds more than {NODE_LIMIT} schemas", ())
            found = Node(pointer(place.path), self.document.entered(place))
            self._nodes[place.path] = found
            self._todo.append((found, place))
        return found

    def matcher(self, text: str, path: Path) -> Matcher:
        """Return a pattern made ready.

        Raises:
            BadRequest: It cannot be used.
        """
        found = self._matchers.get(text)
        if found is None:
            try:
                found = self._matchers[text] = matcher(text)
            except UnusablePattern as error:
                raise unsound(f"the pattern cannot be used: {error}", path) from None
            self.size += found.size
            if self.size > PATTERN_SIZE_LIMIT:
                raise unsound("its patterns are too large together", path)
        return found

    def _checks(self, node: Node, place: Place) -> list[Check]:
        raw = self.document.at(place.path)
        if raw is True:
            return []
        if raw is False:
            return [Never(self._owner(place.path), pointer(place.path))]
        if self.document.dialect.is_old and "$ref" in raw:
            raw = {"$ref": raw["$ref"]}
        site = Site(self, node, place, raw)
        makers = makers_of(self.document.dialect)
        found = (makers[keyword](site, keyword) for keyword in raw if keyword in makers)
        return [check for check in found if check is not None]

    def _owner(self, path: Path) -> str:
        """Return the keyword that holds the schema at a path."""
        single = self.document.dialect.single
        if len(path) > 1 and path[-1] not in single:
            return str(path[-2])
        return str(path[-1]) if path else "false"


class Site:
    """A schema that is being made ready.

    Args:
        compiler: Who does it.
        node: What becomes of it.
        place: Where it is.
        raw: Its keywords.
    """

    def __init__(
        self, compiler: Compiler, node: Node, place: Place, raw: dict[str, Any]
    ) -> None:
        self.compiler = compiler
        self.node = node
        self.place = place
        self.raw = raw

    def pointer(self, keyword: str) -> str:
        """Return the JSON Pointer to a keyword."""
        return pointer((*self.place.path, keyword))

    def below(self, *steps: str | int) -> Node:
        """Return a schema below this one."""
        document = self.compiler.document
        return self.compiler.node(document.child(self.place, steps))

    def optional(self, keyword: str) -> Node | None:
        """Return the schema that a keyword holds, if it is there."""
        return self.below(keyword) if keyword in self.raw else None

    def matcher(self, text: str, *steps: str) -> Matcher:
        """Return a pattern made ready."""
        return self.compiler.matcher(text, (*self.place.path, *steps))
