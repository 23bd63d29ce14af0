"""How the Python client sends requests."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from dspex.client.patience import RESEND

DEFAULT_TIMEOUT = 120.0
"""Seconds until a request's deadline."""


class Options(Struct, frozen=True, kw_only=True):
    """How requests are sent, and what of the model they change.

    Attributes:
        timeout: Seconds until a request's deadline.
        request: Correlation id; default: a new one for each request.
        route: Who shall answer, as in the header ``Dspex-Route``.
        pool: A pool to ask without a router.
        session: The session that requests are turns of.
        instructions: What to do, instead of the signature's own instructions.
        demos: Worked examples.
        lm: Name of a language model in the workers' configuration.
        config: What to change about it, such as ``{"temperature": 0.7}``.
        adapter: How the prompt is written: ``chat``, ``json`` or ``xml``.
        cache: Whether a kept answer will do: ``use``, ``refresh`` or ``off``.
        resend: Seconds without an answer after which a request is sent again.
        priority: Who goes first where requests wait: 1 first, 5 last.
        more: Other ``options`` of the body, such as ``{"idempotent": False}``.
    """

    timeout: float = DEFAULT_TIMEOUT
    request: str = ""
    route: str = ""
    pool: str = ""
    session: str = ""
    instructions: str | None = None
    demos: list[dict[str, Any]] | None = None
    lm: str | None = None
    config: dict[str, Any] | None = None
    adapter: str | None = None
    cache: str = ""
    resend: float = RESEND
    priority: int | None = None
    more: dict[str, Any] | None = None

    def body(self, signature: Any, inputs: dict[str, Any]) -> dict[str, Any]:
        """The body of a request that fills a signature."""
        names = ("instructions", "demos", "lm", "config", "adapter")
        given = {name: getattr(self, name) for name in names}
        said = {name: value for name, value in given.items() if value is not None}
        options = {"priority": self.priority} if self.priority is not None else {}
        if options := options | (self.more or {}):
            said["options"] = options
        return {"signature": signature, "inputs": inputs} | said
