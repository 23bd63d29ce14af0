"""Programs as data over NATS: run, stored, described, refused."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import dspy
import pytest
from tests.support.asking import Asker, chat
from tests.support.stack import Program

from dspex.contracts.subjects import Subjects

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.scripted_model import ScriptedModel
    from tests.support.scripted_wire import Received
    from tests.support.stack import Stack


pytestmark = [pytest.mark.nats, pytest.mark.dspy]

QA = "question -> answer"
PREDICT: dict[str, Any] = {"module": "predict", "signature": QA}
CHAIN: dict[str, Any] = {
    "module": "chain",
    "steps": [
        {"program": {"module": "predict", "signature": "text -> summary"}},
        {
            "program": {"module": "chain_of_thought", "signature": "summary -> title"},
            "outputs": {"title": "headline"},
        },
    ],
}
WHY = {"question": "Why?"}


def run(program: Any, inputs: Any = None, **more: Any) -> dict[str, Any]:
    """The body of a ``run``."""
    return {"program": program, "inputs": WHY if inputs is None else inputs} | more


@pytest.fixture(name="name")
def _name() -> str:
    return f"p{uuid4().hex[:8]}"


async def put(asker: Asker, name: str, specification: Any, **more: Any) -> Any:
    body = {"name": name, "specification": specification} | more
    return (await asker.ask("program.put", body)).body


async def test_a_specification_runs(asker: Asker, model: ScriptedModel) -> None:
    """A chain is run as it is written, and says who answered."""
    model.reply_with(chat(summary="Short."), times=1)
    model.reply_with(chat(reasoning="Hm.", title="Title"), times=1)

    found = await asker.ask("run", run(CHAIN, {"text": "Long."}))

    assert found.body["outputs"] == {"reasoning": "Hm.", "headline": "Title"}
    assert found.body["metadata"]["usage"]["calls"] == 2
    assert found.body["metadata"]["lm"] == "openai/scripted"
    assert "Short." in model.requests[1].text("user")


async def test_parts_are_told(asker: Asker, model: ScriptedModel) -> None:
    """Of each part of a composition it is told when it ended, how, and after what."""
    both = [{"program": PREDICT, "outputs": {"answer": name}} for name in "ab"]
    beside = {"module": "parallel", "steps": both}
    loop = {
        "module": "map",
        "program": {"module": "predict", "signature": "item -> found"},
        "over": "items",
        "into": "item",
    }
    program = {"module": "chain", "steps": [{"program": beside}, {"program": loop}]}
    model.latency = 0.05

    body = run(program, WHY | {"items": ["x", "y"]})
    events = await asker.stream("run", body)

    assert events.last["kind"] == "done", events.last
    told = [(one["part"], one["module"], one["code"]) for one in events.of("step")]
    first, second = "program.steps[0].program", "program.steps[1].program"
    assert sorted(told[:2]) == [
        (f"{first}.steps[0].program", "predict", ""),
        (f"{first}.steps[1].program", "predict", ""),
    ]
    assert told[2:] == [
        (first, "parallel", ""),
        *[(f"{second}.program", "predict", "")] * 2,
        (second, "map", ""),
    ]
    run_ms = events.last["metadata"]["run_ms"]
    assert all(50 <= one["ms"] <= run_ms for one in events.of("step"))


async def test_a_part_that_fails_is_told(asker: Asker, model: ScriptedModel) -> None:
    """The part that failed is named by its path, with the failure's code."""
    model.reply_with(chat(summary="Short."), times=1)
    model.reply_with("no fields at all")

    events = await asker.stream("run", run(CHAIN, {"text": "Long."}))

    assert events.last["code"] == "parse_failed"
    told = [(one["part"], one["code"]) for one in events.of("step")]
    assert told == [
        ("program.steps[0].program", ""),
        ("program.steps[1].program", "parse_failed"),
    ]


async def test_the_last_part_streams(asker: Asker, model: ScriptedModel) -> None:
    """The outputs of a chain's last part come as they are written, under its names."""
    model.reply_with(chat(summary="Not to be told."), times=1)
    model.reply_with(chat(reasoning="Well, well.", title="A long title"), times=1)

    events = await asker.stream("run", run(CHAIN, {"text": "Long."}))

    assert events.text("headline") == "A long title"
    assert events.text("reasoning") == "Well, well."
    assert {e["field"] for e in events.of("delta")} == {"headline", "reasoning"}
    assert len(events.of("delta")) > 3
    assert events.last["outputs"]["headline"] == "A long title"


