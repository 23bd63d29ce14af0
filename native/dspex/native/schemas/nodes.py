"""The parts of a compiled schema, and one check of a value against them.

A schema comes from a client and may ask for work without end: ``$ref`` that leads to
itself, or ``allOf`` that doubles with every level. So every step of a check is
counted, and how deep it goes, and neither depends on the clock.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from dspex.contracts.native_requests import SchemaFault
from dspex.native.work import TooMuch, Work

if TYPE_CHECKING:
    from collections.abc import Iterator

SCHEMA_CHECK_LIMIT = 500_000
"""The most steps of one check; a step takes about a quarter of a microsecond."""
DEPTH_LIMIT = 200
"""How many schemas a check may be inside of at a time."""
FAULT_LIMIT = 100
"""The most faults listed."""
PLACES_LIMIT = 100_000
"""How many characters of places are listed before the list ends."""

Path = tuple[str | int, ...]


class TooDeep(Exception):
    """The check is inside of more schemas than `DEPTH_LIMIT` allows."""


class Enough(Exception):
    """The list of faults is full."""


class Run(Work):
    """One check.

    Args:
        steps: What it may do.

    Attributes:
        depth: How many schemas it is inside of.
        scope: The schema resources it came through, for ``$dynamicRef``.
        faults: What is wrong, without repetitions.
    """

    __slots__ = ("_room", "depth", "faults", "scope")

    def __init__(self, steps: int = SCHEMA_CHECK_LIMIT) -> None:
        super().__init__(steps)
        self._room = PLACES_LIMIT
        self.depth = 0
        self.scope: list[str] = []
        self.faults: dict[tuple[Path, str], SchemaFault] = {}

    def stop(self) -> NoReturn:
        """Stop a check that took too many steps or went too deep.

        Raises:
            dspex.native.work.TooMuch: It took too many steps.
            TooDeep: It went too deep.
        """
        raise TooMuch if self.left < 0 else TooDeep

    def fault(self, path: Path, check: Check, message: str) -> None:
        """List a fault.

        Raises:
            Enough: It is the last one listed.
        """
        place = pointer(path)
        self.faults[path, check.pointer] = SchemaFault(
            path=place,
            keyword=check.keyword,
            schema_path=check.pointer,
            message=message,
        )
        # One long name may be part of the place of every fault.
        self._room -= len(place) + len(check.pointer)
        if len(self.faults) >= FAULT_LIMIT or self._room < 0:
            raise Enough


class Check:
    """One keyword of a schema.

    Args:
        keyword: Its name.
        pointer: JSON Pointer to it in the schema.
    """

    __slots__ = ("keyword", "pointer")

    def __init__(self, keyword: str, pointer: str) -> None:
        self.keyword = keyword
        self.pointer = pointer

    def accepts(self, value: Any, run: Run) -> bool:
        """Say whether a value satisfies it.

        Raises:
            dspex.native.work.TooMuch: The check takes too many steps.
            TooDeep: It goes too deep.
        """
        raise NotImplementedError

    def find(self, value: Any, run: Run, path: Path) -> None:
        """List what is wrong with a value.

        Args:
            value: The value.
            run: Where to list it.
            path: The way to the value.

        Raises:
            Enough: There are as many faults as are listed.
            dspex.native.work.TooMuch: The check takes too many steps.
            TooDeep: It goes too deep.
        """
        if not self.accepts(value, run):
            run.fault(path, self, self.message(value, run))

    def message(self, value: Any, run: Run) -> str:
        """Say what is wrong with a value that it does not accept."""
        raise NotImplementedError

    def evaluated(self, value: Any, run: Run) -> set[Any]:
        """Return the names or indices that it has seen to, for ``unevaluated…``."""
        return set()


class Descent(Check):
    """A keyword that accepts a value if other schemas accept it or its parts."""

    __slots__ = ()

    def parts(self, value: Any, run: Run) -> Iterator[tuple[Node, Any, Path]]:
        """Yield each schema, what it applies to and the way there."""
        raise NotImplementedError

    def accepts(self, value: Any, run: Run) -> bool:
        """Say whether all of the schemas accept."""
        # A generator would be one more frame for each level.
        for node, part, _ in self.parts(value, run):  # noqa: SIM110 - see above
            if not node.accepts(part, run):
                return False
        return True

    def find(self, value: Any, run: Run, path: Path) -> None:
        """List what the schemas find."""
        for node, part, steps in self.parts(value, run):
            node.find(part, run, path + steps)


class Node:
    """A schema or a schema inside of one.

    Args:
        pointer: JSON Pointer to it.

    Attributes:
        checks: What it asks for; set once all schemas exist, for they may form rings.
        entered: The resource that one comes into with it, if any.
    """

    __slots__ = ("_cost", "_tests", "checks", "entered", "pointer")

    def __init__(self, pointer: str, entered: str | None = None) -> None:
        self.pointer = pointer
        self.entered = entered
        self.fill(())

    def fill(self, checks: tuple[Check, ...]) -> None:
        """Say what it asks for."""
        self.checks = checks
        self._tests = tuple(check.accepts for check in checks)
        self._cost = 1 + len(checks)

    def accepts(self, value: Any, run: Run) -> bool:
        """Say whether a value satisfies all that it asks for.

        Raises:
            dspex.native.work.TooMuch: The check takes too many steps.
            TooDeep: It goes too deep.
        """
        # Not by _enter and _leave: a check spends most of its time here.
        run.left -= self._cost
        run.depth += 1
        if run.left < 0 or run.depth > DEPTH_LIMIT:
            run.stop()
        if self.entered is not None:
            run.scope.append(self.entered)
        found = True
        for test in self._tests:
            if not test(value, run):
                found = False
                break
        run.depth -= 1
        if self.entered is not None:
            run.scope.pop()
        return found

    def find(self, value: Any, run: Run, path: Path) -> None:
        """List what is wrong with a value; raises as `Check.find`."""
        self._enter(run)
        for check in self.checks:
            check.find(value, run, path)
        self._leave(run)

    def evaluated(self, value: Any, run: Run) -> set[Any]:
        """Return the names or indices it has seen to: none if it does not accept."""
        if not self.accepts(value, run):
            return set()
        self._enter(run)
        found: set[Any] = set()
        for check in self.checks:
            found |= check.evaluated(value, run)
        run.spend(len(found) >> 3)
        self._leave(run)
        return found

    def _enter(self, run: Run) -> None:
        run.left -= self._cost
        run.depth += 1
        if run.left < 0 or run.depth > DEPTH_LIMIT:
            run.stop()
        if self.entered is not None:
            run.scope.append(self.entered)

    def _leave(self, run: Run) -> None:
        # After an exception nobody asks for the depth or the scope any more.
        run.depth -= 1
        if self.entered is not None:
            run.scope.pop()


class Never(Check):
    """The schema ``false``."""

    __slots__ = ()

    def accepts(self, value: Any, run: Run) -> bool:
        """Accept nothing."""
        return False

    def message(self, value: Any, run: Run) -> str:
        """Say that nothing is allowed."""
        return "Nothing is allowed here."


def pointer(path: Path) -> str:
    """Write a way as a JSON Pointer."""
    return "".join(f"/{escaped(str(step))}" for step in path)


def escaped(step: str) -> str:
    """Write one step of a JSON Pointer."""
    return step.replace("~", "~0").replace("/", "~1")
