"""Which language model the workers use when the configuration names none."""

from __future__ import annotations

import json
import urllib.request
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from dspex.contracts.configuration import BUILTIN_MODEL, Configuration, Lm

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Probe = Callable[[], str | None]
    """Looks for a local server; returns the name of its first model."""

BUILTIN_TEXT = "built-in toy model, 135M parameters"
"""What every output calls the built-in model."""

OLLAMA = "http://127.0.0.1:11434"
LLAMA_SERVER = "http://127.0.0.1:8080"
PROBE_SECONDS = 0.3

PROVIDERS = {
    "OPENAI_API_KEY": "openai/gpt-4o-mini",
    "ANTHROPIC_API_KEY": "anthropic/claude-haiku-4-5",
    "GEMINI_API_KEY": "gemini/gemini-2.5-flash",
    "GROQ_API_KEY": "groq/llama-3.3-70b-versatile",
    "DEEPSEEK_API_KEY": "deepseek/deepseek-chat",
    "OPENROUTER_API_KEY": "openrouter/openai/gpt-4o-mini",
    "XAI_API_KEY": "xai/grok-3-mini",
}
"""Variable that holds a key -> the model it buys, in order of preference."""


class Choice(Struct, frozen=True, kw_only=True):
    """The language model ``default``, and why it is that one.

    Attributes:
        lm: The model.
        why: A few words for people.
        advice: How to get a better one; empty when there is nothing to say.
        configured: The configuration describes it, so every program knows it.
    """

    lm: Lm
    why: str
    advice: str = ""
    configured: bool = False

    @property
    def builtin(self) -> bool:
        """Whether it is the built-in toy model."""
        return self.lm.model == BUILTIN_MODEL

    def tell(self) -> str:
        """Which one and why, with the advice."""
        return f"{self.why} ({self.advice})" if self.advice else self.why


def choose(
    configuration: Configuration,
    environ: Mapping[str, str],
    *,
    ollama: Probe,
    llama_server: Probe,
) -> Choice:
    """Decide which language model to use.

    A configured model is used as it is: if it fails, its failure is what callers
    see, and nothing else answers in its place.

    Args:
        configuration: Its ``lms`` win over everything else.
        environ: Where provider keys are looked for.
        ollama: Probe of Ollama, asked only when no key is set.
        llama_server: Probe of llama-server, asked after that.
    """
    if configuration.lms:
        return _configured(configuration, environ)
    for variable, model in PROVIDERS.items():
        if environ.get(variable):
            lm = Lm(model=model, api_key_env=variable)
            return Choice(lm=lm, why=f"{model}, because {variable} is set")
    if name := ollama():
        lm = Lm(model=f"ollama_chat/{name}", api_base=OLLAMA)
        return Choice(lm=lm, why=f"{name} of the Ollama at {OLLAMA}")
    if name := llama_server():
        base = f"{LLAMA_SERVER}/v1"
        lm = Lm(
            model=f"openai/{name}", api_base=base, api_key="none", response_schema=True
        )
        return Choice(lm=lm, why=f"{name} of the llama-server at {LLAMA_SERVER}")
    advice = (
        "for real answers set DSPEX_LM or a provider's key such as OPENAI_API_KEY, or "
        "run Ollama or llama-server here"
    )
    return Choice(lm=Lm(model=BUILTIN_MODEL), why=BUILTIN_TEXT, advice=advice)


def needs_builtin(configuration: Configuration, choice: Choice) -> bool:
    """Whether any language model in use is the built-in one."""
    return choice.builtin or any(
        lm.model == BUILTIN_MODEL for lm in configuration.lms.values()
    )


def _configured(configuration: Configuration, environ: Mapping[str, str]) -> Choice:
    name = "default" if "default" in configuration.lms else min(configuration.lms)
    lm = configuration.lms[name]
    shown = BUILTIN_TEXT if lm.model == BUILTIN_MODEL else lm.model
    source = (
        "DSPEX_LM" if environ.get("DSPEX_LM") else f"the configuration (lms.{name})"
    )
    return Choice(lm=lm, why=f"{shown}, as {source} says", configured=True)


def find(configuration: Configuration, environ: Mapping[str, str]) -> Choice:
    """``choose`` with this machine's servers."""
    return choose(
        configuration, environ, ollama=probe_ollama, llama_server=probe_llama_server
    )


def probe_ollama(address: str = OLLAMA) -> str | None:
    """The first model of the Ollama at ``address``."""
    return _first(_read(f"{address}/api/tags"), "models", "name")


def probe_llama_server(address: str = LLAMA_SERVER) -> str | None:
    """The model of the llama-server at ``address``."""
    return _first(_read(f"{address}/v1/models"), "data", "id")


def _first(found: Any, key: str, name: str) -> str | None:
    try:
        return str(found[key][0][name])
    except (KeyError, IndexError, TypeError):
        return None


def _read(url: str) -> Any:
    # A proxy in the environment knows nothing of our loopback address.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=PROBE_SECONDS) as reply:
            return json.loads(reply.read(1 << 20))
    except (OSError, ValueError):
        return None
