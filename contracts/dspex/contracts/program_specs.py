"""Programs as data: which modules of DSPy, with what, and how they are wired.

A specification is a JSON object known by its ``module``: a module of DSPy
(``predict``, ``react``, ...) or a composition (``chain``, ``parallel``, ``map``,
``branch``). Where one holds another, the other is a specification too, or the name of
a stored program: ``name`` for the newest version, ``name@3`` for that one.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct, field

from dspex.contracts.program_functions import Name, Remote, Reward, Tools
from dspex.contracts.program_metrics import Metric
from dspex.contracts.requests import Adapter, GpuMib, LmConfig
from dspex.contracts.signatures import SignatureSpec

MAX_DEPTH = 8
"""Specifications inside each other at most, stored programs counted in."""

MAX_PARTS = 64
"""Specifications in one program at most, stored programs counted in."""

MAX_BYTES = 512 * 1024
"""Longest specification, bytes of its JSON."""

Iterations = Annotated[int, Meta(ge=1, le=100)]


class _Spec(
    Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag_field="module",
):
    """What every specification may say.

    Attributes:
        format: Version of this form.
        lm: Name of a language model in the workers' configuration, for it and all in
            it that name none; default: that of the request.
        config: What to change about that language model.
        adapter: How its prompts are written.
        gpu_memory_mib: GPU memory that one run of it needs, MiB.
    """

    format: Literal[1] = 1
    lm: str | None = None
    config: LmConfig = field(default_factory=LmConfig)
    adapter: Adapter | None = None
    gpu_memory_mib: GpuMib = 0


class Signed(_Spec, frozen=True, kw_only=True):
    """A module with a signature.

    Attributes:
        signature: Text such as ``question -> answer: int``, or its structured form.
        instructions: What to do, instead of the signature's own instructions.
        state: What was learned, as DSPy's ``dump_state`` writes it: that of one
            predictor, or an object of them by their names.
    """

    signature: str | SignatureSpec
    instructions: str | None = None
    state: dict[str, Any] | None = None


class PredictSpec(Signed, frozen=True, kw_only=True, tag="predict"):
    """``dspy.Predict``.

    Attributes:
        demos: Worked examples, each with values of input and output fields.
    """

    demos: list[dict[str, Any]] = []


class ChainOfThoughtSpec(Signed, frozen=True, kw_only=True, tag="chain_of_thought"):
    """``dspy.ChainOfThought``: the same, with an output ``reasoning`` first.

    Attributes:
        demos: Worked examples, each with values of input and output fields.
    """

    demos: list[dict[str, Any]] = []


class ReActSpec(Signed, frozen=True, kw_only=True, tag="react"):
    """``dspy.ReAct``: an agent that calls tools.

    Attributes:
        tools: What it may call.
        max_iters: Calls at most.
    """

    tools: Tools
    max_iters: Iterations = 20


class ProgramOfThoughtSpec(Signed, frozen=True, kw_only=True, tag="program_of_thought"):
    """``dspy.ProgramOfThought``: answers by a program that it writes and runs.

    Attributes:
        max_iters: Programs it writes at most.
    """

    max_iters: Iterations = 3


class CodeActSpec(Signed, frozen=True, kw_only=True, tag="code_act"):
    """``dspy.CodeAct``: an agent that acts by writing code.

    Attributes:
        max_iters: Pieces of code it writes at most.
    """

    max_iters: Iterations = 5


class RlmSpec(Signed, frozen=True, kw_only=True, tag="rlm"):
    """``dspy.RLM``: explores large inputs by code that asks language models.

    Attributes:
        tools: What its code may call.
        max_iters: Pieces of code it writes at most.
        max_llm_calls: Questions its code may ask.
        max_output_chars: Of what its code prints, characters it sees at most.
        sub_lm: Name of the language model that its code asks.
    """

    tools: Tools = []
    max_iters: Iterations = 20
    max_llm_calls: Annotated[int, Meta(ge=1, le=1000)] = 50
    max_output_chars: Annotated[int, Meta(ge=1, le=1_000_000)] = 10_000
    sub_lm: str | None = None


class MultiChainComparisonSpec(
    Signed, frozen=True, kw_only=True, tag="multi_chain_comparison"
):
    """``dspy.MultiChainComparison``: one answer from several attempts.

    Attributes:
        attempts: Attempts that are compared.
        temperature: Of the comparison.
        program: What makes the attempts; without it they are the input
            ``completions``, each with ``reasoning`` and the last output.
    """

    attempts: Annotated[int, Meta(ge=1, le=32)] = 3
    temperature: Annotated[float, Meta(ge=0, le=2)] = 0.7
    program: Program | None = None


class KnnSpec(_Spec, frozen=True, kw_only=True, tag="knn"):
    """``dspy.KNN``: the examples most like the inputs, as the output ``examples``.

    Attributes:
        k: Examples it finds.
        trainset: Among these.
        inputs: The fields of the examples that are compared; the inputs it takes.
        vectorizer: Function on a subject: gets ``{"texts": [...]}`` and answers with
            a list of as many vectors.
    """

    k: Annotated[int, Meta(ge=1, le=1000)]
    trainset: Annotated[list[dict[str, Any]], Meta(min_length=1, max_length=10_000)]
    inputs: Annotated[list[str], Meta(min_length=1)]
    vectorizer: Remote


class KnnFewShotSpec(_Spec, frozen=True, kw_only=True, tag="knn_few_shot"):
    """``dspy.KNNFewShot``: a program, with the examples most like its inputs as demos.

    Before each call the examples are found and its demos bootstrapped from them, by
    ``dspy.BootstrapFewShot``, whose arguments these are but for the first five.

    Attributes:
        program: What is run.
        k: Examples that are found.
        trainset: Among these.
        vectorizer: As for ``knn``; it gets the inputs of the program.
        teacher: The program that shows how; default: the program itself.
        metric: What says which answers of the teacher make demos; default: all do.
        metric_threshold: Score from which one does; default: any but 0.
        max_bootstrapped_demos: Demos from runs of the teacher at most.
        max_labeled_demos: Demos from the examples at most.
        max_rounds: Times that an example is tried.
        max_errors: Examples that may fail.
    """

    program: Program
    k: Annotated[int, Meta(ge=1, le=1000)]
    trainset: Annotated[list[dict[str, Any]], Meta(min_length=1, max_length=10_000)]
    vectorizer: Remote
    teacher: Program | None = None
    metric: Metric | None = None
    metric_threshold: float | None = None
    max_bootstrapped_demos: Annotated[int, Meta(ge=0, le=1000)] | None = None
    max_labeled_demos: Annotated[int, Meta(ge=0, le=1000)] | None = None
    max_rounds: Annotated[int, Meta(ge=1, le=10_000)] | None = None
    max_errors: Annotated[int, Meta(ge=1, le=10_000)] | None = None


class EnsembleSpec(_Spec, frozen=True, kw_only=True, tag="ensemble"):
    """``dspy.Ensemble``: several programs on the same inputs.

    Attributes:
        programs: The programs.
        size: How many of them are asked, drawn for each request; default: all.
        reduce: ``majority``: what most of them answer; null: all their answers, as
            the output ``completions``.
        field: The output that is compared; default: the last of the first program.
    """

    programs: Annotated[list[Program], Meta(min_length=1)]
    size: Annotated[int, Meta(ge=1, le=MAX_PARTS)] | None = None
    reduce: Literal["majority"] | None = "majority"
    field: str | None = None


class MajoritySpec(_Spec, frozen=True, kw_only=True, tag="majority"):
    """``dspy.majority``: the commonest of several answers.

    Attributes:
        program: What answers; without it the answers are the input ``completions``.
        attempts: How often it is asked.
        field: The output that is compared; default: the last one.
    """

    program: Program | None = None
    attempts: Annotated[int, Meta(ge=1, le=64)] = 5
    field: str | None = None


class BestOfNSpec(_Spec, frozen=True, kw_only=True, tag="best_of_n"):
    """``dspy.BestOfN``: the best of several answers.

    Attributes:
        program: What answers.
        attempts: How often it is asked at most.
        reward: How good an answer is.
        threshold: Good enough to stop.
        fail_count: Attempts that may fail; default: all.
    """

    program: Program
    attempts: Annotated[int, Meta(ge=1, le=64)]
    reward: Reward
    threshold: float
    fail_count: Annotated[int, Meta(ge=1, le=64)] | None = None


class RefineSpec(BestOfNSpec, frozen=True, kw_only=True, tag="refine"):
    """``dspy.Refine``: the same, with advice from one attempt to the next."""


class PythonSpec(_Spec, frozen=True, kw_only=True, tag="python"):
    """A program written in Python, that the workers' configuration names.

    Attributes:
        name: Of its section ``[programs.<name>]``.
    """

    name: Name


class Step(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A program as a part of a composition.

    Attributes:
        program: What is run.
        inputs: For an input of it, the value's name in the composition; left out,
            the same name.
        outputs: For an output of it, the name that the composition gives it; left
            out, the same name.
    """

    program: Program
    inputs: dict[str, str] = {}
    outputs: dict[str, str] = {}


