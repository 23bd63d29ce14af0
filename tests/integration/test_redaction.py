"""What is redacted is found in no stream, bucket, blob, log or export."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from tests.support.asking import Asker, chat, question
from tests.support.commands import dspex
from tests.support.everything import forms, kept, logged
from tests.support.stack import Program

from dspex.bus.provisioning import Names
from dspex.bus.stores import Blobs
from dspex.contracts.headers import BODY
from dspex.contracts.redaction import MARK

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.scripted_model import ScriptedModel
    from tests.support.stack import Stack

    from dspex.bus.connection import NatsBus

pytestmark = [pytest.mark.nats, pytest.mark.dspy]

RULES = """{
headers = ["traceparent"],
fields = ["**.ssn", "inputs.token", "outputs.secret"],
patterns = ["K-[0-9]{6}-Z"] }"""
SIGNATURE = "person: dict, question, token -> secret, answer"
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def drawn(strategy: st.SearchStrategy[str], count: int) -> list[str]:
    """So many values of a strategy, the same ones in every run."""
    found: list[str] = []

    @settings(max_examples=count, database=None, phases=[Phase.generate])
    @given(strategy)
    def gather(value: str) -> None:
        found.append(value)

    gather()
    return found


SECRETS = [
    # One of a kind, so that it stands nowhere by chance.
    f"q{number}x{text}z"
    for number, text in enumerate(
        drawn(st.text(st.characters(codec="utf-8"), min_size=1, max_size=60), 24)
    )
]


async def start(own: Stack) -> None:
    own.environ["DSPEX_JOURNAL_REDACT"] = " ".join(RULES.split())
    own.environ["DSPEX_ROUTER_SHARED_CACHE"] = "true"
    worker = Program("dspex.services.worker", "--pool", "light")
    await own.start(Program("dspex.router"), worker, Program("dspex.native"))
    await own.start(Program("dspex.services.state"))
    await own.ready(workers=1, state=1)


async def check(bus: NatsBus, own: Stack, secrets: list[str], folder: Path) -> str:
    """Look everywhere; returns the text of an export."""
    await bus.flush()
    file = folder / "all.jsonl"
    status, _, errors = await dspex(own, "journal", "export", str(file))
    assert status == 0, errors
    places = await kept(bus, own) | {"logs": logged(own)}
    places["export"] = [file.read_bytes()]
    journal = places[f"{own.prefix.upper()}_JOURNAL"]
    assert any(MARK.encode() in one for one in journal)
    leaks = [
        (place, ascii(secret), one[max(0, one.index(form) - 60) :][: len(form) + 80])
        for place, all_of_it in places.items()
        for secret in secrets
        for form in forms(secret)
        for one in all_of_it
        if form in one
    ]
    assert leaks == []
    return file.read_text()


async def test_nothing_redacted_is_kept(
    own: Stack, ask: Asker, bus: NatsBus, model: ScriptedModel, tmp_path: Path
) -> None:
    """Whatever way a secret takes through a request, no copy of anything has it."""
    await start(own)
    secrets: list[str] = []
    for number, (first, second, third) in enumerate(
        zip(SECRETS[::3], SECRETS[1::3], SECRETS[2::3], strict=True)
    ):
        key = f"K-{number:06}-Z"
        secrets += [first, second, third, key]
        inputs = {
            "person": {"name": "Ann", "papers": [{"ssn": first}]},
            "question": f"Who has {key}?",
            "token": second,
        }
        body: dict[str, Any] = question(SIGNATURE, **inputs)
        model.reply_with(
            chat(reasoning=key, secret=third, answer=" ".join(secrets[-4:]))
        )
        told = await ask.ask("predict", body, traceparent=TRACE, dspex_cache="use")
        # The client itself has it all.
        assert told.body["outputs"]["answer"].startswith(first.strip()[:3])
        streamed = await ask.stream("chain_of_thought", body)
        assert streamed.last["kind"] == "done"
        pool = own.subjects.pool_run("light")
        await ask.ask("predict", body, subject=pool)
        model.reply_with(f"Not in the form: {third} {first} {key}")
        broken = await ask.ask("predict", body)
        assert broken.code == "parse_failed"
        model.reply_with(chat(secret=third, answer="?"))
        wrong = question("person: int, token -> secret", **inputs)
        assert (await ask.ask("predict", wrong)).body["type"] == "failed"
        await ask.ask("predict", {"inputs": inputs, "signture": key})
        values = {"person": inputs["person"]}
        await ask.ask("template.render", {"template": key, "values": values})

    text = await check(bus, own, [*secrets, TRACE], tmp_path)

    rows = [json.loads(json.loads(line)["data"]) for line in text.splitlines()]
    assert {"lm_call", "requested", "done", "failed", "delta"} <= {
        row["kind"] for row in rows
    }


async def test_large_secrets(
    own: Stack, ask: Asker, bus: NatsBus, model: ScriptedModel, tmp_path: Path
) -> None:
    """What is stored apart for its size is redacted like everything else."""
    await start(own)
    secret = "the-secret-of-the-large"
    model.reply_with(chat(reasoning=secret, secret=secret, answer=secret))
    inputs = {"person": {"ssn": secret}, "question": "x" * 1_046_500, "token": "t"}

    told = await ask.ask("chain_of_thought", question(SIGNATURE, **inputs))

    assert told.body["outputs"]["answer"] == secret
    name = f"default.{uuid4().hex}"
    objects = Blobs(bus, Names(own.prefix).blobs)
    await objects.put(name, json.dumps(question(SIGNATURE, **inputs)).encode())
    named = await bus.request(
        own.subjects.call("chain_of_thought"), headers={BODY: name}, timeout=30
    )
    assert json.loads(named.data)["outputs"]["answer"] == secret
    await objects.delete(name)  # the client's own, which is not redacted
    await check(bus, own, [secret], tmp_path)
