"""The optimizers of DSPy, each with the arguments that are data, by DSPy's names.

An argument that is left out has DSPy's own default. What is no data (metrics, language
models, programs, examples) is said elsewhere in the request.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from dspex.contracts.program_functions import Remote
from dspex.contracts.program_specs import MAX_PARTS, Program

Count = Annotated[int, Meta(ge=1, le=10_000)]
Demos = Annotated[int, Meta(ge=0, le=1000)]
Temperature = Annotated[float, Meta(ge=0, le=2)]
Auto = Literal["light", "medium", "heavy"]


class _Optimizer(
    Struct,
    frozen=True,
    kw_only=True,
    tag_field="name",
    forbid_unknown_fields=True,
):
    """Known by its ``name``, which is its class in DSPy."""


class LabeledFewShot(_Optimizer, frozen=True, kw_only=True, tag="LabeledFewShot"):
    """Demos from the trainset, as they are.

    Attributes:
        k: How many.
        sample: Whether they are drawn (always the same), else the first are taken.
    """

    k: Demos | None = None
    sample: bool | None = None


class _Bootstrap(_Optimizer, frozen=True, kw_only=True):
    """What all that bootstrap demos may say.

    Attributes:
        metric_threshold: Score from which a run of the teacher makes a demo; default:
            any score but 0.
        max_bootstrapped_demos: Demos from runs of the teacher at most.
        max_labeled_demos: Demos from the trainset at most.
        max_errors: Examples that may fail.
    """

    metric_threshold: float | None = None
    max_bootstrapped_demos: Demos | None = None
    max_labeled_demos: Demos | None = None
    max_errors: Count | None = None


class BootstrapFewShot(_Bootstrap, frozen=True, kw_only=True, tag="BootstrapFewShot"):
    """Demos from runs of a teacher that the metric finds good.

    Attributes:
        max_rounds: Times that an example is tried.
    """

    max_rounds: Count | None = None


class BootstrapFewShotWithRandomSearch(
    _Bootstrap, frozen=True, kw_only=True, tag="BootstrapFewShotWithRandomSearch"
):
    """The best of several such sets of demos.

    Attributes:
        max_rounds: Times that an example is tried.
        num_candidate_programs: Sets that are compared.
        stop_at_score: Percent that are good enough.
        restrict: Seeds of the candidates that are tried, instead of all.
        labeled_sample: Whether labeled demos are drawn.
    """

    max_rounds: Count | None = None
    num_candidate_programs: Count | None = None
    stop_at_score: float | None = None
    restrict: list[int] | None = None
    labeled_sample: bool | None = None


class COPRO(_Optimizer, frozen=True, kw_only=True, tag="COPRO"):
    """Instructions that a model proposes, round after round.

    Attributes:
        breadth: Proposals in a round.
        depth: Rounds.
        init_temperature: Of the proposals.
    """

    breadth: Annotated[int, Meta(ge=2, le=1000)] | None = None
    depth: Count | None = None
    init_temperature: Temperature | None = None


class MIPROv2(_Bootstrap, frozen=True, kw_only=True, tag="MIPROv2"):
    """Instructions and demos together, chosen by Bayesian optimisation.

    Attributes:
        auto: How much to try; with ``num_candidates`` it is left out.
        num_candidates: Instructions, and sets of demos, for each predictor.
        num_trials: Combinations that are tried.
        seed: Of all that is drawn.
        init_temperature: Of the proposals.
        minibatch: Whether trials are scored on a part of the valset.
        minibatch_size: Of that part.
        minibatch_full_eval_steps: Trials from one whole evaluation to the next.
        program_aware_proposer: Whether who proposes is shown the program.
        data_aware_proposer: Whether it is shown a summary of the data.
        view_data_batch_size: Examples it sees at a time.
        tip_aware_proposer: Whether it gets a tip.
        fewshot_aware_proposer: Whether it is shown demos.
    """

    auto: Auto | None = None
    num_candidates: Count | None = None
    num_trials: Count | None = None
    seed: int | None = None
    init_temperature: Temperature | None = None
    minibatch: bool | None = None
    minibatch_size: Count | None = None
    minibatch_full_eval_steps: Count | None = None
    program_aware_proposer: bool | None = None
    data_aware_proposer: bool | None = None
    view_data_batch_size: Count | None = None
    tip_aware_proposer: bool | None = None
    fewshot_aware_proposer: bool | None = None


class GEPA(_Optimizer, frozen=True, kw_only=True, tag="GEPA"):
    """Instructions that evolve by reflection on what the metric says.

    One of ``auto``, ``max_full_evals`` and ``max_metric_calls`` is needed.

    Attributes:
        auto: How much to try.
        max_full_evals: How often all examples may be scored.
        max_metric_calls: How often the metric may be asked.
        reflection_minibatch_size: Examples that one reflection sees.
        candidate_selection_strategy: From which candidate the next one comes.
        skip_perfect_score: Whether nothing is changed where all is right.
        add_format_failure_as_feedback: Whether replies that cannot be read are shown.
        component_selector: Which predictor is changed next.
        use_merge: Whether candidates are merged.
        max_merge_invocations: How often.
        failure_score: Of an example that failed.
        perfect_score: The best there is.
        seed: Of all that is drawn.
    """

    auto: Auto | None = None
    max_full_evals: Count | None = None
    max_metric_calls: Annotated[int, Meta(ge=1)] | None = None
    reflection_minibatch_size: Count | None = None
    candidate_selection_strategy: Literal["pareto", "current_best"] | None = None
    skip_perfect_score: bool | None = None
    add_format_failure_as_feedback: bool | None = None
    component_selector: Literal["round_robin", "all"] | None = None
    use_merge: bool | None = None
    max_merge_invocations: Count | None = None
    failure_score: float | None = None
    perfect_score: float | None = None
    seed: int | None = None


class SIMBA(_Optimizer, frozen=True, kw_only=True, tag="SIMBA"):
    """Rules and demos from examples on which runs differ most.

    Attributes:
        bsize: Examples in a step; the trainset has at least as many.
        num_candidates: Candidates in a step.
        max_steps: Steps.
        max_demos: Demos of a predictor at most.
        demo_input_field_maxlen: Characters of an input that a demo shows.
        temperature_for_sampling: Of the draw among programs.
        temperature_for_candidates: Of the draw of a candidate's origin.
        seed: Of all that is drawn.
    """

    bsize: Count | None = None
    num_candidates: Count | None = None
    max_steps: Count | None = None
    max_demos: Demos | None = None
    demo_input_field_maxlen: Annotated[int, Meta(ge=1)] | None = None
    temperature_for_sampling: Annotated[float, Meta(gt=0, le=10)] | None = None
    temperature_for_candidates: Annotated[float, Meta(gt=0, le=10)] | None = None
    seed: int | None = None


class InferRules(_Bootstrap, frozen=True, kw_only=True, tag="InferRules"):
    """Rules that a model infers from the examples, put into the instructions.

    Attributes:
        num_candidates: Sets of rules that are compared.
        num_rules: Rules in a set.
        max_rounds: Times that an example is tried.
    """

    num_candidates: Count | None = None
    num_rules: Count | None = None
    max_rounds: Count | None = None


class _Refused(Struct, frozen=True, kw_only=True, tag_field="name"):
    """Known by name, so that who asks for it is told what to do instead."""


class KNNFewShot(_Bootstrap, frozen=True, kw_only=True, tag="KNNFewShot"):
    """A ``knn_few_shot`` of the program: demos from the examples most like its inputs.

    Attributes:
        k: Examples that are found for each call.
        vectorizer: Function on a subject: gets ``{"texts": [...]}`` and answers with
            a list of as many vectors.
        max_rounds: Times that an example is tried.
    """

    k: Annotated[int, Meta(ge=1, le=1000)]
    vectorizer: Remote
    max_rounds: Count | None = None


class Ensemble(_Optimizer, frozen=True, kw_only=True, tag="Ensemble"):
    """An ``ensemble`` of the program and others.

    Attributes:
        programs: The others: specifications, or names of stored programs.
        size: How many are asked, drawn for each request; default: all.
        reduce: ``majority``: what most of them answer; null: all their answers.
        field: The output that is compared; default: the last one.
    """

    programs: Annotated[list[Program], Meta(min_length=1, max_length=MAX_PARTS)]
    size: Annotated[int, Meta(ge=1, le=MAX_PARTS)] | None = None
    reduce: Literal["majority"] | None = "majority"
    field: str | None = None


class BootstrapFinetune(_Refused, frozen=True, kw_only=True, tag="BootstrapFinetune"):
    """Not done: it trains weights."""


Single = (
    LabeledFewShot
    | BootstrapFewShot
    | BootstrapFewShotWithRandomSearch
    | COPRO
    | MIPROv2
    | GEPA
    | SIMBA
    | InferRules
    | KNNFewShot
    | Ensemble
    | BootstrapFinetune
)


class BetterTogether(_Optimizer, frozen=True, kw_only=True, tag="BetterTogether"):
    """Several optimizers one after another; the best of what they gave.

    Attributes:
        optimizers: By the names that the strategy calls them.
        strategy: Their names in order, such as ``p -> q``.
        valset_ratio: Share of the trainset that is held back without a valset.
        shuffle_trainset_between_steps: Whether the trainset is shuffled.
        seed: Of the shuffling.
    """

    optimizers: Annotated[dict[str, Single], Meta(min_length=1, max_length=8)]
    strategy: Annotated[str, Meta(min_length=1, max_length=200)]
    valset_ratio: Annotated[float, Meta(ge=0, lt=1)] | None = None
    shuffle_trainset_between_steps: bool | None = None
    seed: int | None = None


Optimizer = (
    LabeledFewShot
    | BootstrapFewShot
    | BootstrapFewShotWithRandomSearch
    | COPRO
    | MIPROv2
    | GEPA
    | SIMBA
    | InferRules
    | KNNFewShot
    | Ensemble
    | BootstrapFinetune
    | BetterTogether
)
