"""The bodies of requests and the outputs of replies, one pair per operation.

Unknown fields of a request are refused by name: a misspelt option that is
silently dropped costs its sender an afternoon.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct, field

from dspex.contracts.signatures import SignatureSpec

Adapter = Literal["chat", "json", "xml"]
ContentType = Literal[
    "application/json",
    "application/msgpack",
    "application/vnd.apache.arrow.stream",
]

MAX_GPU_MIB = 1 << 24
"""GPU memory that can be declared at most, MiB: more than any machine has."""

GpuMib = Annotated[int, Meta(ge=0, le=MAX_GPU_MIB)]


class Options(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a request wants to be treated.

    Attributes:
        accept: Encoding of the reply; default: that of the request.
        priority: Who goes first where requests wait: 1 first, 5 last.
        idempotent: Whether it may run again elsewhere when the process that had it
            is lost; default: what the catalog says of the operation.
        on_disconnect: What happens to a stream that nobody reads any more.
        dspy: Releases of DSPy that may run it, such as ``>=3.0,<3.4``.
        gpu_memory_mib: GPU memory it needs, MiB; who answers has that much free.
    """

    accept: ContentType | None = None
    priority: Annotated[int, Meta(ge=1, le=5)] = 3
    idempotent: bool | None = None
    on_disconnect: Literal["cancel", "continue"] = "cancel"
    dspy: Annotated[str, Meta(max_length=100)] | None = None
    gpu_memory_mib: GpuMib = 0


class Body(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What every body may carry.

    Attributes:
        options: How the request wants to be treated.
    """

    options: Options = field(default_factory=Options)

    @property
    def repeatable(self) -> bool:
        """Whether asking again asks for the same, and changes nothing else."""
        return True


class LmConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a request may change about the language model it uses.

    Everything else (credentials, addresses) belongs to the worker's settings.

    Attributes:
        temperature: Randomness of the sampling, 0 to 2.
        max_tokens: Longest answer, tokens.
        top_p: Nucleus sampling, 0 to 1.
        stop: Texts that end the answer.
        seed: Seed of the sampling, where the provider has one.
        frequency_penalty: -2 to 2.
        presence_penalty: -2 to 2.
        reasoning_effort: For models that reason.
    """

    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    max_tokens: Annotated[int, Meta(ge=1)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    stop: list[str] | None = None
    seed: int | None = None
    frequency_penalty: Annotated[float, Meta(ge=-2, le=2)] | None = None
    presence_penalty: Annotated[float, Meta(ge=-2, le=2)] | None = None
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high"] | None = None


class Predict(Body, frozen=True, kw_only=True):
    """Fill a signature's outputs from its inputs, with one language-model call.

    Attributes:
        signature: Text such as ``question -> answer: int``, or its structured form.
        inputs: A value per input field.
        instructions: What to do, instead of the signature's own instructions.
        demos: Worked examples, each with values of input and output fields.
        lm: Name of a language model in the workers' configuration.
        config: What to change about it.
        adapter: How the prompt is written; default: the language model's own.
    """

    signature: str | SignatureSpec
    inputs: dict[str, Any]
    instructions: str | None = None
    demos: list[dict[str, Any]] = field(default_factory=list)
    lm: str | None = None
    config: LmConfig = field(default_factory=LmConfig)
    adapter: Adapter | None = None
