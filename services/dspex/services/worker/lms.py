"""The language models of a worker, built from its configuration.

Each gets one engine (``dspex.services.worker.engines``), and only the models that
LiteLLM alone knows go there.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import dspy
from msgspec.structs import replace

from dspex.contracts.configuration import BUILTIN_MODEL, ConfigurationError, Lm
from dspex.contracts.failures import BadRequest, LmAuth, NotFound, Unsupported, nearest
from dspex.contracts.requests import LmConfig
from dspex.services.worker.engines import CONSTRAINED, NATIVE, Engine, Native, Support
from dspex.services.worker.recorded import RecordedLM
from dspex.services.worker.replayed import ReplayedLM

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dspex.bus.replaying import Answers

OVERRIDES = frozenset(LmConfig.__struct_fields__)
"""Options that a request may set. Keys and addresses are never among them."""

_BUILTIN_NAME = "smollm2-135m"
_BUILTIN_TOKENS = 200
_CONNECT_S = 10.0
_SERVER_PREFIXES = ("openai/", "hosted_vllm/", "ollama/", "ollama_chat/", "lm_studio/")


@dataclasses.dataclass(frozen=True)
class Builtin:
    """Where the built-in model listens.

    Attributes:
        url: Base URL, such as `http://127.0.0.1:4321/v1`.
        key: Its API key.
    """

    url: str
    key: str = dataclasses.field(repr=False)


_NOWHERE = Builtin("http://127.0.0.1:9/v1", "none")
"""In place of a provider, where none is called."""


class LanguageModels:
    """Language models by name; each is built when it is first asked for.

    Args:
        configured: The sections `[lms.<name>]`.
        environ: Where `api_key_env` is looked up.
        builtin: The server of the built-in model, if one runs.
        connections: Most connections to one model's server, at least as many as the
            worker runs requests.
        answers: Where a replay has its answers from; absent: from providers.
    """

    def __init__(
        self,
        configured: Mapping[str, Lm],
        *,
        environ: Mapping[str, str],
        builtin: Builtin | None = None,
        connections: int = 512,
        answers: Answers | None = None,
    ) -> None:
        self._configured = dict(configured)
        self._environ = environ
        self._answers = answers
        self._kind: type[RecordedLM] = RecordedLM if answers is None else ReplayedLM
        self._nowhere = answers is not None and not answers.real
        self._builtin = _NOWHERE if self._nowhere else builtin
        self._connections = connections
        self._built: dict[str, RecordedLM] = {}

    def build(self, name: str) -> RecordedLM:
        """Return the language model of that name.

        Raises:
            NotFound: The configuration names no such model.
            LmAuth: The variable that should hold its key is not set.
            Unsupported: It needs a newer DSPy.
        """
        if name not in self._built:
            lm = self._built[name] = self._build(self._lm(name))
            lm.name, lm.secrets = name, lambda: self.secrets
            if isinstance(lm, ReplayedLM):
                lm.answers = self._answers
        return self._built[name]

    def for_request(self, name: str, overrides: Mapping[str, Any]) -> RecordedLM:
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
        changed: RecordedLM = lm.copy(**_renamed(lm, overrides)) if overrides else lm
        return changed

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
            if isinstance(engine, Engine):
                await engine.twin.aclose()
                engine.close()
            if hasattr(lm, "aclose"):
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

    def _build(self, lm: Lm) -> RecordedLM:
        if lm.model == BUILTIN_MODEL:
            return self._build_builtin(lm)
        key = self._key(lm)
        if lm.response_schema:
            return self._build_local(lm, key)
        probe = _plain(lm, key, self._kind)
        if NATIVE is None or not (selected := NATIVE.select(probe)).native:
            return probe  # DSPy hands this one to LiteLLM, and so do we
        provider = selected.resolution.provider
        key = selected.clients.get("api_key")
        engine = Engine(
            NATIVE,
            Support.of(probe),
            timeouts=_timeouts(NATIVE, lm),
            max_connections=self._connections,
            api_keys={provider: key} if key else None,
            base_urls={provider: lm.api_base} if lm.api_base else None,
        )
        return _with_engine(lm, lm.model, engine, self._kind, _clients(lm, key))

    def _build_builtin(self, lm: Lm) -> RecordedLM:
        if self._builtin is None:
            raise Unsupported(
                "The built-in model is not running for this worker.",
                hint="Start one with dspex-model and set DSPEX_MODEL_URL and "
                "DSPEX_MODEL_KEY, or configure another language model.",
                field="lm",
            )
        server = _Server("builtin", self._builtin.url, self._builtin.key)
        # Left to itself it wanders, and it wanders for as long as it may.
        steady = replace(
            lm,
            temperature=lm.temperature if lm.temperature is not None else 0.0,
            max_tokens=lm.max_tokens or _BUILTIN_TOKENS,
        )
        return self._declared(steady, server, _BUILTIN_NAME)

    def _build_local(self, lm: Lm, key: str | None) -> RecordedLM:
        if not lm.api_base:
            raise ConfigurationError(
                f"response_schema of {lm.model!r} needs api_base: it says what the "
                "server there can do. Set api_base, or leave response_schema out."
            )
        model = lm.model
        for prefix in _SERVER_PREFIXES:
            model = model.removeprefix(prefix)
        server = _Server("local", lm.api_base, key)
        return self._declared(lm, server, model, _clients(lm, key))

    def _declared(
        self,
        lm: Lm,
        server: _Server,
        model: str,
        clients: dict[str, Any] | None = None,
    ) -> RecordedLM:
        if NATIVE is None:
            raise Unsupported(
                f"{lm.model!r} needs dspy.lm15 and dspy.clients.engines, which DSPy "
                f"{dspy.__version__} does not have where 3.4 has them.",
                hint="Install a DSPy release that this worker knows, such as 3.4.1.",
                field="lm",
            )
        lm15 = NATIVE.lm15
        definition = lm15.ProviderDefinition.chat(
            lm15.AccessPolicy(provider=server.provider, base_url=server.url),
            # How vLLM and llama.cpp spell things: role `system`, `max_tokens`.
            compat=lm15.OpenAIChatCompat.preset("vllm"),
            placeholder_key="none",
        )
        engine = Engine(
            NATIVE,
            CONSTRAINED,
            timeouts=_timeouts(NATIVE, lm),
            max_connections=self._connections,
            api_keys={server.provider: server.key} if server.key else None,
            providers=(definition,),
        )
        model = f"{server.provider}/{model}"
        return _with_engine(lm, model, engine, self._kind, clients)

    def _key(self, lm: Lm) -> str | None:
        if not lm.api_key_env:
            return lm.api_key
        key = self._environ.get(lm.api_key_env)
        if not key and self._nowhere:
            return _NOWHERE.key
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


def _timeouts(native: Native, lm: Lm) -> Any:
    # Each bounds one step: the next byte, not the whole answer. The whole is
    # bounded by the deadline of the request.
    return native.lm15.Timeouts(
        connect=min(lm.timeout_s, _CONNECT_S),
        read=lm.timeout_s,
        write=lm.timeout_s,
        pool=lm.timeout_s,
    )


def _with_engine(
    lm: Lm,
    model: str,
    engine: Engine,
    kind: type[RecordedLM],
    clients: dict[str, Any] | None = None,
) -> RecordedLM:
    built = kind(
        model,
        temperature=lm.temperature,
        max_tokens=lm.max_tokens,
        num_retries=lm.num_retries,
        cache=False,
        engine=engine,
        async_engine=engine.twin,
    )
    if clients is not None:
        built.clients = lambda: {"model": lm.model, **clients}
    return built


def _plain(lm: Lm, key: str | None, kind: type[RecordedLM]) -> RecordedLM:
    return kind(
        lm.model,
        temperature=lm.temperature,
        max_tokens=lm.max_tokens,
        num_retries=lm.num_retries,
        cache=False,
        **_clients(lm, key),
    )


def _clients(lm: Lm, key: str | None) -> dict[str, Any]:
    found: dict[str, Any] = {"timeout": lm.timeout_s}
    found |= {"api_key": key} if key else {}
    found |= {"api_base": lm.api_base} if lm.api_base else {}
    return found


def _renamed(lm: RecordedLM, overrides: Mapping[str, Any]) -> dict[str, Any]:
    # DSPy keeps the limit of a reasoning model under the provider's newer name.
    if "max_completion_tokens" not in lm.kwargs:
        return dict(overrides)
    newer = {"max_tokens": "max_completion_tokens"}
    return {newer.get(name, name): value for name, value in overrides.items()}
