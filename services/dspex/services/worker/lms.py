"""The language models of a worker, built from its configuration.

DSPy builds its HTTP client itself when it is given a model string: with at most 100
connections, and choosing the way to the provider anew in every call. Here each
model gets the same engine built once, with room for every request that a worker may
hold. That costs less than half the CPU per call, and the key stays inside
the engine: nothing that DSPy logs, records or saves holds it.
"""

from __future__ import annotations

import asyncio
import dataclasses
import weakref
from typing import TYPE_CHECKING, Any, NamedTuple

import dspy

from dspex.contracts.configuration import BUILTIN_MODEL, ConfigurationError, Lm
from dspex.contracts.failures import BadRequest, LmAuth, NotFound, Unsupported, nearest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping

OVERRIDES = frozenset(
    {
        "frequency_penalty",
        "logprobs",
        "max_tokens",
        "n",
        "presence_penalty",
        "reasoning_effort",
        "rollout_id",
        "seed",
        "stop",
        "temperature",
        "top_logprobs",
        "top_p",
    }
)
"""Options that a request may set. Keys and addresses are never among them."""

_BUILTIN_NAME = "smollm2-135m"
_CONNECT_S = 10.0
_SERVER_PREFIXES = ("openai/", "hosted_vllm/", "ollama/", "ollama_chat/", "lm_studio/")


class _Native(NamedTuple):
    """DSPy's own way to providers: where 3.4 keeps it."""

    lm15: Any
    select: Any
    engine: Any
    async_engine: Any


def _native() -> _Native | None:
    try:
        from dspy import lm15
        from dspy.clients.backend_selection import select_backend
        from dspy.clients.engines import AsyncLM15Engine, LM15Engine
    except ImportError:  # before 3.4, or moved since
        return None
    return _Native(lm15, select_backend, LM15Engine, AsyncLM15Engine)


_NATIVE = _native()


@dataclasses.dataclass(frozen=True)
class Builtin:
    """Where the built-in model listens.

    Attributes:
        url: Base URL, such as `http://127.0.0.1:4321/v1`.
        key: Its API key.
    """

    url: str
    key: str = dataclasses.field(repr=False)