class ChainSpec(_Spec, frozen=True, kw_only=True, tag="chain"):
    """Programs one after another: each sees the inputs and all outputs before it.

    Attributes:
        steps: The programs, in order.
        outputs: What of it all is answered; default: the outputs of the last.
    """

    steps: Annotated[list[Step], Meta(min_length=1)]
    outputs: Annotated[list[str], Meta(min_length=1)] | None = None


class ParallelSpec(_Spec, frozen=True, kw_only=True, tag="parallel"):
    """Programs side by side on the same inputs; answered are the outputs of all.

    Attributes:
        steps: The programs; no two give an output of the same name.
    """

    steps: Annotated[list[Step], Meta(min_length=1)]


class MapSpec(_Spec, frozen=True, kw_only=True, tag="map"):
    """One program for each element of a list; its outputs become lists.

    Attributes:
        program: What is run.
        over: The input that is a list.
        into: The program's input that gets one element.
        concurrency: Elements in hand at a time.
    """

    program: Program
    over: Name
    into: Name
    concurrency: Annotated[int, Meta(ge=1, le=64)] = 8


class BranchSpec(_Spec, frozen=True, kw_only=True, tag="branch"):
    """One of several programs, by the value of an input.

    Attributes:
        on: The input that decides.
        cases: For a value, as JSON writes it (a text without quotes), the program.
        otherwise: The program for all other values; without it they are refused.
    """

    on: Name
    cases: Annotated[dict[str, Program], Meta(min_length=1)]
    otherwise: Program | None = None


Specification = (
    PredictSpec
    | ChainOfThoughtSpec
    | ReActSpec
    | ProgramOfThoughtSpec
    | CodeActSpec
    | RlmSpec
    | MultiChainComparisonSpec
    | KnnSpec
    | KnnFewShotSpec
    | EnsembleSpec
    | MajoritySpec
    | BestOfNSpec
    | RefineSpec
    | PythonSpec
    | ChainSpec
    | ParallelSpec
    | MapSpec
    | BranchSpec
)
Reference = Annotated[str, Meta(min_length=1, max_length=80)]
Program = Reference | Specification
