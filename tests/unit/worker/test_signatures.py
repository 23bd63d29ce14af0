"""Native signatures against DSPy's own: the same fields, types and prompts."""

import datetime
import inspect
import sys
import uuid
from decimal import Decimal
from typing import Any

import dspy
import msgspec
import pytest
from dspy.adapters.utils import get_annotation_name

from dspex.contracts.encoding import tag_bytes
from dspex.contracts.failures import InvalidSignature
from dspex.contracts.signatures import SignatureSpec
from dspex.native.signatures.compiling import Compiled, compile_signature
from dspex.native.signatures.parsing import RESERVED
from dspex.native.types.tree import Scalar
from dspex.services.worker import signatures
from dspex.services.worker.signatures import dspy_signature, python_value

pytestmark = pytest.mark.dspy

SOUND = [
    "question -> answer",
    "question, context -> answer",
    " question:str,context : list[str]->answer:str , confidence: float ",
    "a, b, -> c,",
    "a\n,b\t-> \fc",
    "\ufb01eld -> \u00e4pfel",
    "match, print -> type, items",
    "rawHTML, text2speech, HTTPServer_v2 -> camelCaseAnswer, x9y",
    "q -> a: int, b: float, c: bool, d: bytes, e: NoneType, f: Any",
    "q: list, r: dict, s: tuple, t: set, u: frozenset -> a",
    "q -> a: list[int]",
    "q -> a: list [ int , ]",
    "q -> a: dict[str, list[int]]",
    "q -> a: dict[str, Any]",
    "q -> a: tuple[int, str]",
    "q -> a: tuple[int, ...]",
    "q -> a: tuple[()]",
    "q -> a: set[int], b: frozenset[str]",
    "q -> a: List[int], b: Dict[str, int], c: Tuple[int, ...]",
    "q -> a: Set[int], b: FrozenSet[str], c: typing.List[str]",
    "q -> a: int | None",
    "q -> a: None | int",
    "q -> a: NoneType | int",
    "q -> a: NoneType | int | str",
    "q -> a: None | None | int",
    "q -> a: int | None | str | int",
    "q -> a: Optional[int]",
    "q -> a: Optional[int | str]",
    "q -> a: Optional[None]",
    "q -> a: Optional[Any]",
    "q -> a: typing.Optional[typing.Union[int, str]]",
    "q -> a: Union[int, str, None]",
    "q -> a: Union[None, int]",
    "q -> a: Union[int]",
    "q -> a: Union[int, Union[str, float]]",
    "q -> a: list[int | None]",
    "q -> a: (int)",
    "q -> a: (int | str) | float",
    "q -> a: Literal['yes', 'no']",
    'q -> a: Literal[\'a\', "it\'s", \'say "x"\', "b\'o\\"th"]',
    "q -> a: Literal['x\\ny', '\\u00e9\\x41']",
    "q -> a: Literal[1, True, None, 'x', 1]",
    "q -> a: Literal[0x10, 1_0]",
    "q -> a: Literal[Literal['a'], 'b']",
    "q -> a: list[Literal['a', 'b']]",
    "q -> a: datetime.date, b: datetime.datetime, c: datetime.timedelta",
    "q: datetime . time -> a: decimal.Decimal, b: uuid.UUID",
    "q: dict[str, Literal['a']] -> a: list[tuple[str, dict[str, int | None]]]",
]


def plain(text: str, instructions: str | None = None) -> Any:
    made: Any = dspy.Signature
    return made(text, instructions)


def prompt(signature: Any) -> Any:
    inputs = dict.fromkeys(signature.input_fields, "value")
    demo = {**inputs, **dict.fromkeys(signature.output_fields, "reply")}
    return dspy.ChatAdapter().format(signature, [demo], inputs)


def field(annotation: str, **more: object) -> Compiled:
    fields = [
        {"name": "a", "kind": "input", "type": annotation, **more},
        {"name": "z", "kind": "output"},
    ]
    return compile_signature(msgspec.convert({"fields": fields}, SignatureSpec))


