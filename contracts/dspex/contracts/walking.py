"""Large values level by level, and the way back to one of their parts.

All that lies in the arrays and objects of one level is one list, the next level.
Questions about a whole list are answered without a loop in Python, which makes a
value of a million parts bearable between two requests.
"""

from __future__ import annotations

import json
import math
from itertools import chain
from typing import Any

_PLAIN = frozenset({str, int, float, bool, type(None), list, dict, bytes})


def elements(values: list[Any]) -> list[Any]:
    """Return all that is in the lists and dicts among the values."""
    types = set(map(type, values))
    found: list[Any] = []
    if list in types:
        found = list(chain.from_iterable(_of(list, values, types)))
    if dict in types:
        found += chain.from_iterable(map(dict.values, _of(dict, values, types)))
    return found


def way(levels: list[list[Any]], place: Any) -> list[Any]:
    """Return the keys and indices that lead to one of the values below the levels.

    Args:
        levels: The value itself as the only one of its level, then the `elements`
            of each level, down to the one that holds ``place``'s own array or object.
        place: The very object that is looked for.
    """
    steps: list[Any] = []
    for level in reversed(levels):
        for value in level:
            step = next((key for key, v in _items(value) if v is place), _NOWHERE)
            if step is not _NOWHERE:
                steps.append(step)
                place = value
                break
    return steps[::-1]


def path_of(steps: list[Any]) -> str:
    """Write steps as a path: ``inputs.people[2]["two words"]``.

    Args:
        steps: Keys and indices; ``...`` for a key that is not known.
    """
    found = ""
    for step in steps:
        if isinstance(step, str) and step.isidentifier():
            found += f".{step}" if found else step
        else:
            written = "..." if step is ... else json.dumps(step)
            found += f"[{written}]"
    return found


def unsayable(value: Any) -> tuple[list[Any], str] | None:
    """Find what MessagePack can say and JSON cannot.

    Returns:
        The way to it and what it is; ``None`` if there is nothing of the kind.
    """
    levels = [[value]]
    while levels[-1]:
        level = levels[-1]
        types = set(map(type, level))
        if not types <= _PLAIN or (float in types and not _finite(level, types)):
            place = next(v for v in level if _is_odd(v))
            return way(levels[:-1], place), _what(place)
        keyed = _of(dict, level, types) if dict in types else []
        if not set(map(type, chain.from_iterable(keyed))) <= {str}:
            place = next(v for v in keyed if not set(map(type, v)) <= {str})
            key = next(key for key in place if type(key) is not str)
            return way(levels[:-1], place), f"a key that is no text ({key!r:.40})"
        levels.append(elements(level))
    return None


_NOWHERE = object()


def _of(kind: type, values: list[Any], types: set[type]) -> list[Any]:
    if len(types) == 1:
        return values
    return [value for value in values if type(value) is kind]


def _finite(values: list[Any], types: set[type]) -> bool:
    return all(map(math.isfinite, _of(float, values, types)))


def _is_odd(value: Any) -> bool:
    if type(value) is float:
        return not math.isfinite(value)
    return type(value) not in _PLAIN


def _what(value: Any) -> str:
    return str(value) if isinstance(value, float) else "a MessagePack extension"


def _items(value: Any) -> Any:
    if type(value) is list:
        return enumerate(value)
    return value.items() if type(value) is dict else ()
