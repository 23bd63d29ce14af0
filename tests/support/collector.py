"""What takes OTLP over HTTP, and reads the metrics in it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Self

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

WITHIN = 20.0
"""Seconds in which a metric has to come."""


class Collector:
    """Takes OTLP over HTTP and keeps the bodies."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self._metrics: list[ExportMetricsServiceRequest] = []
        self._news = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    def points(self, name: str, **attributes: str) -> dict[str, dict[str, Any]]:
        """The last points of a metric, by ``service.name``, then by their attributes.

        Args:
            name: Of the metric.
            **attributes: Only points with these, dots written as underscores.
        """
        found: dict[str, dict[str, Any]] = {}
        for service, metric in self._told():
            data = getattr(metric, str(metric.WhichOneof("data")))
            for point in data.data_points if metric.name == name else ():
                said = _said(point.attributes)
                wanted = {key.replace(".", "_"): said[key] for key in said}
                if attributes.items() <= wanted.items():
                    found.setdefault(service, {})[str(sorted(said.items()))] = point
        return found

    def count(self, name: str, service: str, **attributes: str) -> int:
        """What the points add up to: numbers, or how often something was measured."""
        points = self.points(name, **attributes).get(service, {}).values()
        return sum(
            one.count if hasattr(one, "bucket_counts") else one.as_int for one in points
        )

    def units(self) -> dict[str, tuple[str, str]]:
        """The unit and the kind of every metric that came."""
        return {
            metric.name: (metric.unit, str(metric.WhichOneof("data")))
            for _, metric in self._told()
        }

    def _told(self) -> Iterator[tuple[str, Any]]:
        """Every metric that came, after the program that told it."""
        for told in (
            one for request in self._metrics for one in request.resource_metrics
        ):
            service = _said(told.resource.attributes)["service.name"]
            for metric in (
                one for scope in told.scope_metrics for one in scope.metrics
            ):
                yield service, metric

    async def comes_to(
        self, wanted: int, name: str, service: str, **attributes: str
    ) -> None:
        """Wait until a metric was exported that comes to this.

        Raises:
            TimeoutError: It does not come.
        """
        async with asyncio.timeout(WITHIN):
            while self.count(name, service, **attributes) != wanted:
                self._news.clear()
                await self._news.wait()

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                fields = head.decode().lower().split("content-length: ")[1]
                body = await reader.readexactly(int(fields.split("\r\n")[0]))
                self._take(head, body)
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        except asyncio.IncompleteReadError:
            writer.close()

    def _take(self, head: bytes, body: bytes) -> None:
        self.bodies.append(body)
        if head.startswith(b"POST /v1/metrics "):
            self._metrics.append(ExportMetricsServiceRequest.FromString(body))
        self._news.set()


def _said(attributes: Any) -> dict[str, str]:
    return {one.key: one.value.string_value for one in attributes}
