"""Header names of a request, and how they are read.

Headers are few because each one costs: three of them triple the CPU of a
publish. Names are compared without case, for clients write them in many ways.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

CONTENT_TYPE = "Content-Type"
"""Encoding of the body; ``application/json`` when absent."""

REQUEST = "Dspex-Request"
"""Correlation id chosen by the client; made by who answers when absent."""

DEADLINE = "Dspex-Deadline"
"""Absolute deadline, unix milliseconds."""

ROUTE = "Dspex-Route"
"""Who shall answer: ``auto``, ``native``, ``python``, ``pool:<p>``, ``worker:<w>``."""

STREAM = "Dspex-Stream"
"""Where deltas go: ``events`` (the event subjects) or ``inbox`` (the reply too)."""

CACHE = "Dspex-Cache"
"""Whether a kept answer will do: ``use``, ``refresh`` (ask, and keep), ``off``."""

BODY = "Dspex-Body"
"""Where the body is: the name of an object in the object store of large bodies. Of a
request also ``accept``: the body is here, and that of the reply may be there."""

OPERATION = "Dspex-Operation"
"""What to run, on subjects that do not name it (a pool's or a worker's)."""

TRACEPARENT = "traceparent"
"""W3C trace context of the caller."""

TRACESTATE = "tracestate"
"""W3C trace state of the caller."""

TOLD = (CONTENT_TYPE, ROUTE, STREAM, CACHE, TRACEPARENT, TRACESTATE)
"""Headers of a client that the copy of its request holds; others may be secrets."""

# From a router to the process it chose; ignored on subjects clients publish to.

REPLY = "Dspex-Reply"
"""The client's reply subject: the answer goes there, not to the router."""

ATTEMPT = "Dspex-Attempt"
"""Number of this dispatch, from 1."""

TENANT = "Dspex-Tenant"
"""Tenant whose event subjects the request's events go to."""

REASON = "Dspex-Reason"
"""Why the router chose this worker; ends in ``metadata.reason``."""

ELAPSED = "Dspex-Elapsed"
"""Milliseconds the router held the request; a duration, so clocks may differ."""

ROUTER = "Dspex-Router"
"""Which router sent it, so that a process can say how many it has from each."""

LM = "Dspex-Lm"
"""Language model to use instead of the one asked for: a fallback."""

RETURN = "Dspex-Return"
"""``reply``: the router wants to keep the answer, so tell it too."""

KNOWN = "Dspex-Known"
"""``once``: this very request was sent there before and must not run twice, so who has
forgotten it refuses it."""

SESSION = "Dspex-Session"
"""The session that the request is a turn of."""

FENCE = "Dspex-Fence"
"""Who may write to that session: grows from holder to holder."""

GPU_MEMORY = "Dspex-Gpu-Memory"
"""GPU memory that the router looked for, MiB: who finds that it takes more, and has not
so much free, sends the request back."""

TOOL = "dspex-tool"
"""No header: the metadata of a service's endpoint that is a tool, as JSON."""
EXPECTED_STREAM = "Nats-Expected-Stream"
"""JetStream does not store a message that expects another stream; everybody who
subscribes has it all the same."""

NO_STREAM = "-"
"""The name of no stream: what is told with it is not journaled."""

# Of NATS itself and of its service protocol (ADR-32).

STATUS = "Status"
ERROR = "Nats-Service-Error"
ERROR_CODE = "Nats-Service-Error-Code"


class Headers(Mapping[str, str]):
    """The headers of one message; names are looked up without case."""

    __slots__ = ("_values",)

    def __init__(self, values: Mapping[str, str] | None = None) -> None:
        self._values = {name.lower(): value for name, value in (values or {}).items()}

    def __getitem__(self, name: str) -> str:
        return self._values[name.lower()]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"Headers({', '.join(sorted(self._values))})"


NO_HEADERS = Headers()
