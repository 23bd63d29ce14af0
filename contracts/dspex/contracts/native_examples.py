"""One example of every native operation: its body, and the outputs of its reply."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dspex.contracts.native_requests import (
    DescribeSignature,
    ParseResponse,
    ParseSignature,
    RenderPrompt,
    RenderTemplate,
    ScoreBatch,
    ScoreMetric,
    ValidateSchema,
    ValidateSignature,
)

if TYPE_CHECKING:
    from dspex.contracts.requests import Body

REQUESTS: dict[str, Body] = {
    "signature.parse": ParseSignature(
        signature="question -> answer: int", instructions="Count."
    ),
    "signature.describe": DescribeSignature(
        signature="question -> answer: int", instructions="Count."
    ),
    "signature.validate": ValidateSignature(
        signature="question -> answer: int", values={"answer": "3"}, side="outputs"
    ),
    "prompt.render": RenderPrompt(
        signature="question -> answer: int",
        inputs={"question": "How many legs has a spider?"},
        instructions="Count.",
    ),
    "response.parse": ParseResponse(
        signature="question -> answer: int",
        text="[[ ## answer ## ]]\n8\n\n[[ ## completed ## ]]",
    ),
    "template.render": RenderTemplate(
        template="{% for name in names %}Hello {{ name }}! {% endfor %}",
        values={"names": ["Ada", "Bob"]},
    ),
    "schema.validate": ValidateSchema(
        schema={"type": "object", "properties": {"age": {"type": "integer"}}},
        value={"age": "31"},
    ),
    "metric.score": ScoreMetric(
        metric="f1",
        prediction="the Eiffel Tower in Paris",
        answers=["Eiffel Tower", "Tour Eiffel"],
    ),
    "metric.batch": ScoreBatch(
        metric="exact_match",
        predictions=["Paris", "the Berlin"],
        answers=["Paris", ["Bonn", "Berlin"]],
    ),
}
"""The body of a request, by operation."""

OUTPUTS: dict[str, dict[str, Any]] = {
    "signature.parse": {
        "signature": {
            "instructions": "Count.",
            "fields": [
                {
                    "name": "question",
                    "kind": "input",
                    "type": "str",
                    "schema": {"type": "string"},
                    "description": "${question}",
                    "prefix": "Question:",
                },
                {
                    "name": "answer",
                    "kind": "output",
                    "type": "int",
                    "schema": {"type": "integer"},
                    "description": "${answer}",
                    "prefix": "Answer:",
                },
            ],
        }
    },
    "signature.describe": {
        "signature": {
            "instructions": "Count.",
            "fields": [
                {
                    "name": "question",
                    "kind": "input",
                    "type": "str",
                    "schema": {"type": "string"},
                    "description": "${question}",
                    "prefix": "Question:",
                },
                {
                    "name": "answer",
                    "kind": "output",
                    "type": "int",
                    "schema": {"type": "integer"},
                    "description": "${answer}",
                    "prefix": "Answer:",
                },
            ],
        },
        "text": None,
        "inputs": {
            "type": "object",
            "properties": {"question": {"type": "string"}},
            "required": ["question"],
            "additionalProperties": False,
        },
        "outputs": {
            "type": "object",
            "properties": {"answer": {"type": "integer"}},
            "required": ["answer"],
            "additionalProperties": False,
        },
        "digest": "e8532e1e7868f52b7137be98948725d908df3b44b894771a9578e17b24192e7c",
    },
    "signature.validate": {
        "valid": False,
        "values": {},
        "errors": [
            {
                "path": "outputs.answer",
                "found": '"3" (string)',
                "expected": "int (a whole number)",
                "message": 'outputs.answer is "3" '
                "(string); allowed: int (a "
                "whole number). The lax mode "
                "reads it as 3 (number).",
            }
        ],
    },
    "prompt.render": {
        "messages": [
            {
                "role": "system",
                "content": "Your input fields are:\n"
                "1. `question` (str):\n"
                "Your output fields are:\n"
                "1. `answer` (int):\n"
                "All interactions will be "
                "structured in the following way, "
                "with the appropriate values "
                "filled in.\n"
                "\n"
                "[[ ## question ## ]]\n"
                "{question}\n"
                "\n"
                "[[ ## answer ## ]]\n"
                "{answer}        # note: the value "
                "you produce must be a single int "
                "value\n"
                "\n"
                "[[ ## completed ## ]]\n"
                "In adhering to this structure, "
                "your objective is: \n"
                "        Count.",
            },
            {
                "role": "user",
                "content": "[[ ## question ## ]]\n"
                "How many legs has a spider?\n"
                "\n"
                "Respond with the corresponding "
                "output fields, starting with the "
                "field `[[ ## answer ## ]]` (must "
                "be formatted as a valid Python "
                "int), and then ending with the "
                "marker for `[[ ## completed ## "
                "]]`.",
            },
        ]
    },
    "response.parse": {"fields": {"answer": 8}},
    "template.render": {"text": "Hello Ada! Hello Bob! "},
    "schema.validate": {
        "valid": False,
        "errors": [
            {
                "path": "/age",
                "keyword": "type",
                "schema_path": "/properties/age/type",
                "message": 'Expected integer, not "31" (string).',
            }
        ],
    },
    "metric.score": {
        "score": 0.6666666666666666,
        "details": {"f1": 0.6666666666666666, "precision": 0.5, "recall": 1.0},
    },
    "metric.batch": {"scores": [1.0, 1.0], "mean": 1.0},
}
"""The outputs that answer the request of the same operation."""
