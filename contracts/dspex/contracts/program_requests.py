"""Bodies and outputs of the operations on programs and tools."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, Struct, field

from dspex.contracts.program_functions import Name, Tools
from dspex.contracts.program_parts import is_self_contained
from dspex.contracts.program_specs import Iterations, Program, ReActSpec, Specification
from dspex.contracts.requests import Adapter, Body, LmConfig
from dspex.contracts.signatures import Signature, SignatureSpec
from dspex.contracts.versions import Record, Version


class React(Body, frozen=True, kw_only=True):
    """Fill a signature's outputs with an agent that calls tools.

    Attributes:
        signature: Text such as ``question -> answer: int``, or its structured form.
        inputs: A value per input field.
        tools: What it may call.
        max_iters: Calls at most.
        instructions: What to do, instead of the signature's own instructions.
        lm: Name of a language model in the workers' configuration.
        config: What to change about it.
        adapter: How the prompt is written; default: the language model's own.
    """

    signature: str | SignatureSpec
    inputs: dict[str, Any]
    tools: Tools
    max_iters: Iterations = 20
    instructions: str | None = None
    lm: str | None = None
    config: LmConfig = field(default_factory=LmConfig)
    adapter: Adapter | None = None

    @property
    def repeatable(self) -> bool:
        """Not where it calls functions, which act."""
        return not self.tools


def as_specification(body: React) -> ReActSpec:
    """What a ``react`` runs, as a program."""
    return ReActSpec(
        signature=body.signature,
        instructions=body.instructions,
        tools=body.tools,
        max_iters=body.max_iters,
        adapter=body.adapter,
    )


class RunProgram(Body, frozen=True, kw_only=True):
    """Run a program.

    Attributes:
        program: A specification, or the name of a stored program: ``name`` for its
            newest version, ``name@3`` for that one.
        inputs: A value per input of the program.
        lm: Name of a language model, for all in the program that name none.
        config: What to change about it.
    """

    program: Program
    inputs: dict[str, Any]
    lm: str | None = None
    config: LmConfig = field(default_factory=LmConfig)

    @property
    def repeatable(self) -> bool:
        """Not where it names programs, which may change, or functions, which act."""
        return is_self_contained(self.program)


class PutProgram(Body, frozen=True, kw_only=True):
    """Store a new version of a program.

    Attributes:
        name: Of the program; letters, digits, ``_`` and ``-``.
        specification: What it is. Programs that it names are pinned to the versions
            they have now.
        expected_version: Store it only if this is the newest version now; 0: only if
            there is none.
        note: For people.
        score: How good it is, percent, if that is known.
    """

    name: Name
    specification: Specification
    expected_version: Annotated[int, Meta(ge=0)] | None = None
    note: Annotated[str, Meta(max_length=1000)] = ""
    score: float | None = None


class GetProgram(Body, frozen=True, kw_only=True):
    """Ask for a stored program.

    Attributes:
        name: Of the program.
        version: Which; default: the newest.
    """

    name: Name
    version: Version | None = None


class DescribeProgram(Body, frozen=True, kw_only=True):
    """Ask what a program takes and gives.

    Attributes:
        program: A specification, or the name of a stored program.
    """

    program: Program


class DeleteProgram(Body, frozen=True, kw_only=True):
    """Delete a program; its version numbers are not given again.

    Attributes:
        name: Of the program.
        expected_version: Delete it only if this is the newest version now.
    """

    name: Name
    expected_version: Version | None = None


class ListPrograms(Body, frozen=True, kw_only=True):
    """Ask which programs there are.

    Attributes:
        after: Begin behind this name.
        limit: Programs at most.
    """

    after: Annotated[str, Meta(max_length=64)] = ""
    limit: Annotated[int, Meta(ge=1, le=500)] = 100


class ListTools(Body, frozen=True, kw_only=True):
    """Ask which tools are offered now.

    Attributes:
        wait_s: Seconds to wait for those who offer some.
    """

    wait_s: Annotated[float, Meta(gt=0, le=5)] = 0.5


class StoredVersion(Struct, frozen=True, kw_only=True):
    """One version of a stored program.

    Attributes:
        name: Of the program.
        version: Its number: 1, 2, ...
        at: When it was stored, unix milliseconds.
        digest: SHA-256 of the specification, in hexadecimal.
        note: For people.
        module: Which module or composition it is.
        score: How good it is, percent, if that was said.
    """

    name: str
    version: int
    at: float
    digest: str
    module: str
    note: str = ""
    score: float | None = None


class StoredProgram(StoredVersion, frozen=True, kw_only=True):
    """A stored program.

    Attributes:
        specification: What it is.
        versions: The versions that are kept, oldest first.
    """

    specification: dict[str, Any]
    versions: list[int]


class DeletedProgram(Struct, frozen=True, kw_only=True):
    """A program that is gone.

    Attributes:
        name: Of the program.
        version: The newest version there was.
    """

    name: str
    version: int


class ProgramList(Struct, frozen=True, kw_only=True):
    """The programs there are.

    Attributes:
        programs: Their newest versions, by name.
        more: Whether there are more behind the last.
    """

    programs: list[StoredVersion]
    more: bool = False


class Predictor(Struct, frozen=True, kw_only=True):
    """Where a program asks a language model.

    Attributes:
        path: Of the specification in the program; empty: the program itself.
        module: Which module of DSPy it is.
        signature: What it fills, as ``signature.parse`` answers it.
        demos: How many worked examples it has.
        learned: Names of the predictors with a learned state.
        lm: The language model it names; empty: that of the request.
    """

    path: str
    module: str
    signature: Signature
    demos: int = 0
    learned: list[str] = []
    lm: str = ""


class DescribedProgram(Struct, frozen=True, kw_only=True):
    """What a program takes and gives.

    Attributes:
        module: Which module or composition it is.
        inputs: JSON Schema of its inputs.
        outputs: JSON Schema of its outputs.
        predictors: Where it asks a language model.
        tools: What it may call.
        programs: The stored programs it names, with their versions.
        needs: What a worker must have: ``code_interpreter``, ``numpy``,
            ``python:<name>`` for a program of its configuration, or ``mcp:<name>``
            for an MCP server of it.
        dspy: Releases of DSPy that have all its modules, such as ``>=2.6``.
        gpu_memory_mib: GPU memory that a run of it needs, MiB.
        name: Of the stored program; empty for a specification.
        version: Of the stored program; 0 for a specification.
    """

    module: str
    inputs: dict[str, Any]
    outputs: dict[str, Any]
    predictors: list[Predictor]
    tools: Tools
    programs: list[str]
    needs: list[str]
    dspy: str
    gpu_memory_mib: int = 0
    name: str = ""
    version: int = 0


class OfferedTool(Struct, frozen=True, kw_only=True):
    """A tool that somebody offers now.

    Attributes:
        name: What a model calls it.
        description: What a model is told about it.
        schema: JSON Schema of its arguments.
        subject: Where it is called.
        service: Name of the service that offers it.
        instances: How many offer it.
        mcp: How programs name it, if it is one of an MCP server: ``mcp:files/read``.
    """

    name: str
    description: str
    schema: dict[str, Any]
    subject: str
    service: str
    instances: int = 1
    mcp: str = ""


class ToolList(Struct, frozen=True, kw_only=True):
    """The tools that are offered now.

    Attributes:
        tools: By name.
    """

    tools: list[OfferedTool]


class StoredRecord(Record, frozen=True, kw_only=True):
    """What is stored of one version: a value of the bucket of programs.

    Attributes:
        specification: What it is; absent: the program was deleted here.
        score: How good it is, percent, if that was said.
    """

    specification: dict[str, Any] | None = None
    score: float | None = None