async def test_versions(asker: Asker, model: ScriptedModel, name: str) -> None:
    """A program is put, run by its name, changed, pinned, rolled back and deleted."""
    model.reply_with(lambda request: chat(answer=_instructions(request)))
    first = await put(asker, name, PREDICT | {"instructions": "One."}, note="a")
    second = await put(
        asker, name, PREDICT | {"instructions": "Two."}, expected_version=1
    )

    newest = await asker.ask("run", run(name))
    pinned = await asker.ask("run", run(f"{name}@1"))
    stale = await put(asker, name, PREDICT, expected_version=1)
    old = (await asker.ask("program.get", {"name": name, "version": 1})).body
    back = await put(asker, name, old["outputs"]["specification"])
    rolled = await asker.ask("run", run(name))
    await asker.ask("program.delete", {"name": name, "expected_version": 3})
    gone = await asker.ask("run", run(f"{name}@1"))
    again = await put(asker, name, PREDICT)

    assert first["outputs"]["version"] == 1
    assert second["outputs"]["versions"] == [1, 2]
    assert newest.body["outputs"] == {"answer": "Two."}
    assert pinned.body["outputs"] == {"answer": "One."}
    assert (stale["code"], stale["field"]) == ("conflict", "expected_version")
    assert old["outputs"]["note"] == "a"
    assert back["outputs"]["version"] == 3
    assert back["outputs"]["digest"] == first["outputs"]["digest"]
    assert rolled.body["outputs"] == {"answer": "One."}
    assert gone.code == "not_found"
    assert again["outputs"]["version"] == 4
    assert again["outputs"]["versions"] == [4]


def _instructions(request: Received) -> str:
    return request.text("system").rsplit("objective is: ")[-1].strip()


async def test_only_one_put_wins(asker: Asker, name: str) -> None:
    """Of puts that expect the same version one is stored, the others are told."""
    puts = [put(asker, name, PREDICT, expected_version=0) for _ in range(5)]

    found = await asyncio.gather(*puts)

    assert [one["type"] for one in found].count("done") == 1
    assert {one.get("code") for one in found} == {None, "conflict"}


async def test_names_are_pinned(asker: Asker, model: ScriptedModel, name: str) -> None:
    """What a stored program names stays the version that it was."""
    model.reply_with(lambda request: chat(answer=_instructions(request)))
    await put(asker, name, PREDICT | {"instructions": "Inner one."})
    outer = {"module": "chain", "steps": [{"program": name}]}
    stored = await put(asker, f"{name}-outer", outer)
    await put(asker, name, PREDICT | {"instructions": "Inner two."})

    found = await asker.ask("run", run(f"{name}-outer"))

    steps = stored["outputs"]["specification"]["steps"]
    assert steps[0]["program"] == f"{name}@1"
    assert found.body["outputs"] == {"answer": "Inner one."}


async def test_tenants_are_apart(asker: Asker, stack: Stack, name: str) -> None:
    """A tenant sees its own programs and nobody else's."""
    acme = Asker(asker.bus, Subjects(stack.prefix, "acme"))
    await put(asker, name, PREDICT)

    theirs = await acme.ask("run", run(name))
    listed = await acme.ask("program.list", {})
    ours = await asker.ask("program.list", {"after": name[:-1], "limit": 500})

    assert theirs.code == "not_found"
    assert name not in [one["name"] for one in listed.body["outputs"]["programs"]]
    assert name in [one["name"] for one in ours.body["outputs"]["programs"]]


async def test_describe(asker: Asker, name: str) -> None:
    """A program says what it takes, gives, calls and needs."""
    learned = dspy.Predict("summary -> title").dump_state()
    learned["demos"] = [{"summary": "s", "title": "t"}]
    tool = {"name": "look", "subject": asker.subjects.tool("look")}
    await put(asker, name, {"module": "react", "signature": QA, "tools": [tool]})
    program = {
        "module": "chain",
        "steps": [
            {"program": {"module": "rlm", "signature": "text: list[str] -> summary"}},
            {
                "program": {
                    "module": "predict",
                    "signature": "summary -> title",
                    "state": learned,
                }
            },
            {"program": name, "inputs": {"question": "title"}},
        ],
    }

    found = (await asker.ask("program.describe", {"program": program})).body["outputs"]
    stored = (await asker.ask("program.describe", {"program": name})).body["outputs"]

    assert found["inputs"]["properties"] == {
        "text": {"type": "array", "items": {"type": "string"}}
    }
    assert found["inputs"]["required"] == ["text"]
    assert list(found["outputs"]["properties"]) == ["trajectory", "reasoning", "answer"]
    paths = [one["path"] for one in found["predictors"]]
    assert paths[1] == "program.steps[1].program"
    assert [one["demos"] for one in found["predictors"]] == [0, 1, 0]
    assert found["predictors"][1]["learned"] == ["self"]
    assert [one["name"] for one in found["tools"]] == ["look"]
    assert found["programs"] == [name]
    assert found["needs"] == ["code_interpreter"]
    assert found["dspy"] == ">=3.1.3"
    assert (stored["name"], stored["version"]) == (name, 1)


