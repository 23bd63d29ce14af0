"""The bodies and outputs of the native operations, one pair per operation."""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct, field

from dspex.contracts.requests import Adapter, Body
from dspex.contracts.signatures import Fault, Signature, SignatureSpec

Module = Literal["predict", "chain_of_thought", "react"]

NEWEST_DIALECT = "3.4.1"
"""The release of DSPy whose bytes are written where none is named."""


class ParseSignature(Body, frozen=True, kw_only=True):
    """Read a signature and say what it means.

    Attributes:
        signature: Text, or its structured form.
        instructions: What to do, instead of the signature's own instructions.
    """

    signature: str | SignatureSpec
    instructions: str | None = None


class ParsedSignature(Struct, frozen=True, kw_only=True):
    """Outputs of ``signature.parse``.

    Attributes:
        signature: What it means; may be sent back wherever a signature is asked for.
    """

    signature: Signature


class DescribeSignature(Body, frozen=True, kw_only=True):
    """Say what a signature means, and what values go in and come out.

    Attributes:
        signature: Text, or its structured form.
        instructions: What to do, instead of the signature's own instructions.
    """

    signature: str | SignatureSpec
    instructions: str | None = None


class DescribedSignature(Struct, frozen=True, kw_only=True):
    """Outputs of ``signature.describe``.

    Attributes:
        signature: What it means; may be sent back wherever a signature is asked for.
        text: The signature as text; null where text cannot say all of it, such as a
            default or a constraint.
        inputs: JSON Schema of the object that holds the inputs.
        outputs: JSON Schema of the object that holds the outputs.
        digest: SHA-256 of its meaning, in hexadecimal: equal for two signatures
            exactly if they have the same instructions and fields.
    """

    signature: Signature
    text: str | None
    inputs: dict[str, Any]
    outputs: dict[str, Any]
    digest: str


class ValidateSignature(Body, frozen=True, kw_only=True):
    """Check values against one side of a signature.

    Attributes:
        signature: Text, or its structured form.
        values: A value per field.
        side: Which fields: ``inputs`` or ``outputs``.
        mode: ``strict`` takes values as they are; ``lax`` also converts what
            stands for a value, such as ``"3"`` for an ``int``.
    """

    signature: str | SignatureSpec
    values: dict[str, Any]
    side: Literal["inputs", "outputs"]
    mode: Literal["strict", "lax"] = "strict"


class ValidatedSignature(Struct, frozen=True, kw_only=True):
    """Outputs of ``signature.validate``.

    Attributes:
        valid: Whether there are no faults.
        values: The values, defaults filled in and, in lax mode, converted.
        errors: The faults, the first twenty of them.
    """

    valid: bool
    values: dict[str, Any]
    errors: list[Fault]