class LanguageModels:
    """Language models by name; each is built when it is first asked for.

    Args:
        configured: The sections `[lms.<name>]`.
        environ: Where `api_key_env` is looked up.
        builtin: The server of the built-in model, if one runs.
        connections: Most connections to one model's server, at least as many as the
            worker runs requests.
    """

    def __init__(
        self,
        configured: Mapping[str, Lm],
        *,
        environ: Mapping[str, str],
        builtin: Builtin | None = None,
        connections: int = 512,
    ) -> None:
        self._configured = dict(configured)
        self._environ = environ
        self._builtin = builtin
        self._connections = connections
        self._built: dict[str, dspy.LM] = {}

    def build(self, name: str) -> dspy.LM:
        """Return the language model of that name.

        Raises:
            NotFound: The configuration names no such model.
            LmAuth: The variable that should hold its key is not set.
            Unsupported: It needs a newer DSPy.
        """
        if name not in self._built:
            self._built[name] = self._build(self._lm(name))
        return self._built[name]

    def for_request(self, name: str, overrides: Mapping[str, Any]) -> dspy.LM:
        """Return the language model with the options of one request.

        Raises:
            BadRequest: An option that a request may not set.
        """
        for option in overrides:
            if option not in OVERRIDES:
                raise BadRequest(
                    f"A request may not set {option!r} of a language model. "
                    f"{nearest(option, OVERRIDES)}",
                    hint="Keys and addresses belong in the worker's configuration.",
                    field=f"config.{option}",
                )
        lm = self.build(name)
        return lm.copy(**_renamed(lm, overrides)) if overrides else lm

    def is_builtin(self, name: str) -> bool:
        """Say whether that name means the built-in model."""
        return self._lm(name).model == BUILTIN_MODEL

    def describe(self, name: str) -> str:
        """Return what an answer's metadata says about the model."""
        lm = self._lm(name)
        if lm.model == BUILTIN_MODEL:
            return "built-in toy model, 135M parameters"
        return lm.model

    @property
    def secrets(self) -> frozenset[str]:
        """Every key of these models: what may not appear in any message."""
        keys = [self._builtin.key] if self._builtin else []
        for lm in self._configured.values():
            keys += [lm.api_key or "", self._environ.get(lm.api_key_env or "", "")]
        return frozenset(key for key in keys if key)

    async def aclose(self) -> None:
        """Close the connections of this event loop."""
        built, self._built = self._built, {}
        for lm in built.values():
            engine = getattr(lm, "engine", None)
            if isinstance(engine, _Engine):
                await engine.twin.aclose()
                engine.close()
            elif hasattr(lm, "aclose"):
                await lm.aclose()

    def _lm(self, name: str) -> Lm:
        try:
            return self._configured[name]
        except KeyError:
            raise NotFound(
                f"No language model is named {name!r}. "
                f"{nearest(name, self._configured)}",
                hint=f"Add a section [lms.{name}] to the worker's configuration.",
                field="lm",
            ) from None

    def _build(self, lm: Lm) -> dspy.LM:
        if lm.model == BUILTIN_MODEL:
            return self._build_builtin(lm)
        key = self._key(lm)
        if lm.response_schema:
            return self._build_local(lm, key)
        probe = _plain(lm, key)
        if _NATIVE is None or not (selected := _NATIVE.select(probe)).native:
            return probe  # DSPy hands this one to LiteLLM, and so do we
        provider = selected.resolution.provider
        key = selected.clients.get("api_key")
        engine = _Engine(
            _NATIVE,
            _Support.of(probe),
            timeouts=_timeouts(_NATIVE, lm),
            max_connections=self._connections,
            api_keys={provider: key} if key else None,
            base_urls={provider: lm.api_base} if lm.api_base else None,
        )
        return _with_engine(lm, lm.model, engine)

    def _build_builtin(self, lm: Lm) -> dspy.LM:
        if self._builtin is None:
            raise Unsupported(
                "The built-in model is not running for this worker.",
                hint="Start one with dspex-model and set DSPEX_MODEL_URL and "
                "DSPEX_MODEL_KEY, or configure another language model.",
                field="lm",
            )
        server = _Server("builtin", self._builtin.url, self._builtin.key)
        return self._declared(lm, server, _BUILTIN_NAME)

    def _build_local(self, lm: Lm, key: str | None) -> dspy.LM:
        if not lm.api_base:
            raise ConfigurationError(
                f"response_schema of {lm.model!r} needs api_base: it says what the "
                "server there can do. Set api_base, or leave response_schema out."
            )
        model = lm.model
        for prefix in _SERVER_PREFIXES:
            model = model.removeprefix(prefix)
        return self._declared(lm, _Server("local", lm.api_base, key), model)

    def _declared(self, lm: Lm, server: _Server, model: str) -> dspy.LM:
        if _NATIVE is None:
            raise Unsupported(
                f"{lm.model!r} needs dspy.lm15 and dspy.clients.engines, which DSPy "
                f"{dspy.__version__} does not have where 3.4 has them.",
                hint="Install a DSPy release that this worker knows, such as 3.4.1.",
                field="lm",
            )
        lm15 = _NATIVE.lm15
        definition = lm15.ProviderDefinition.chat(
            lm15.AccessPolicy(provider=server.provider, base_url=server.url),
            # How vLLM and llama.cpp spell things: role `system`, `max_tokens`.
            compat=lm15.OpenAIChatCompat.preset("vllm"),
            placeholder_key="none",
        )
        engine = _Engine(
            _NATIVE,
            _CONSTRAINED,
            timeouts=_timeouts(_NATIVE, lm),
            max_connections=self._connections,
            api_keys={server.provider: server.key} if server.key else None,
            providers=(definition,),
        )
        return _with_engine(lm, f"{server.provider}/{model}", engine)

    def _key(self, lm: Lm) -> str | None:
        if not lm.api_key_env:
            return lm.api_key
        key = self._environ.get(lm.api_key_env)
        if not key:
            raise LmAuth(
                f"The key of {lm.model!r} should be in the environment variable "
                f"{lm.api_key_env}, which is not set.",
                hint=f"Set {lm.api_key_env} for the worker and start it again.",
            )
        return key