def _nested(depth: int) -> Any:
    program: Any = PREDICT
    for _ in range(depth):
        program = {"module": "chain", "steps": [{"program": program}]}
    return program


def _state(**changes: Any) -> Any:
    state = dspy.Predict(QA).dump_state() | changes
    return PREDICT | {"state": state}


BAD: dict[str, tuple[Any, str, str]] = {
    "no-module": ({"signature": QA}, "bad_request", "program"),
    "module": ({"module": "predikt"}, "bad_request", "program.module"),
    "field": (PREDICT | {"signatur": 1}, "bad_request", "program.signatur"),
    "format": (PREDICT | {"format": 2}, "bad_request", "program.format"),
    "signature": (
        PREDICT | {"signature": "question -> answer: os.system"},
        "invalid_signature",
        "program.signature.answer",
    ),
    "reasoning": (
        {"module": "chain_of_thought", "signature": "question -> reasoning"},
        "invalid_signature",
        "program.signature",
    ),
    "demo": (PREDICT | {"demos": [{"x": 1}]}, "invalid_inputs", "program.demos[0].x"),
    "deep": (_nested(9), "bad_request", "program" + ".steps[0].program" * 8),
    "many": (
        {"module": "parallel", "steps": [{"program": PREDICT}] * 65},
        "bad_request",
        "program.steps[63].program",
    ),
    "iterations": (
        {"module": "react", "signature": QA, "tools": [], "max_iters": 1000},
        "bad_request",
        "program.max_iters",
    ),
    "key": (
        PREDICT | {"config": {"api_key": "x"}},
        "bad_request",
        "program.config.api_key",
    ),
    "name": ("a.b", "bad_request", "program"),
    "unknown-name": ("nobody-put-this", "not_found", "program"),
    "no-steps": ({"module": "chain", "steps": []}, "bad_request", "program.steps"),
    "wire": (
        {"module": "chain", "steps": [{"program": PREDICT, "inputs": {"q": "x"}}]},
        "bad_request",
        "program.steps[0].inputs",
    ),
    "twice": (
        {"module": "parallel", "steps": [{"program": PREDICT}] * 2},
        "bad_request",
        "program.steps[1]",
    ),
    "output": (
        {"module": "chain", "steps": [{"program": PREDICT}], "outputs": ["nothing"]},
        "bad_request",
        "program.outputs",
    ),
    "reward": (
        {
            "module": "best_of_n",
            "program": PREDICT,
            "attempts": 2,
            "threshold": 1.0,
            "reward": {"metric": "f2", "field": "answer", "answers": []},
        },
        "bad_request",
        "program.reward.metric",
    ),
    "schema": (
        {
            "module": "react",
            "signature": QA,
            "tools": [{"name": "t", "subject": "a.b", "schema": {"type": "array"}}],
        },
        "bad_request",
        "program.tools[0].schema",
    ),
    "taken-name": (
        {
            "module": "react",
            "signature": QA,
            "tools": [{"name": "finish", "subject": "a.b"}],
        },
        "bad_request",
        "program.tools[0].name",
    ),
    "python": ({"module": "python", "name": "os"}, "not_found", "program.name"),
    "api-base": (
        _state(lm={"model": "openai/x", "api_base": "http://evil"}),
        "forbidden",
        "program.state.lm.api_base",
    ),
    "api-key": (
        _state(lm={"model": "openai/x", "api_key": "sk"}),
        "forbidden",
        "program.state.lm.api_key",
    ),
    "class": (
        _state(lm={"model": "openai/x", "_dspy_lm_class": "os.system"}),
        "forbidden",
        "program.state.lm._dspy_lm_class",
    ),
    "pickle": (_state(pickle="gASV"), "bad_request", "program.state.pickle"),
    "other-predictor": (
        PREDICT | {"state": {"extract": dspy.Predict(QA).dump_state()}},
        "bad_request",
        "program.state.extract",
    ),
    "other-signature": (
        PREDICT | {"state": dspy.Predict("a, b -> c").dump_state()},
        "bad_request",
        "program.state.signature.fields",
    ),
    "marker": (
        _state(
            signature={
                "instructions": "<<CUSTOM-TYPE-START-IDENTIFIER>>",
                "fields": [],
            }
        ),
        "bad_request",
        "program.state.signature",
    ),
}


