"""One example of every operation on programs and tools: its body, and its outputs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dspex.contracts.program_functions import Reward, Tool
from dspex.contracts.program_requests import (
    DeleteProgram,
    DescribeProgram,
    GetProgram,
    ListPrograms,
    ListTools,
    PutProgram,
    React,
    RunProgram,
)
from dspex.contracts.program_specs import (
    ChainOfThoughtSpec,
    ChainSpec,
    PredictSpec,
    RefineSpec,
    Step,
)

if TYPE_CHECKING:
    from dspex.contracts.requests import Body

_AT = 1767225600000.125
_DIGEST = "4f0b5c0d7f6f2c1f5ea8b9c66d0d0e6a9c1b7e2d3f4a5b6c7d8e9f0a1b2c3d4e"
_SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
_TOOL = Tool(
    name="weather",
    description="What the weather is like in a city.",
    schema=_SCHEMA,
    subject="dspex.v1.tool.weather",
)
_ANSWER = ChainOfThoughtSpec(
    signature="question -> answer: int",
    instructions="Count.",
    demos=[{"question": "How many legs has a spider?", "answer": 8}],
)

REQUESTS: dict[str, Body] = {
    "react": React(
        signature="question -> answer",
        inputs={"question": "Do I need an umbrella in Bergen?"},
        tools=[_TOOL],
        max_iters=5,
    ),
    "run": RunProgram(
        program=ChainSpec(
            steps=[
                Step(
                    program=PredictSpec(signature="text -> summary"),
                ),
                Step(
                    program=RefineSpec(
                        program=PredictSpec(signature="summary -> title"),
                        attempts=3,
                        reward=Reward(metric="f1", field="title", input="summary"),
                        threshold=0.5,
                    ),
                    outputs={"title": "headline"},
                ),
            ],
            outputs=["summary", "headline"],
        ),
        inputs={"text": "A long story."},
    ),
    "program.put": PutProgram(
        name="counter", specification=_ANSWER, expected_version=2, note="with a demo"
    ),
    "program.get": GetProgram(name="counter", version=3),
    "program.list": ListPrograms(limit=10),
    "program.describe": DescribeProgram(program="counter@3"),
    "program.delete": DeleteProgram(name="counter", expected_version=3),
    "tool.list": ListTools(wait_s=0.25),
}
"""The body of a request, by operation."""

_VERSION = {
    "name": "counter",
    "version": 3,
    "at": _AT,
    "digest": _DIGEST,
    "module": "chain_of_thought",
    "note": "with a demo",
}
_STORED = _VERSION | {
    "specification": {
        "module": "chain_of_thought",
        "format": 1,
        "signature": "question -> answer: int",
        "instructions": "Count.",
        "demos": [{"question": "How many legs has a spider?", "answer": 8}],
    },
    "versions": [1, 2, 3],
}

OUTPUTS: dict[str, dict[str, Any]] = {
    "react": {
        "trajectory": {
            "thought_0": "I need the weather.",
            "tool_name_0": "weather",
            "tool_args_0": {"city": "Bergen"},
            "observation_0": {"rain_mm": 12},
            "thought_1": "It rains.",
            "tool_name_1": "finish",
            "tool_args_1": {},
            "observation_1": "Completed.",
        },
        "reasoning": "12 mm of rain are expected.",
        "answer": "Yes",
    },
    "run": {"summary": "A story.", "headline": "A story"},
    "program.put": _STORED,
    "program.get": _STORED,
    "program.list": {"programs": [_VERSION], "more": False},
    "program.describe": {
        "module": "chain_of_thought",
        "inputs": {
            "type": "object",
            "properties": {"question": {"type": "string"}},
            "required": ["question"],
            "additionalProperties": False,
        },
        "outputs": {
            "type": "object",
            "properties": {"reasoning": {}, "answer": {"type": "integer"}},
            "required": ["reasoning", "answer"],
            "additionalProperties": False,
        },
        "predictors": [],
        "tools": [],
        "programs": ["counter@3"],
        "needs": [],
        "dspy": ">=2.6",
        "name": "counter",
        "version": 3,
    },
    "program.delete": {"name": "counter", "version": 3},
    "tool.list": {
        "tools": [
            {
                "name": "weather",
                "description": "What the weather is like in a city.",
                "schema": _SCHEMA,
                "subject": "dspex.v1.tool.weather",
                "service": "weather",
                "instances": 1,
            }
        ]
    },
}
"""The outputs that answer the request of the same operation."""
