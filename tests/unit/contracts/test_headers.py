"""Header names are compared without case."""

from __future__ import annotations

import pytest

from dspex.contracts import headers
from dspex.contracts.headers import Headers


@pytest.mark.parametrize("name", ["Dspex-Request", "dspex-request", "DSPEX-REQUEST"])
def test_names_have_no_case(name: str) -> None:
    """However a client writes a name, it is found."""
    found = Headers({name: "r-1"})

    assert found[headers.REQUEST] == "r-1"
    assert found.get("dSPEX-rEQUEST") == "r-1"
    assert headers.REQUEST in found


def test_values_keep_their_case() -> None:
    """Only names are without case."""
    assert Headers({"A": "MiXed"})["a"] == "MiXed"


def test_absent() -> None:
    """What is not there is not there."""
    assert headers.NO_HEADERS.get(headers.DEADLINE) is None
    assert len(Headers()) == 0
    assert list(Headers({"B": "1", "A": "2"})) == ["b", "a"]


def test_repr_shows_names_only() -> None:
    """Values may be secrets, so the repr has only names."""
    shown = repr(Headers({"Authorization": "secret", "A": "b"}))

    assert shown == "Headers(a, authorization)"


def test_names_are_distinct() -> None:
    """No two header names are the same but for their case."""
    names = [
        value.lower()
        for name, value in vars(headers).items()
        if name.isupper() and isinstance(value, str)
    ]

    assert len(names) == len(set(names))
    assert len(names) >= 12
