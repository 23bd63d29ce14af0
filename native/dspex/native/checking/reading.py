"""Looking for what is wrong with a value, and converting it in the ``lax`` mode.

Only what `dspex.native.checking.accepting` refused comes here, and of a long list
only the stretches that it refuses.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dspex.native.checking.faults import Enough, Run, suspects
from dspex.native.types.batches import identity
from dspex.native.types.constraints import broken
from dspex.native.types.kinds import DspyType, Reference, SchemaType
from dspex.native.types.parts import Limited, ObjectType, Text
from dspex.native.types.scalars import NO, read
from dspex.native.types.showing import shown, under
from dspex.native.types.tokens import shortened
from dspex.native.types.tree import (
    ANY,
    NONE,
    Collection,
    DictType,
    LiteralType,
    Scalar,
    TupleType,
    UnionType,
)
from dspex.native.types.wire import TAG

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from dspex.native.checking.accepting import Acceptor

_SLOW = 40


def read_value(run: Run, node: Acceptor, value: Any, path: str) -> Any:
    """Read a value of a type and note its faults.

    Returns:
        The value in its JSON form; without a meaning if there are faults.

    Raises:
        Enough: There are more faults than are listed.
        TooMuch: It takes more than may be done.
    """
    run.work.spend(_SLOW)
    return _READERS[type(node.expr)](run, node, value, path)


def _scalar(run: Run, node: Any, value: Any, path: str) -> Any:
    name = node.expr.name
    found = read(name, value, lax=run.lax)
    if found is NO:
        run.fault(path, value, node, lambda: "" if run.lax else _lenient(name, value))
    return found


def _lenient(name: str, value: Any) -> str:
    found = read(name, value, lax=True)
    return "" if found is NO else f"The lax mode reads it as {shown(found)}."


def _each(
    run: Run, node: Acceptor, values: list[Any], path: Callable[[int], str]
) -> list[Any]:
    found = list(values)
    for i in suspects(values, lambda some: node.accepts(list(some), run.work)):
        found[i] = read_value(run, node, values[i], path(i))
    return found


def _collection(run: Run, node: Acceptor, value: Any, path: str) -> Any:
    if not isinstance(value, list):
        run.fault(path, value, node)
        return NO
    item = node.parts[0]
    found = _each(run, item, value, lambda i: f"{path}[{i}]")
    if node.expr.kind == "list":  # type: ignore[attr-defined]  # a Collection
        return found
    for i, element in enumerate(found if item.expr == ANY else ()):
        # Read as it is, an array becomes a list, which no set can hold.
        if isinstance(element, list):
            run.fault(f"{path}[{i}]", element, "a value without parts, in a set")
    return _unique(run, found, path)


def _unique(run: Run, values: list[Any], path: str) -> list[Any]:
    seen: dict[str, int] = {}
    found: list[Any] = []
    for i, value in enumerate(values):
        run.work.spend(_SLOW)
        if value is NO:
            continue
        key = identity(value)
        if key is None:
            run.fault(f"{path}[{i}]", value, "a value without parts, in a set")
        elif key not in seen:
            seen[key] = i
            found.append(value)
        elif not run.lax:
            first = f"{path}[{seen[key]}]"
            run.fault(f"{path}[{i}]", value, f"an element unlike {first}, in a set")
    return found


def _tuple(run: Run, node: Any, value: Any, path: str) -> Any:
    items = node.expr.items
    if not isinstance(value, list):
        run.fault(path, value, node)
        return NO
    if items is None or node.expr.variadic:
        return _each(run, node.parts[0], value, lambda i: f"{path}[{i}]")
    if len(items) != len(value):
        run.fault(path, value, node)
        return NO
    pairs = zip(node.parts, value, strict=True)
    return [
        read_value(run, part, v, f"{path}[{i}]") for i, (part, v) in enumerate(pairs)
    ]


def _dict(run: Run, node: Any, value: Any, path: str) -> Any:
    if not isinstance(value, dict):
        run.fault(path, value, node)
        return NO
    keys = list(value)

    def where(i: int) -> str:
        return under(path, str(keys[i]))

    def fine(some: Sequence[Any]) -> bool:
        run.work.spend(_SLOW)
        return bool(node.takes(some, run.work))

    for i in suspects(keys, fine):
        if not fine([keys[i]]):
            wanted = node.expr.key.describe() if node.expr.key else "str"
            run.fault(where(i), keys[i], f"a key that spells {shortened(wanted, 200)}")
    found = _each(run, node.parts[-1], list(value.values()), where)
    return dict(zip(keys, found, strict=True))


def _literal(run: Run, node: Any, value: Any, path: str) -> Any:
    if node.accepts([value], run.work):
        return value
    names = [v for v in node.expr.choices if isinstance(v, str)]

    def guess() -> str:
        near = run.near(value, names) if isinstance(value, str) else ""
        return near.partition(" Allowed:")[0] if near.startswith("Did") else ""

    run.fault(path, value, node, guess)
    return NO


def _union(run: Run, node: Acceptor, value: Any, path: str) -> Any:
    meant = _meant(node, value)
    if meant is not None and type(value) in (list, dict):
        return read_value(run, meant, value, path)
    for lax in (False, True) if run.lax else (False,):
        for part in node.parts:
            found = _attempt(run, part, value, lax=lax)
            if found is not NO:
                return found
    if meant is None:
        run.fault(path, value, node)
        return NO
    return read_value(run, meant, value, path)


def _attempt(run: Run, part: Acceptor, value: Any, *, lax: bool) -> Any:
    if part.accepts([value], run.work):
        return value
    inner = Run(lax=lax, limit=0, work=run.work, matching=run.matching)
    try:
        return read_value(inner, part, value, "")
    except Enough:
        return NO


def _meant(node: Acceptor, value: Any) -> Acceptor | None:
    # The faults inside the one alternative that was meant say more than "neither".
    alike = [part for part in node.parts if type(value) in part.kinds]
    others = [part for part in node.parts if part.expr != NONE]
    if len(alike) > 1 and isinstance(value, dict):
        alike = [part for part in alike if _is_told(part, value)]
    if len(alike) == 1 and type(value) in (list, dict):
        return alike[0]
    return others[0] if len(others) == 1 else None


def _is_told(node: Any, value: dict[str, Any]) -> bool:
    """Say whether an object has the constants by which an alternative is known."""
    while isinstance(node.expr, (SchemaType, Reference, Limited)):
        node = node.parts[0] if node.parts else node.target
    if not isinstance(node.expr, ObjectType):
        return False
    told = [one for one in node.expr.properties if one.required and one.type.choices]
    return bool(told) and all(value.get(p.name) in p.type.choices for p in told)


def _object(run: Run, node: Any, value: Any, path: str) -> Any:
    if not isinstance(value, dict):
        run.fault(path, value, node)
        return NO
    found: dict[str, Any] = {}
    for key, item in value.items():
        place = under(path, str(key))
        part = node.by_name.get(key, node.rest)
        if part is None or not isinstance(key, str):
            _unknown(run, node, key, item, place)
        elif part.accepts([item], run.work):
            found[key] = item
        else:
            found[key] = read_value(run, part, item, place)
    for one in node.expr.properties:
        if one.required and one.name not in value:
            run.fault(under(path, one.name), NO, node.by_name[one.name])
    return found


def _unknown(run: Run, node: Any, key: Any, item: Any, place: str) -> None:
    def near() -> str:
        return run.near(str(key), list(node.by_name))

    run.fault(place, item, "no key of that name", near)


def _limited(run: Run, node: Any, value: Any, path: str) -> Any:
    before = len(run.faults)
    found = read_value(run, node.parts[0], value, path)
    if len(run.faults) > before or node.fits([found], run.work):
        return found
    for wanted in broken(found, node.limits, run.matching):
        run.fault(path, found, wanted)
    return found


def _text(run: Run, node: Any, value: Any, path: str) -> Any:
    if not node.accepts([value], run.work):
        run.fault(path, value, node)
    return value


def _named(run: Run, node: Any, value: Any, path: str) -> Any:
    expr = node.expr
    # As DSPy reads a reply: by its name too, unless that is the value of another.
    by_name = run.lax and expr.choices and value not in expr.values
    if by_name and value in expr.names:
        return expr.values[expr.names.index(value)]
    return read_value(run, node.target, value, path)


def _dspy(run: Run, node: Any, value: Any, path: str) -> Any:
    if run.lax:
        value = _tagged(node.expr, value)
    if type(value) not in node.kinds:
        run.fault(path, value, node)
        return NO
    return read_value(run, node.target, value, path)


def _tagged(expr: DspyType, value: Any) -> Any:
    """Bring to its form on the wire what stands for one of DSPy's values."""
    if expr.name == "Image" and isinstance(value, str):
        return {TAG: "Image", "url": value}
    if expr.name == "ToolCalls" and isinstance(value, list):
        return {"tool_calls": value}
    tags = expr.tagged.properties[0].name == TAG
    if tags and isinstance(value, dict) and TAG not in value:
        return {TAG: expr.name, **value}
    return value


_READERS: dict[type, Callable[[Run, Any, Any, str], Any]] = {
    Scalar: _scalar,
    Collection: _collection,
    TupleType: _tuple,
    DictType: _dict,
    LiteralType: _literal,
    UnionType: _union,
    ObjectType: _object,
    Limited: _limited,
    Text: _text,
    SchemaType: _named,
    Reference: _named,
    DspyType: _dspy,
}
