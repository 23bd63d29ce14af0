"""DSPy's own way to language models, with engines that are built once.

DSPy builds its HTTP client itself when it is given a model string: with at most 100
connections, and choosing the way to the provider anew in every call. An engine that
is built here has room for every request that a worker may hold, costs less than half
the CPU per call, and keeps the key inside: nothing that DSPy logs, records or saves
holds it.
"""

from __future__ import annotations

import asyncio
import dataclasses
import importlib
import weakref
from typing import TYPE_CHECKING, Any, NamedTuple

from dspex.services.worker.recorded import anoted, noted

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    import dspy


LONGEST_PIECE = 16 << 20
"""Bytes of one piece of a streamed answer at most: lm15's own limit is 64 KiB, and a
model that says all at once says more."""


class Native(NamedTuple):
    """DSPy's own way to providers: where 3.4 keeps it."""

    lm15: Any
    select: Any
    engine: Any
    async_engine: Any


def _native() -> Native | None:
    try:
        from dspy import lm15
        from dspy.clients.backend_selection import select_backend
        from dspy.clients.engines import AsyncLM15Engine, LM15Engine
    except ImportError:  # before 3.4, or moved since
        return None
    _widen()
    return Native(lm15, select_backend, LM15Engine, AsyncLM15Engine)


def _widen() -> None:
    """Let pieces of streamed answers be larger: lm15 has no setting for it."""
    try:
        sse: Any = importlib.import_module("dspy._vendor.lm15.sse")
    except ImportError:  # it moved: its own limit holds
        return
    for parse in (sse.parse_sse, sse.aparse_sse):
        for limit in parse.__kwdefaults__.keys() & {
            "max_line_bytes",
            "max_event_bytes",
        }:
            parse.__kwdefaults__[limit] = LONGEST_PIECE


NATIVE = _native()
"""``None`` where this DSPy has no such way."""


@dataclasses.dataclass(frozen=True)
class Support:
    """What DSPy's adapters ask a language model about."""

    function_calling: bool
    reasoning: bool
    response_schema: bool
    params: frozenset[str]

    @classmethod
    def of(cls, lm: dspy.LM) -> Support:
        """What DSPy itself believes of a model."""
        return cls(
            lm.supports_function_calling,
            lm.supports_reasoning,
            lm.supports_response_schema,
            frozenset(lm.supported_params),
        )


CONSTRAINED = Support(
    function_calling=False,
    reasoning=False,
    response_schema=True,
    params=frozenset({"max_tokens", "response_format", "seed", "stop", "temperature"}),
)
"""A server that constrains answers to a JSON Schema, and calls no functions."""


class Engine:
    """DSPy's own engine, built once, which says what its model can do."""

    def __init__(self, native: Native, support: Support, **settings: Any) -> None:
        config = native.lm15.RouterConfig(**settings)
        self._engine = native.engine(config)
        self.twin = AsyncEngine(native, config)
        # DSPy's adapters read these from the engine.
        self.supports_function_calling = support.function_calling
        self.supports_reasoning = support.reasoning
        self.supports_response_schema = support.response_schema
        self.supported_params = support.params

    def complete(self, request: Any) -> Any:
        """Answer once."""
        return self._engine.complete(request)

    def stream(self, request: Any) -> Iterator[Any]:
        """Answer in pieces."""
        yield from noted(self._engine.stream(request))

    def close(self) -> None:
        """Close the connections of threads."""
        self._engine.close()

    def __deepcopy__(self, memo: object) -> Engine:
        return self  # optimizers copy programs; connections stay shared


class AsyncEngine:
    """The same for coroutines, one for each event loop: connections belong to it."""

    def __init__(self, native: Native, config: Any) -> None:
        self._native = native
        self._config = config
        self._engines: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Any] = (
            weakref.WeakKeyDictionary()
        )

    async def complete(self, request: Any) -> Any:
        """Answer once."""
        return await self._engine().complete(request)

    def stream(self, request: Any) -> AsyncIterator[Any]:
        """Answer in pieces."""
        return anoted(self._engine().stream(request))

    async def aclose(self) -> None:
        """Close the connections of this event loop."""
        engine = self._engines.pop(asyncio.get_running_loop(), None)
        if engine is not None:
            await engine.aclose()

    def __deepcopy__(self, memo: object) -> AsyncEngine:
        return self

    def _engine(self) -> Any:
        loop = asyncio.get_running_loop()
        engine = self._engines.get(loop)
        if engine is None:
            engine = self._engines[loop] = self._native.async_engine(self._config)
        return engine
