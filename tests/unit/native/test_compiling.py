"""Compiling: once for each source, kept within bounds, told apart by digest."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from dspex.contracts.failures import InvalidSignature
from dspex.contracts.signatures import FieldSpec, SignatureSpec
from dspex.native.signatures.compiling import (
    Compiled,
    SignatureCache,
    compile_signature,
)


def structured(default: object) -> SignatureSpec:
    return SignatureSpec(
        fields=[
            FieldSpec(name="q", kind="input", type="Any", default=default),
            FieldSpec(name="a", kind="output"),
        ]
    )


def test_the_same_source_is_compiled_once() -> None:
    """The second time a signature comes out of the cache."""
    cache = SignatureCache()

    assert cache.compile("q -> a") is cache.compile("q -> a")
    assert cache.compile(structured([1])) is cache.compile(structured([1]))


@pytest.mark.parametrize("default", [True, 1.0, None, "1", float("nan"), b"1"])
def test_defaults_that_look_alike_are_kept_apart(default: object) -> None:
    """Another default is another signature, even if Python calls them equal."""
    cache = SignatureCache()
    one, other = cache.compile(structured(1)), cache.compile(structured(default))

    assert one.digest != other.digest


def test_the_digest_is_of_the_meaning() -> None:
    """Spelling does not change the digest; a type or instructions do."""
    plain = compile_signature("q -> a: int").digest

    assert compile_signature(" q:str->a : (int)").digest == plain
    assert compile_signature("q -> a: float").digest != plain
    assert compile_signature("q -> a: int", "Be brief.").digest != plain


def test_the_cache_is_bounded_by_number_and_by_size() -> None:
    """The least recently used signature leaves when there are too many."""
    few, small = SignatureCache(entries=2), SignatureCache(size=100)
    first = few.compile("a -> z")
    few.compile("b -> z")
    few.compile("a -> z")
    few.compile("c -> z")
    small.compile("q -> a", "x" * 200)

    assert len(few) == 2
    assert few.compile("a -> z") is first
    assert len(small) == 0


def test_threads_share_a_cache() -> None:
    """Threads that compile at the same time all get what one would."""
    cache = SignatureCache(entries=4)
    texts = [f"q -> a{i % 6}: list[int]" for i in range(200)]

    with ThreadPoolExecutor(4) as pool:
        found: list[Compiled] = list(pool.map(cache.compile, texts))
    assert [c.outputs[0].field.name for c in found] == [t[5:7] for t in texts]
    assert len(cache) == 4


@pytest.mark.parametrize("default", [10**30, object(), "\ud800"])
def test_a_default_without_a_wire_form_is_refused(default: object) -> None:
    """What could not be answered is refused like any unsound signature."""
    with pytest.raises(InvalidSignature, match="cannot be written"):
        compile_signature(structured(default))


def test_sides_are_slots_of_fields_and_types() -> None:
    """Inputs and outputs each hold their fields with the types."""
    compiled = compile_signature("q, n: int -> a")

    assert [(s.field.name, s.type.describe()) for s in compiled.inputs] == [
        ("q", "str"),
        ("n", "int"),
    ]
    assert [slot.field.name for slot in compiled.outputs] == ["a"]