class ToolSpec(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A function that a program may call.

    Attributes:
        name: What the language model calls it.
        description: What it does, for the language model.
        schema: JSON Schema of the object that holds its arguments.
        subject: Where it listens; not needed to render a prompt.
    """

    name: str
    description: str = ""
    schema: dict[str, Any] = field(default_factory=dict)
    subject: str = ""


class RenderPrompt(Body, frozen=True, kw_only=True):
    """Write the messages that DSPy would send to a language model.

    Attributes:
        signature: Text, or its structured form.
        inputs: A value per input field; those left out are skipped, as in DSPy.
        instructions: What to do, instead of the signature's own instructions.
        demos: Worked examples, each with values of input and output fields.
        adapter: How the prompt is written.
        dialect: Release of DSPy whose bytes to write: 2.6.27, or 3.0.0 and newer.
        module: Whose prompt: ``predict``, ``chain_of_thought`` (an output
            ``reasoning`` first) or ``react`` (its next thought and tool call).
        tools: What ``react`` may call, in order; its own ``finish`` is added.
        trajectory: What ``react`` has done so far: ``thought_0``, ``tool_name_0``, ….
    """

    signature: str | SignatureSpec
    inputs: dict[str, Any]
    instructions: str | None = None
    demos: list[dict[str, Any]] = field(default_factory=list)
    adapter: Adapter = "chat"
    dialect: str = NEWEST_DIALECT
    module: Module = "predict"
    tools: list[ToolSpec] = field(default_factory=list)
    trajectory: dict[str, Any] = field(default_factory=dict)


class PromptMessage(Struct, frozen=True, kw_only=True):
    """One message to a language model.

    Attributes:
        role: ``system``, ``user`` or ``assistant``.
        content: Its text, or blocks where it holds an image, a file or the like.
    """

    role: Literal["system", "user", "assistant"]
    content: str | list[dict[str, Any]]


class RenderedPrompt(Struct, frozen=True, kw_only=True):
    """Outputs of ``prompt.render``.

    Attributes:
        messages: In the order they are sent.
    """

    messages: list[PromptMessage]


class ParseResponse(Body, frozen=True, kw_only=True):
    """Read a language model's reply as DSPy would.

    Attributes:
        signature: Text, or its structured form.
        text: The reply.
        instructions: What to do, instead of the signature's own instructions.
        adapter: How the reply is written.
        dialect: Release of DSPy whose reading to follow: 2.6.27, or 3.0.0 and newer.
        module: Whose reply: ``predict``, ``chain_of_thought`` or ``react``.
        tools: What ``react`` may call.
    """

    signature: str | SignatureSpec
    text: str
    instructions: str | None = None
    adapter: Adapter = "chat"
    dialect: str = NEWEST_DIALECT
    module: Module = "predict"
    tools: list[ToolSpec] = field(default_factory=list)


class ParsedResponse(Struct, frozen=True, kw_only=True):
    """Outputs of ``response.parse``.

    Attributes:
        fields: A value per output field.
    """

    fields: dict[str, Any]


class RenderTemplate(Body, frozen=True, kw_only=True):
    """Fill a Liquid template; it can read values and do nothing else.

    Attributes:
        template: The text, with ``{{ value }}`` and ``{% if %}``, ``{% for %}``.
        values: What the template names.
    """

    template: str
    values: dict[str, Any] = field(default_factory=dict)


class RenderedTemplate(Struct, frozen=True, kw_only=True):
    """Outputs of ``template.render``.

    Attributes:
        text: The template with the values in their places.
    """

    text: str


class ValidateSchema(Body, frozen=True, kw_only=True):
    """Check a value against a JSON Schema, draft 2020-12 or 7.

    Attributes:
        schema: The schema; ``$schema`` says which draft, 2020-12 if absent.
        value: Any JSON value.
    """

    schema: dict[str, Any] | bool
    value: Any


class SchemaFault(Struct, frozen=True, kw_only=True):
    """One thing wrong with a value.

    Attributes:
        path: JSON Pointer into the value; empty for the value itself.
        keyword: The keyword it breaks, such as ``type``.
        schema_path: JSON Pointer to that keyword in the schema.
        message: What is wrong, as a sentence.
    """

    path: str
    keyword: str
    schema_path: str
    message: str


class ValidatedSchema(Struct, frozen=True, kw_only=True):
    """Outputs of ``schema.validate``.

    Attributes:
        valid: Whether there are no faults.
        errors: The faults, the first hundred of them.
    """

    valid: bool
    errors: list[SchemaFault]


class ScoreMetric(Body, frozen=True, kw_only=True):
    """Score one prediction.

    Attributes:
        metric: Name of the metric, such as ``exact_match``.
        prediction: What was answered; most metrics take a text.
        answers: What would be right: a value, or a list of alternatives.
        parameters: What the metric lets one choose, such as ``tolerance``.
    """

    metric: str
    prediction: Any
    answers: Any
    parameters: dict[str, Any] = field(default_factory=dict)


class ScoredMetric(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Outputs of ``metric.score``.

    Attributes:
        score: Usually 0 to 1, the more the better.
        details: What else the metric says, such as precision and recall.
    """

    score: float
    details: dict[str, Any] = field(default_factory=dict)


class ScoreBatch(Body, frozen=True, kw_only=True):
    """Score many predictions; also takes an Arrow stream with these columns.

    Attributes:
        metric: Name of the metric.
        predictions: One per example; as an Arrow column, ``prediction``.
        answers: One per example, a value or a list of alternatives; ``answers``.
        parameters: What the metric lets one choose.
    """

    metric: str
    predictions: list[Any]
    answers: list[Any]
    parameters: dict[str, Any] = field(default_factory=dict)


class ScoredBatch(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Outputs of ``metric.batch``.

    Attributes:
        scores: One per example; as an Arrow column, ``score``.
        mean: Their mean, 0 without any.
        details: What else the metric says of all examples together, such as a
            classification report.
    """

    scores: list[float]
    mean: float
    details: dict[str, Any] = field(default_factory=dict)