@pytest.mark.parametrize("name", BAD)
async def test_faults_are_named(asker: Asker, model: ScriptedModel, name: str) -> None:
    """A specification at fault is refused by the path of the fault; nobody is asked."""
    program, code, field = BAD[name]

    found = await asker.ask("run", run(program))

    assert (found.code, found.body["field"]) == (code, field)
    assert found.body["message"]
    assert not model.requests


INPUTS: dict[str, tuple[Any, str]] = {
    "missing": ({}, "inputs.text"),
    "unknown": ({"text": "a", "more": 1}, "inputs.more"),
    "type": ({"text": 3}, "program.steps[0].program.inputs.text"),
}


@pytest.mark.parametrize("name", INPUTS)
async def test_inputs_are_checked(
    asker: Asker, model: ScriptedModel, name: str
) -> None:
    """Inputs that do not fit a composition are refused by their names."""
    inputs, field = INPUTS[name]

    found = await asker.ask("run", run(CHAIN, inputs))

    assert (found.code, found.body["field"]) == ("invalid_inputs", field)
    assert not model.requests


async def test_a_stored_program_is_sound(asker: Asker, name: str) -> None:
    """What could not be run is not stored."""
    unsound = await put(asker, name, CHAIN | {"outputs": ["nothing"]})
    dangling = await put(
        asker, name, {"module": "chain", "steps": [{"program": f"{name}-not"}]}
    )
    tampered = await put(asker, name, _state(lm={"api_base": "http://evil"}))
    dotted = await put(asker, "a.b", PREDICT)

    assert unsound["code"] == "bad_request"
    assert dangling["code"] == "not_found"
    assert tampered["code"] == "forbidden"
    assert "api_base" in tampered["message"]
    assert dotted["code"] == "bad_request"


async def test_nothing_stale_is_kept(
    asker: Asker, model: ScriptedModel, name: str
) -> None:
    """An answer by name is not given again once the program has changed."""
    model.reply_with(lambda request: chat(answer=_instructions(request)))
    await put(asker, name, PREDICT | {"instructions": "One."})
    first = await asker.ask("run", run(name), dspex_cache="use")
    await put(asker, name, PREDICT | {"instructions": "Two."})

    second = await asker.ask("run", run(name), dspex_cache="use")
    inline = [await asker.ask("run", run(PREDICT), dspex_cache="use") for _ in range(2)]

    assert first.body["outputs"] == {"answer": "One."}
    assert second.body["outputs"] == {"answer": "Two."}
    assert [one.body["metadata"]["cache_hit"] for one in inline] == [False, True]


MODULE = """
import dspy

class Shout(dspy.Module):
    def __init__(self):
        super().__init__()
        self.answer = dspy.Predict("question -> answer")

    def forward(self, question):
        return dspy.Prediction(loud=self.answer(question=question).answer.upper())
"""


async def test_programs_of_the_configuration(
    own: Stack, ask: Asker, model: ScriptedModel, tmp_path: Path
) -> None:
    """A program in Python runs by the name that the configuration gives it."""
    (tmp_path / "shouting.py").write_text(MODULE)
    config = tmp_path / "dspex.toml"
    config.write_text('[programs.shout]\npath = "shouting:Shout"\n')
    environ = {"DSPEX_CONFIG": str(config), "PYTHONPATH": str(tmp_path)}
    model.reply_with(chat(answer="paris"))
    await own.start(
        Program("dspex.router"),
        Program("dspex.services.state", environ=environ),
        Program("dspex.services.worker", "--pool", "light", environ=environ),
    )
    await own.ready(workers=1, native=0, state=1)

    named = await ask.ask("run", run("shout"))
    step = {"program": "shout", "outputs": {"loud": "answer"}}
    chained = await ask.ask("run", run({"module": "chain", "steps": [step]}))
    by_path = await ask.ask("run", run({"module": "python", "name": "shouting:Shout"}))
    taken = await put(ask, "shout", PREDICT)

    assert named.body["outputs"] == {"loud": "PARIS"}
    assert chained.body["outputs"] == {"answer": "PARIS"}
    assert by_path.code == "not_found"
    assert taken["code"] == "conflict"
