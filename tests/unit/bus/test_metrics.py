from __future__ import annotations

import re

import pytest
from tests.support.documents import ROOT

from dspex.bus import metrics, tracing

ROW = re.compile(r"^\| `([\w.]+)` \| (.*) \|$", re.M)


def test_the_page_is_the_code() -> None:
    """The table of instruments says what there is, word for word."""
    page = (ROOT / "docs" / "observability.md").read_text(encoding="utf-8")

    assert dict(ROW.findall(page)) == {
        one.name: " | ".join(
            (
                one.kind,
                f"`{one.unit}`",
                ", ".join(f"`{name}`" for name in one.attributes),
                ", ".join(one.who),
                one.description,
            )
        )
        for one in metrics.INSTRUMENTS
    }


@pytest.mark.parametrize(
    ("environ", "exported"),
    [
        ({}, []),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://a"}, ["TRACES", "METRICS"]),
        ({"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://a"}, ["METRICS"]),
        (
            {
                "OTEL_EXPORTER_OTLP_ENDPOINT": "http://a",
                "OTEL_METRICS_EXPORTER": "none",
            },
            ["TRACES"],
        ),
    ],
)
def test_what_is_exported(environ: dict[str, str], exported: list[str]) -> None:
    """The standard variables say which signals are exported."""
    found = [one for one in ("TRACES", "METRICS") if tracing.exports(one, environ)]

    assert found == exported


def test_off() -> None:
    """Without an endpoint nothing is set up, and measuring does nothing."""
    metrics.configure("dspex-test", "dspex", {})

    metrics.served("predict", "light", "done", 1.0)
    metrics.observe(metrics.RETRIES, lambda: [(1, {})])

    assert not metrics.is_on()
