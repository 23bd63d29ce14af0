"""DSPy's optimizers, as the installed release has them."""

from __future__ import annotations

import dataclasses
import importlib.util
import inspect
from typing import TYPE_CHECKING, Any, get_args

import dspy
import msgspec

from dspex.contracts import optimizers as known
from dspex.contracts.failures import BadRequest, Unsupported
from dspex.contracts.program_specs import EnsembleSpec, KnnFewShotSpec
from dspex.services.worker.learned import whole

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from dspex.contracts.learning_requests import Optimize
    from dspex.contracts.optimizers import Optimizer
    from dspex.contracts.program_specs import Specification
    from dspex.native.programs.nodes import Node

NEEDS = {
    "MIPROv2": ("optuna", "numpy"),
    "SIMBA": ("numpy",),
    "GEPA": ("gepa",),
    "KNNFewShot": ("numpy",),
}
"""Packages that an optimizer needs beside DSPy."""

AROUND = (known.KNNFewShot, known.Ensemble)
"""They learn nothing: what they make is another program, around that of the request."""

NEED_NO_METRIC = (known.LabeledFewShot, *AROUND)

_REFUSED: dict[type, str] = {
    known.BootstrapFinetune: "Train with DSPy where the weights are, and name the "
    "trained model in the workers' configuration.",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Given:
    """What an optimizer gets beside its arguments; ``None``: there is none.

    Attributes:
        metric: What it scores by.
        prompt_lm: Who proposes instructions.
        reflection_lm: Who reflects.
        teacher: The program that shows how.
        teacher_lm: Who runs that program.
        trainset: Examples to learn from.
        valset: Examples to compare by.
        threads: Examples in hand at a time.
    """

    metric: Any
    prompt_lm: Any
    reflection_lm: Any
    teacher: Any
    teacher_lm: Any
    trainset: list[Any]
    valset: list[Any] | None
    threads: int


def compiler(optimizer: Optimizer, given: Given) -> Callable[[Any], Any]:
    """What makes a better program of a student, from a thread.

    Raises:
        Unsupported: It cannot be done here.
        BadRequest: The optimizer does not take what was given.
    """
    made, compile_with = _made(optimizer, given, "optimizer")
    takes = inspect.signature(made.compile).parameters
    if given.teacher is not None and (
        "teacher" not in takes or isinstance(optimizer, known.GEPA)
    ):
        raise _no_teacher(optimizer)
    sets = {"trainset": given.trainset, "valset": given.valset}
    sets["teacher"] = given.teacher
    compile_with |= {k: v for k, v in sets.items() if k in takes and v is not None}

    def work(student: Any) -> Any:
        if isinstance(optimizer, known.BetterTogether):
            student.set_lm(dspy.settings.lm)  # it insists
        return made.compile(student, **compile_with)

    return work


def around(
    asked: Optimize, node: Node, teacher: Node | None, others: Sequence[Node]
) -> Specification:
    """The program that an optimizer makes which learns nothing.

    Args:
        asked: What was asked.
        node: The program.
        teacher: The program that shows how, if another does.
        others: The other programs of an ensemble.
    """
    optimizer: Any = asked.optimizer
    said = {
        name: value
        for name, value in msgspec.structs.asdict(optimizer).items()
        if name != "programs"
    }
    if isinstance(optimizer, known.Ensemble):
        if teacher is not None:
            raise _no_teacher(optimizer)
        return EnsembleSpec(programs=[whole(node), *map(whole, others)], **said)
    return KnnFewShotSpec(
        program=whole(node),
        trainset=asked.to_learn,
        teacher=None if teacher is None else whole(teacher),
        metric=asked.metric,
        **said,
    )


def _no_teacher(optimizer: Any) -> BadRequest:
    return BadRequest(
        f"{_name(optimizer)} takes no teacher.", field="teacher", hint="Leave it out."
    )


def _made(optimizer: Any, given: Given, path: str) -> tuple[Any, dict[str, Any]]:
    """Make an optimizer; and the arguments of its ``compile``, less the examples."""
    cls = _class(optimizer, path)
    made_with, compile_with = _shared(given, _parameters(cls), cls)
    for name, value in _options(optimizer).items():
        if name in _parameters(cls):
            made_with[name] = value
        elif name in inspect.signature(cls.compile).parameters:
            compile_with[name] = value
        else:
            raise _lacks(f"{_name(optimizer)} has no {name!r}", f"{path}.{name}")
    if isinstance(optimizer, known.BetterTogether):
        if "optimizers" not in _parameters(cls):
            raise _lacks("BetterTogether takes no optimizers of one's own", path)
        inner = {
            name: _made(one, given, f"{path}.optimizers.{name}")
            for name, one in optimizer.optimizers.items()
        }
        made_with |= {name: one for name, (one, _) in inner.items()}
        compile_with["optimizer_compile_args"] = {n: w for n, (_, w) in inner.items()}
    return _constructed(cls, made_with, path), compile_with


def _constructed(cls: Any, made_with: dict[str, Any], path: str) -> Any:
    try:
        return cls(**made_with)
    except (TypeError, ValueError, AssertionError) as error:
        raise BadRequest(
            f"{path}: {str(error)[:300]}",
            field=path,
            hint="See DSPy's documentation of this optimizer.",
        ) from None


def _shared(
    given: Given, takes: set[str], cls: Any
) -> tuple[dict[str, Any], dict[str, Any]]:
    """What optimizers get that take it: their constructors, and ``compile``."""
    teacher = {"lm": given.teacher_lm} if given.teacher_lm is not None else None
    made = {
        "metric": given.metric,
        "prompt_model": given.prompt_lm,
        "reflection_lm": given.reflection_lm,
        "teacher_settings": teacher,
        "num_threads": given.threads,
    }
    compiled = {
        "requires_permission_to_run": False,
        "eval_kwargs": {"num_threads": given.threads, "display_progress": False},
        "num_threads": given.threads,
    }
    compile_takes = inspect.signature(cls.compile).parameters
    return (
        {k: v for k, v in made.items() if k in takes and v is not None},
        {k: v for k, v in compiled.items() if k in compile_takes},
    )


def _options(optimizer: Any) -> dict[str, Any]:
    said = msgspec.structs.asdict(optimizer)
    said.pop("optimizers", None)
    found = {name: value for name, value in said.items() if value is not None}
    # It has a default that must not meet the other two.
    if isinstance(optimizer, known.MIPROv2) and "num_candidates" in found:
        found.setdefault("auto", None)
    return found


def missing() -> list[str]:
    """The optimizers that cannot be run here, by name."""
    kinds: tuple[Any, ...] = get_args(known.Optimizer)
    return [_name(kind) for kind in kinds if not _is_there(kind)]


def _is_there(kind: Any) -> bool:
    cls = _found(_name(kind))
    if kind in _REFUSED or cls is None:
        return False
    if kind is known.BetterTogether and "optimizers" not in _parameters(cls):
        return False
    needs = NEEDS.get(_name(kind), ())
    return all(importlib.util.find_spec(package) for package in needs)


def _found(name: str) -> Any:
    return getattr(dspy, name, None) or getattr(dspy.teleprompt, name, None)


def _class(optimizer: Any, path: str) -> Any:
    name = _name(optimizer)
    if isinstance(optimizer, AROUND):
        raise Unsupported(
            f"{path}: {name} makes another program, and cannot be one of several.",
            field=f"{path}.name",
            hint="Optimise with it alone, before or after.",
        )
    if type(optimizer) in _REFUSED:
        raise Unsupported(
            f"{path}: {name} trains weights, and those are no part of a program.",
            field=f"{path}.name",
            hint=_REFUSED[type(optimizer)],
        )
    cls = _found(name)
    if cls is None:
        raise _lacks(f"there is no {name}", f"{path}.name")
    for package in NEEDS.get(name, ()):
        if importlib.util.find_spec(package) is None:
            raise Unsupported(
                f"{path}: {name} needs {package}, which this worker does not have.",
                field=f"{path}.name",
                hint=f"Install it for the workers: pip install {package}.",
            )
    return cls


def _name(optimizer: Any) -> str:
    return str(optimizer.__struct_config__.tag)


def _parameters(cls: Any) -> set[str]:
    """What a constructor takes by name, with those it passes on to."""
    found: set[str] = set()
    for one in cls.__mro__:
        own = inspect.signature(one.__init__).parameters if one is not object else {}
        found |= own.keys()
        if not any(p.kind is p.VAR_KEYWORD for p in own.values()):
            break
    return found


def _lacks(what: str, path: str) -> Unsupported:
    return Unsupported(
        f"{path}: {what} in DSPy {dspy.__version__}, which this worker runs.",
        field=path,
        hint="Use a pool with another release of DSPy.",
    )