@dataclasses.dataclass(frozen=True)
class _Server:
    provider: str
    url: str
    key: str | None = dataclasses.field(repr=False)


@dataclasses.dataclass(frozen=True)
class _Support:
    """What DSPy's adapters ask a language model about."""

    function_calling: bool
    reasoning: bool
    response_schema: bool
    params: frozenset[str]

    @classmethod
    def of(cls, lm: dspy.LM) -> _Support:
        return cls(
            lm.supports_function_calling,
            lm.supports_reasoning,
            lm.supports_response_schema,
            frozenset(lm.supported_params),
        )


_CONSTRAINED = _Support(
    function_calling=False,
    reasoning=False,
    response_schema=True,
    params=frozenset({"max_tokens", "response_format", "seed", "stop", "temperature"}),
)


def _timeouts(native: _Native, lm: Lm) -> Any:
    # Each bounds one step: the next byte, not the whole answer. The whole is
    # bounded by the deadline of the request.
    return native.lm15.Timeouts(
        connect=min(lm.timeout_s, _CONNECT_S),
        read=lm.timeout_s,
        write=lm.timeout_s,
        pool=lm.timeout_s,
    )


def _with_engine(lm: Lm, model: str, engine: _Engine) -> dspy.LM:
    return dspy.LM(
        model,
        temperature=lm.temperature,
        max_tokens=lm.max_tokens,
        num_retries=lm.num_retries,
        cache=False,
        engine=engine,
        async_engine=engine.twin,
    )


def _plain(lm: Lm, key: str | None) -> dspy.LM:
    clients: dict[str, Any] = {"timeout": lm.timeout_s}
    clients |= {"api_key": key} if key else {}
    clients |= {"api_base": lm.api_base} if lm.api_base else {}
    return dspy.LM(
        lm.model,
        temperature=lm.temperature,
        max_tokens=lm.max_tokens,
        num_retries=lm.num_retries,
        cache=False,
        **clients,
    )


def _renamed(lm: dspy.LM, overrides: Mapping[str, Any]) -> dict[str, Any]:
    # DSPy keeps the limit of a reasoning model under the provider's newer name.
    if "max_completion_tokens" not in lm.kwargs:
        return dict(overrides)
    newer = {"max_tokens": "max_completion_tokens"}
    return {newer.get(name, name): value for name, value in overrides.items()}


class _Engine:
    """DSPy's own engine, built once, which says what its model can do."""

    def __init__(self, native: _Native, support: _Support, **settings: Any) -> None:
        config = native.lm15.RouterConfig(**settings)
        self._engine = native.engine(config)
        self.twin = _AsyncEngine(native, config)
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
        yield from self._engine.stream(request)

    def close(self) -> None:
        """Close the connections of threads."""
        self._engine.close()

    def __deepcopy__(self, memo: object) -> _Engine:
        return self  # optimizers copy programs; connections stay shared


class _AsyncEngine:
    """The same for coroutines, one for each event loop: connections belong to it."""

    def __init__(self, native: _Native, config: Any) -> None:
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
        events: AsyncIterator[Any] = self._engine().stream(request)
        return events

    async def aclose(self) -> None:
        """Close the connections of this event loop."""
        engine = self._engines.pop(asyncio.get_running_loop(), None)
        if engine is not None:
            await engine.aclose()

    def __deepcopy__(self, memo: object) -> _AsyncEngine:
        return self

    def _engine(self) -> Any:
        loop = asyncio.get_running_loop()
        engine = self._engines.get(loop)
        if engine is None:
            engine = self._engines[loop] = self._native.async_engine(self._config)
        return engine
