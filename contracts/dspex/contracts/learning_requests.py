"""Bodies and outputs of the operations that score programs and improve them."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, Struct, field

from dspex.contracts.dataset_requests import DatasetName, Examples
from dspex.contracts.optimizers import Optimizer
from dspex.contracts.program_functions import Name
from dspex.contracts.program_metrics import Metric
from dspex.contracts.program_parts import is_self_contained
from dspex.contracts.program_specs import Program
from dspex.contracts.requests import Body, LmConfig

Threads = Annotated[int, Meta(ge=1, le=64)]


class Evaluate(Body, frozen=True, kw_only=True):
    """Run a program on examples and score what it answers.

    Attributes:
        program: A specification, or the name of a stored program.
        dataset: The examples, as an Arrow column of structs ``example``; or the name
            of a stored dataset: ``name`` for its newest version, ``name@3`` for that.
        metric: What scores an answer.
        also: Further metrics, by the names that the outputs shall have for them.
        inputs: The fields of the examples that are inputs; default: the program's.
        threads: Examples in hand at a time.
        max_errors: Examples that may fail before all is given up; default: DSPy's, 10.
        results: Whether to answer with all outputs, or with the scores alone.
        lm: Name of a language model, for all in the program that name none.
        config: What to change about it.
    """

    program: Program
    dataset: Examples | DatasetName
    metric: Metric
    also: Annotated[dict[str, Metric], Meta(max_length=16)] = field(
        default_factory=dict
    )
    inputs: list[str] | None = None
    threads: Threads = 8
    max_errors: Annotated[int, Meta(ge=1)] | None = None
    results: bool = True
    lm: str | None = None
    config: LmConfig = field(default_factory=LmConfig)

    @property
    def examples(self) -> list[dict[str, Any]]:
        """The examples, once they are here."""
        assert isinstance(self.dataset, list)
        return self.dataset

    @property
    def repeatable(self) -> bool:
        """Not where it names what may change, or functions, which act."""
        if isinstance(self.dataset, str):
            return False
        metrics = (self.metric, *self.also.values())
        remote = any(one.subject is not None for one in metrics)
        return is_self_contained(self.program) and not remote


class ExampleFailure(Struct, frozen=True, kw_only=True):
    """Why an example has no score.

    Attributes:
        code: Leaf of the tree of failures.
        message: What went wrong.
    """

    code: str
    message: str


class ExampleResult(Struct, frozen=True, kw_only=True):
    """What became of one example.

    Attributes:
        inputs: What the program got.
        outputs: What it answered; empty if it failed.
        score: By the metric; 0 if it failed.
        scores: By the further metrics.
        failure: Why it failed, if it did.
    """

    inputs: dict[str, Any]
    outputs: dict[str, Any]
    score: float
    scores: dict[str, float] = {}
    failure: ExampleFailure | None = None


class Evaluated(Struct, frozen=True, kw_only=True):
    """Outputs of ``program.evaluate``.

    Attributes:
        score: Percent, as ``dspy.Evaluate`` says it: 100 times the mean, two digits.
        count: Examples.
        errors: Examples that failed; they count as 0.
        mean: Of the metric's scores.
        means: Of the scores by the further metrics.
        scores: One per example, in order; as an Arrow column, ``score``.
        results: What became of each; as an Arrow column of JSON, ``result``.
        dataset: The stored dataset that the examples are of, with its version; empty:
            they came with the request.
    """

    score: float
    count: int
    errors: int
    mean: float
    means: dict[str, float] = {}
    scores: list[float] = []
    results: list[ExampleResult] | None = None
    dataset: str = ""


class Budget(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an optimisation may cost at most; then it fails, and nothing is stored.

    Attributes:
        max_calls: Calls of language models.
        max_seconds: Time.
    """

    max_calls: Annotated[int, Meta(ge=1)] | None = None
    max_seconds: Annotated[float, Meta(gt=0)] | None = None


class Optimize(Body, frozen=True, kw_only=True):
    """Improve a program by examples, with an optimizer of DSPy's.

    Attributes:
        program: A specification, or the name of a stored program.
        optimizer: Which, with its arguments.
        trainset: Examples to learn from, or the name of a stored dataset.
        valset: Examples to compare by, or the name of such; default: what the
            optimizer does without.
        metric: What scores an answer; ``LabeledFewShot``, ``KNNFewShot`` and
            ``Ensemble`` need none.
        inputs: The fields of the examples that are inputs; default: the program's.
        teacher: The program that shows how, where the optimizer takes one; default:
            the program itself.
        lm: Name of the language model that runs the program.
        config: What to change about it.
        prompt_lm: Name of that which proposes instructions; default: ``lm``.
        reflection_lm: Name of that which reflects, for GEPA; default: ``lm``.
        threads: Examples in hand at a time.
        budget: What it may cost.
        put_as: Store what comes out as a new version of this program.
        expected_version: Store it only if this is the newest version then; 0: only
            if there is none.
        note: For people, stored with it.
    """

    program: Program
    optimizer: Optimizer
    trainset: Examples | DatasetName
    valset: Examples | DatasetName | None = None
    metric: Metric | None = None
    inputs: list[str] | None = None
    teacher: Program | None = None
    lm: str | None = None
    config: LmConfig = field(default_factory=LmConfig)
    prompt_lm: str | None = None
    reflection_lm: str | None = None
    threads: Threads = 8
    budget: Budget = field(default_factory=Budget)
    put_as: Name | None = None
    expected_version: Annotated[int, Meta(ge=0)] | None = None
    note: Annotated[str, Meta(max_length=1000)] = ""

    @property
    def to_learn(self) -> list[dict[str, Any]]:
        """The examples to learn from, once they are here."""
        assert isinstance(self.trainset, list)
        return self.trainset

    @property
    def to_compare(self) -> list[dict[str, Any]]:
        """The examples to compare by, once they are here; empty: none."""
        assert not isinstance(self.valset, str)
        return self.valset or []


class Optimized(Struct, frozen=True, kw_only=True):
    """Outputs of ``program.optimize``.

    Attributes:
        specification: The program with what it learned; what it names is part of it.
        optimizer: Which one it was.
        calls: Calls of language models that the optimizer made.
        score: Percent on the valset, or else on the trainset; absent without a metric.
        scored: Examples of that score.
        name: Of the program it was stored as; empty: it was not.
        version: The number it was given; 0: it was not stored.
        trainset: The stored dataset it learned from, with its version.
        valset: The stored dataset it was compared by.
    """

    specification: dict[str, Any]
    optimizer: str
    calls: int
    score: float | None = None
    scored: int = 0
    name: str = ""
    version: int = 0
    trainset: str = ""
    valset: str = ""
