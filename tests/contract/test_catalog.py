"""The catalog: every operation is complete, and somebody does it."""

from __future__ import annotations

import inspect
import re

import msgspec
import pytest

from dspex.contracts import catalog, encoding, examples, program_examples
from dspex.contracts.catalog import OPERATIONS, Operation
from dspex.contracts.failures import UnknownOperation
from dspex.contracts.program_requests import PutProgram, RunProgram
from dspex.contracts.requests import Body
from dspex.contracts.subjects import is_token
from dspex.native import operations as native
from dspex.native.programs.describing import describe
from dspex.native.programs.planning import check_inputs, plan
from dspex.native.signatures.compiling import compile_signature


@pytest.mark.parametrize("name", OPERATIONS)
def test_operations_are_complete(name: str) -> None:
    """Every operation has a name for subjects, a sentence and a typed body."""
    one = OPERATIONS[name]

    assert re.fullmatch(r"[a-z_]+(\.[a-z_]+)?", name)
    assert all(is_token(part) for part in name.split("."))
    assert one.summary.endswith(".")
    assert issubclass(one.request, Body)
    assert inspect.getdoc(one.request)


@pytest.mark.parametrize("name", OPERATIONS)
def test_bodies_are_strict_values(name: str) -> None:
    """A body is frozen, keyword-only, and refuses fields it does not know."""
    config = OPERATIONS[name].request.__struct_config__

    assert config.frozen
    assert config.forbid_unknown_fields


def test_native_operations_are_done() -> None:
    """Native-ops does every operation that the catalog gives to it, and no other."""
    assert set(catalog.served_by("native")) == native.OPERATIONS.keys()


def test_every_operation_is_given_to_somebody() -> None:
    """What each of them serves is all there is."""
    served = [
        name
        for one in ("native", "python", "state", "replay")
        for name in catalog.served_by(one)
    ]

    assert sorted(served) == sorted(OPERATIONS)


@pytest.mark.parametrize("name", native.OPERATIONS)
def test_native_examples_are_true(name: str) -> None:
    """Native-ops answers the example request with the outputs of the example reply."""
    outputs = native.perform(name, examples.REQUESTS[name])

    assert outputs == examples.REPLIES[name].outputs
    msgspec.convert(outputs, OPERATIONS[name].outputs)


@pytest.mark.parametrize("name", ["predict", "chain_of_thought", "react"])
def test_python_examples_can_be_read(name: str) -> None:
    """The signatures of the example requests are signatures."""
    body = encoding.read(
        msgspec.to_builtins(examples.REQUESTS[name]), OPERATIONS[name].request
    )

    compiled = compile_signature(body.signature, body.instructions)

    fields = compiled.signature.fields
    outputs = {one.name for one in fields if one.kind == "output"}
    assert outputs <= examples.REPLIES[name].outputs.keys()


def test_example_programs_are_sound() -> None:
    """The programs of the examples can be run, and give what the replies hold."""
    asked, stored = examples.REQUESTS["run"], examples.REQUESTS["program.put"]
    assert isinstance(asked, RunProgram)
    assert isinstance(stored, PutProgram)

    node = plan(asked.program)
    check_inputs(node, asked.inputs)

    assert node.gives.keys() == examples.REPLIES["run"].outputs.keys()
    described = msgspec.to_builtins(describe(plan(stored.specification)))
    expected = examples.REPLIES["program.describe"].outputs
    assert described["inputs"] == expected["inputs"]
    assert described["outputs"] == expected["outputs"]


@pytest.mark.parametrize("name", program_examples.REQUESTS)
def test_outputs_of_programs_are_of_their_types(name: str) -> None:
    """The outputs of the examples are what the catalog says of them."""
    msgspec.convert(examples.REPLIES[name].outputs, OPERATIONS[name].outputs)


def test_unknown_operation() -> None:
    """An unknown operation is answered with the nearest one and all there are."""
    with pytest.raises(UnknownOperation) as refused:
        catalog.operation("predikt")

    assert "Did you mean 'predict'?" in refused.value.message
    assert "chain_of_thought" in refused.value.message
    assert "dspex.v1.call.<operation>" in refused.value.hint


def test_long_names_are_cut() -> None:
    """An operation name as long as a novel is not sent back whole."""
    with pytest.raises(UnknownOperation) as refused:
        catalog.operation("x" * 10_000)

    assert len(refused.value.message) < 1000


def test_every_field_of_an_operation_is_described() -> None:
    """The table itself says what its columns mean."""
    doc = inspect.getdoc(Operation) or ""

    assert all(f"    {name}: " in doc for name in Operation.__struct_fields__)
