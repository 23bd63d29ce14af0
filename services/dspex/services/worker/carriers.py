"""Language models that ask by the way that can carry what is asked.

The engines of a worker (``dspex.services.worker.engines``) carry text and images to
servers of chat completions. Where DSPy was left to choose, it would send audio, files
and documents there through LiteLLM; so calls with such parts are left to its choice.
"""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import dspy

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

RARE_PARTS = frozenset({"audio_url", "document", "file", "input_audio", "video_url"})
"""Parts of messages that LiteLLM takes, and DSPy's own engine from few or none."""

_loading = threading.Lock()


class CarriedLM(dspy.LM):  # type: ignore[misc]  # DSPy ships no types
    """DSPy's language model, which leaves calls with rare parts to DSPy's own choice.

    Attributes:
        clients: Gives what such a copy of it needs to reach the same model: ``model``,
            ``timeout``, ``api_key``, ``api_base``. A function, because an object that
            shows itself must not show a key. ``None``: there is no other way.
    """

    clients: Callable[[], Mapping[str, Any]] | None = None

    async def acall(
        self, prompt: Any = None, *, messages: Any = None, **kwargs: Any
    ) -> Any:
        """As ``dspy.LM.acall``."""
        lm = self._carrier(messages)
        if getattr(lm, "engine", None) == "auto":
            await asyncio.to_thread(_load_litellm)
        return await dspy.LM.acall(lm, prompt, messages=messages, **kwargs)

    def __call__(
        self, prompt: Any = None, *, messages: Any = None, **kwargs: Any
    ) -> Any:
        """As ``dspy.LM.__call__``."""
        lm = self._carrier(messages)
        return dspy.LM.__call__(lm, prompt, messages=messages, **kwargs)

    def _carrier(self, messages: Any) -> dspy.LM:
        if self.clients is None or not has_rare_parts(messages):
            return self
        return self.copy(engine="auto", **self.clients())


def has_rare_parts(messages: Any) -> bool:
    """Say whether a part of these messages is one that few engines carry."""
    return any(
        isinstance(part, dict) and part.get("type") in RARE_PARTS
        for message in messages or ()
        if isinstance(message, dict) and isinstance(message.get("content"), list)
        for part in message["content"]
    )


def _load_litellm() -> None:
    # It takes seconds, in which the event loop would tell no heartbeat. DSPy loads it
    # when an attribute is read, which two threads may not do at once.
    with _loading, suppress(ImportError):
        from dspy.clients._litellm import get_litellm

        get_litellm(feature="dspy.LM")
