"""One program, written as a request and as its users would write it with DSPy."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.scripted_wire import Received

    Answer = Callable[[Received], str]

# Its annotations do not say all that it takes, and this is read by every release.
dspy: Any = importlib.import_module("dspy")

TOOLS = "$TOOLS"
"""In a request: stands for where the tools of a stack's tenant are."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
    """One program.

    Attributes:
        body: Of the request.
        work: Does the same with DSPy; gives its outputs by name.
        operation: What is asked.
        replies: What the model answers, one after another, the last again and again;
            or what makes the answer to a request.
        needs: Names in DSPy without which it cannot be done, ``Class`` or
            ``Class.argument``.
        ordered: Whether the model is asked in a certain order.
        options: Of the language model in process.
        adapter: Class of the adapter in process.
    """

    body: dict[str, Any]
    work: Callable[[], Any]
    operation: str = "run"
    replies: tuple[str, ...] | Answer = ()
    needs: tuple[str, ...] = ()
    ordered: bool = True
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    adapter: str = "ChatAdapter"

    def answers(self) -> Answer:
        """What answers, from the beginning."""
        if callable(self.replies):
            return self.replies
        waiting = list(self.replies)
        return lambda _: waiting.pop(0) if len(waiting) > 1 else waiting[0]

    def lacking(self) -> str:
        """What this DSPy does not have of what it needs; empty: it has all."""
        for name in (self.adapter, *self.needs):
            cls, _, argument = name.partition(".")
            found = getattr(dspy, cls, None) or getattr(dspy.teleprompt, cls, None)
            if found is None or (argument and not _takes(found, argument)):
                return name
        return ""


def _takes(cls: Any, argument: str) -> bool:
    return argument in inspect.signature(cls.__init__).parameters