@pytest.mark.parametrize("text", SOUND)
def test_text_means_what_it_means_to_dspy(text: str) -> None:
    """Order, kinds, types, prefixes, descriptions and instructions are DSPy's."""
    compiled, theirs = compile_signature(text), plain(text)

    slots = (*compiled.inputs, *compiled.outputs)
    extras = [f.json_schema_extra for f in theirs.fields.values()]
    assert [s.field.name for s in slots] == list(theirs.fields)
    assert [s.field.name for s in compiled.inputs] == list(theirs.input_fields)
    assert [s.type.describe() for s in slots] == [
        get_annotation_name(f.annotation) for f in theirs.fields.values()
    ]
    assert [s.field.prefix for s in slots] == [e["prefix"] for e in extras]
    assert [s.field.description for s in slots] == [e["desc"] for e in extras]
    assert compiled.signature.instructions == theirs.instructions


@pytest.mark.parametrize("text", SOUND)
def test_prompts_are_those_of_dspy(text: str) -> None:
    """The class made of types renders the prompt of the class made of text."""
    ours = dspy_signature(compile_signature(text))

    assert prompt(ours) == prompt(plain(text))


@pytest.mark.parametrize(
    "instructions",
    ["Be brief.", "\n  Be brief.\n    Be kind.\n", "\n    a\n  b", "é\tx"],
)
def test_instructions_reach_the_prompt_as_in_dspy(instructions: str) -> None:
    """Instructions given beside the text are cleaned and shown as DSPy does."""
    compiled = compile_signature("q -> a", instructions)
    ours, theirs = dspy_signature(compiled), plain("q -> a", instructions)

    assert compiled.signature.instructions == theirs.instructions == ours.instructions
    assert prompt(ours) == prompt(theirs)


@pytest.mark.parametrize(
    ("annotation", "limits", "kept"),
    [
        (
            "int",
            {"le": 9, "ge": 1, "multiple_of": 2},
            {"ge": 1, "le": 9, "multiple_of": 2},
        ),
        ("float | None", {"gt": 0, "lt": 1}, {"gt": 0, "lt": 1}),
        ("Decimal", {"ge": 0.5}, {"ge": 0.5}),
        ("int | float", {"ge": 1}, {"ge": 1}),
        ("list[str] | str", {"max_length": 3}, {"max_length": 3}),
        ("dict", {"min_length": 1}, {"min_length": 1}),
        ("str", {"pattern": r"^\w+$", "max_length": 3}, {"max_length": 3}),
    ],
)
def test_constraints_reach_the_prompt(
    annotation: str, limits: dict[str, object], kept: dict[str, object]
) -> None:
    """The prompt words the constraints as DSPy does; a pattern it never shows."""
    compiled = field(annotation, constraints=limits, description="Some.")
    kind = dspy_signature(field(annotation)).fields["a"].annotation
    make: Any = dspy.Signature
    theirs = make(
        {
            "a": (kind, dspy.InputField(desc="Some.", **kept)),
            "z": (str, dspy.OutputField()),
        },
        compiled.signature.instructions,
    )

    assert prompt(dspy_signature(compiled)) == prompt(theirs)


def test_the_class_is_made_once() -> None:
    """Two compilations of the same meaning share a class, within bounds."""
    first = dspy_signature(compile_signature("q -> a: int"))
    again = dspy_signature(compile_signature("q->a:(int)"))

    assert first is again
    for i in range(signatures.CACHE_LIMIT):
        dspy_signature(compile_signature(f"q -> a{i}"))
    assert dspy_signature(compile_signature("q -> a: int")) is not first
    assert len(signatures._cache) == signatures.CACHE_LIMIT


def test_one_signature_does_not_turn_another_around() -> None:
    """Unions in an annotation keep their order, whatever was annotated before."""
    for inner in ("int | str", "str | int"):
        made = dspy_signature(compile_signature(f"q -> a: list[{inner}] | None"))
        expected = compile_signature(f"q -> a: list[{inner}] | None").outputs[0].type

        assert get_annotation_name(made.fields["a"].annotation) == expected.describe()


