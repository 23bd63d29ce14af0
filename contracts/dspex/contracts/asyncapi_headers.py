"""What the AsyncAPI document says of the parts of subjects, and of headers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dspex.contracts import headers
from dspex.contracts.catalog import OPERATIONS
from dspex.contracts.encoding import CONTENT_TYPES, JSON

if TYPE_CHECKING:
    from dspex.contracts.schemas import Schema

PARAMETERS = {
    "tenant": "Whose request it is; permissions pin a client to its tenant's subjects.",
    "pool": "Name of a pool of workers, such as `light`.",
    "worker": "One process: new at every start, never used again.",
    "session": "Id of a session: 1 to 64 characters of `A-Z a-z 0-9 _ -`.",
    "request": "Correlation id: 1 to 64 characters of `A-Z a-z 0-9 _ -`.",
    "kind": "Kind of the event, as in its body.",
}
"""What the parts of a subject in braces stand for."""

REQUEST_HEADERS: dict[str, Schema] = {
    headers.CONTENT_TYPE: {
        "enum": list(CONTENT_TYPES),
        "default": JSON,
        "description": "Encoding of the body, and of the reply.",
    },
    headers.REQUEST: {
        "type": "string",
        "pattern": "^[A-Za-z0-9_-]{1,64}$",
        "description": "Correlation id; made here when absent. UUIDv7 recommended.",
    },
    headers.DEADLINE: {
        "type": "string",
        "pattern": r"^\d+(\.\d+)?$",
        "description": "Absolute deadline, unix milliseconds, within 24 hours.",
    },
    headers.ROUTE: {
        "type": "string",
        "pattern": "^(auto|native|python|pool:.+|worker:.+)$",
        "default": "auto",
        "description": "Who shall answer: `pool:<name>`, `worker:<id>`, ...",
    },
    headers.STREAM: {
        "enum": ["events", "inbox"],
        "description": "Tell deltas: on the event subjects, or to the reply too.",
    },
    headers.CACHE: {
        "enum": ["use", "refresh", "off"],
        "description": "Whether a kept answer will do; the router's default if absent.",
    },
    headers.BODY: {
        "type": "string",
        "pattern": r"^(accept|[A-Za-z0-9_-]{1,64}\.[A-Za-z0-9_-]{1,64})$",
        "description": "Name of the object, in the object store of large bodies, that "
        "holds the body; or `accept`: the reply may be there.",
    },
    headers.TRACEPARENT: {
        "type": "string",
        "description": "W3C trace context of the caller.",
    },
    headers.TRACESTATE: {
        "type": "string",
        "description": "W3C trace state of the caller.",
    },
}
"""Headers a client may set; names are compared without case."""

POOL_HEADERS: dict[str, Schema] = REQUEST_HEADERS | {
    headers.OPERATION: {
        "enum": sorted(
            one.name for one in OPERATIONS.values() if one.implementation == "python"
        ),
        "default": "predict",
        "description": "What to run, for the subject does not name it.",
    }
}
"""Headers of a request to a pool."""

REPLY_HEADERS: dict[str, Schema] = {
    headers.CONTENT_TYPE: {
        "enum": list(CONTENT_TYPES),
        "default": JSON,
        "description": "Encoding of the body.",
    },
    headers.BODY: {
        "type": "string",
        "description": "Name of the object that holds the body, which is then `{}` "
        "here; only where the request said that it may be.",
    },
}
"""Headers of a reply or an event."""

ERROR_HEADERS: dict[str, Schema] = REPLY_HEADERS | {
    headers.ERROR_CODE: {
        "type": "string",
        "pattern": r"^\d{3}$",
        "description": "Number of the failure, HTTP-like (NATS service protocol).",
    },
    headers.ERROR: {
        "type": "string",
        "description": "Code of the failure and its message, shortened, on one line.",
    },
}
"""Headers of a failed reply or event."""
