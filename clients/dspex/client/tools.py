"""Offer Python functions as tools, for as long as a request or a program needs them.

async with connect() as client:
    async with tools.serve(client, weather) as tool:
        answer = await client.call("react", {..., "tools": [tool]})
"""

from __future__ import annotations

import inspect
import logging
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any, get_type_hints
from uuid import uuid4

import msgspec

from dspex.bus.program import VERSION
from dspex.bus.serving import Endpoint, Service, ServiceInfo
from dspex.contracts import encoding, headers
from dspex.contracts.failures import BadRequest
from dspex.contracts.subjects import token

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable

    from dspex.bus.core import Bus, Message
    from dspex.client import Client

_log = logging.getLogger(__name__)

_SHOWN = 200


@asynccontextmanager
async def serve(
    client: Client,
    function: Callable[..., Any],
    *,
    name: str = "",
    description: str = "",
    shared: bool = False,
) -> AsyncIterator[dict[str, Any]]:
    """Offer a function as a tool while the block lasts.

    Its parameters become the JSON Schema of its arguments, by their annotations, and
    what does not fit is refused before it is called. What it raises is told to who
    called, by the class and the message.

    Args:
        client: Over whose connection, and under whose prefix and tenant.
        function: With or without ``async``; parameters are given by name.
        name: What a model calls it; default: that of the function.
        description: What a model is told; default: the docstring.
        shared: Offer it on ``tool.<name>``, which everybody who offers the same
            shares; by default it has a subject of its own, known to nobody else.

    Yields:
        The tool as a request names it.

    Raises:
        BadRequest: The name cannot stand in a subject.
        TypeError: A parameter has no name, or no JSON Schema.
    """
    called = token(name or function.__name__, "name")
    arguments = _arguments(function, called)
    own = called if shared else f"{called}.{uuid4().hex}"
    declared = {
        "name": called,
        "description": description or inspect.getdoc(function) or "",
        "schema": _schema(arguments),
    }
    subject = client.subjects.tool(own)
    tool = _Tool(client.bus, function, arguments)
    endpoint = Endpoint(
        name=called,
        subject=subject,
        handler=tool.answer,
        queue=called,
        metadata={headers.TOOL: msgspec.json.encode(declared).decode()},
    )
    info = ServiceInfo(name=f"dspex-tool-{called}", version=VERSION)
    service = Service(client.bus, client.subjects, info, [endpoint])
    await service.start()
    try:
        yield declared | {"subject": subject}
    finally:
        await service.stop()


@asynccontextmanager
async def offered(client: Client, wanted: Iterable[Any]) -> AsyncIterator[list[Any]]:
    """Offer the functions among some tools while the block lasts.

    Args:
        client: As for `serve`.
        wanted: Functions, and tools as a request names them.

    Yields:
        All of them as a request names them, in order.
    """
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(serve(client, one))
            if callable(one)
            else one
            for one in wanted
        ]


class _Tool:
    """A function that answers messages."""

    def __init__(
        self, bus: Bus, function: Callable[..., Any], arguments: type[msgspec.Struct]
    ) -> None:
        self._bus = bus
        self._function = function
        self._arguments = arguments

    async def answer(self, message: Message) -> str | None:
        """Call it and answer; what it raises is an answer too."""
        try:
            given = encoding.decode(message.data, self._arguments)
            # Not asdict: what is inside stays what the annotations say.
            result = self._function(
                **{key: getattr(given, key) for key in given.__struct_fields__}
            )
            if inspect.isawaitable(result):
                result = await result
            data = encoding.encode(result)
        except BadRequest as failure:
            return await self._fail(message, "400", failure.message)
        except Exception as error:  # noqa: BLE001 - who called is told
            _log.warning("a tool failed", extra={"error": type(error).__name__})
            return await self._fail(message, "500", f"{type(error).__name__}: {error}")
        await self._bus.publish(message.reply, data)
        return None

    async def _fail(self, message: Message, code: str, said: str) -> str:
        sent = {
            headers.ERROR_CODE: code,
            headers.ERROR: " ".join(said.split())[:_SHOWN],
        }
        await self._bus.publish(message.reply, b"", headers=sent)
        return code


def _arguments(function: Callable[..., Any], name: str) -> type[msgspec.Struct]:
    hints = get_type_hints(function, include_extras=True)
    fields: list[Any] = []
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind not in (
            parameter.POSITIONAL_OR_KEYWORD,
            parameter.KEYWORD_ONLY,
        ):
            raise TypeError(f"{name}: {parameter} cannot be given by name.")
        kind = hints.get(parameter.name, Any)
        if parameter.default is parameter.empty:
            fields.append((parameter.name, kind))
        else:
            fields.append((parameter.name, kind, parameter.default))
    return msgspec.defstruct(
        name, fields, frozen=True, kw_only=True, forbid_unknown_fields=True
    )


def _schema(arguments: type[msgspec.Struct]) -> dict[str, Any]:
    _, found = msgspec.json.schema_components(
        [arguments], ref_template="#/$defs/{name}"
    )
    schema: dict[str, Any] = found.pop(arguments.__name__)
    schema.pop("title", None)
    return schema | ({"$defs": found} if found else {})