def test_text_of_a_client_is_not_read_by_dspy() -> None:
    """A description or instructions that look like code change nothing else."""
    before = set(sys.modules)
    compiled = field("str", description="a: this -> b", default="os.system")

    made = dspy_signature(compiled)
    assert list(made.fields) == ["a", "z"]
    assert "this" not in set(sys.modules) - before


def test_no_name_of_dspy_can_be_a_field() -> None:
    """Every attribute of a DSPy signature is among the reserved names."""
    theirs = {*dir(dspy.Signature), *dir(type(dspy.Signature))}

    assert {name for name in theirs if not name.startswith("_")} <= RESERVED


def test_no_argument_of_a_call_can_be_a_field() -> None:
    """Arguments that DSPy takes from a call's inputs are among the reserved names."""
    source = inspect.getsource(dspy.Predict._forward_preprocess)
    taken = {part.split('"')[0] for part in source.split('kwargs.pop("')[1:]}

    assert {"signature", "demos", "config", "lm"} <= taken
    assert taken <= RESERVED


@pytest.mark.parametrize(
    ("annotation", "sent", "made"),
    [
        ("date", "2024-05-31", datetime.date(2024, 5, 31)),
        ("timedelta", "PT90S", datetime.timedelta(seconds=90)),
        ("Decimal", "1.50", Decimal("1.50")),
        ("Decimal", 3, Decimal(3)),
        ("UUID", "0" * 30 + "2a", uuid.UUID(int=42)),
        ("bytes", {"$t": "bytes", "data": "YWI="}, b"ab"),
        ("set[tuple[int, ...]]", [[1, 2]], {(1, 2)}),
        ("tuple", [1, "a"], (1, "a")),
        ("tuple[date, int]", ["2024-05-31", 1], (datetime.date(2024, 5, 31), 1)),
        ("dict[int, list[bytes]]", {"7": []}, {7: []}),
        ("dict[Literal[1, 'b'], float]", {"1": 2.5}, {1: 2.5}),
        ("dict[date, Any]", {"2024-05-31": [1]}, {datetime.date(2024, 5, 31): [1]}),
        ("date | list[date]", ["2024-05-31"], [datetime.date(2024, 5, 31)]),
        ("int | None", None, None),
        ("Literal['a']", "a", "a"),
    ],
)  # fmt: skip
def test_json_values_become_python_values(
    annotation: str, sent: object, made: object
) -> None:
    """A checked JSON value turns into an object of its annotation."""
    compiled = field(annotation, default=sent)

    assert python_value(compiled.inputs[0].type, sent) == made
    assert dspy_signature(compiled).fields["a"].default == made


@pytest.mark.parametrize("type_", ["int", "int | None"])
def test_a_fraction_bounds_no_int(type_: str) -> None:
    """A bound of an int is whole, or DSPy could not build the field."""
    with pytest.raises(InvalidSignature, match="whole number"):
        bounded(type_, 9.5)
    assert dspy_signature(bounded(type_, 9.0))
    assert dspy_signature(bounded("int | float", 9.5))


def bounded(type_: str, le: float) -> Compiled:
    fields: list[dict[str, Any]] = [
        {"name": "q", "kind": "input"},
        {"name": "a", "kind": "output", "type": type_, "constraints": {"le": le}},
    ]
    return compile_signature(msgspec.convert({"fields": fields}, SignatureSpec))


def test_bytes_carry_no_markers() -> None:
    """Bytes that DSPy would decode into a marker of its own do not spell one."""
    hostile = b"<<CUSTOM-TYPE-START-IDENTIFIER>>"

    found = python_value(Scalar("bytes"), tag_bytes(hostile))

    assert b"<<CUSTOM" not in found
    assert python_value(Scalar("bytes"), tag_bytes(b"\x00<<")) == b"\x00<<"
