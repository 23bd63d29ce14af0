"""Subjects: what the docstrings draw is what comes out, and nothing else spells one."""

from __future__ import annotations

import inspect
import re
from typing import Any

import pytest

from dspex.contracts.failures import BadRequest
from dspex.contracts.subjects import (
    Address,
    Subjects,
    answerable,
    covers,
    is_literal,
    is_token,
    token,
)

READ = ("call", "cancel", "event", "native", "heartbeat", "journaled")

FACES = (
    *("call", "calls", "native", "natives", "pool_run"),
    *("event", "events", "all_events", "cancel", "cancels", "record"),
    *("tool", "tools", "session_call", "session_event", "session_calls"),
    *("session_run", "session_log", "session_logs", "records", "session_events"),
)
"""What clients publish or subscribe to, so what each tenant has for itself."""


def _drawn() -> dict[str, Any]:
    methods = inspect.getmembers(Subjects, inspect.isfunction)
    return {
        name: method
        for name, method in methods
        if not name.startswith("_") and (method.__doc__ or "").startswith("``dspex.v1.")
    }


DRAWN = _drawn()


def _pattern(name: str) -> str:
    match = re.match(r"``(.+?)``", DRAWN[name].__doc__)
    assert match is not None
    return match.group(1)


def _build(name: str, subjects: Subjects) -> str:
    names = list(inspect.signature(DRAWN[name]).parameters)[1:]
    built: str = getattr(subjects, name)(*(f"<{one}>" for one in names))
    return built


@pytest.mark.parametrize("name", DRAWN)
def test_docstrings_draw_the_subject(name: str) -> None:
    """Every subject looks as its docstring says."""
    assert _build(name, Subjects()) == _pattern(name)


@pytest.mark.parametrize("name", DRAWN)
def test_prefix(name: str) -> None:
    """Another prefix changes the first token and nothing else."""
    assert _build(name, Subjects("acme")) == "acme" + _pattern(name)[len("dspex") :]


@pytest.mark.parametrize("name", DRAWN)
def test_tenant_form(name: str) -> None:
    """Client-facing subjects exist per tenant; those between programs do not."""
    plain, tenants = _pattern(name), _build(name, Subjects(tenant="acme"))

    if name in FACES:
        assert tenants == plain.replace("dspex.v1.", "dspex.v1.tenant.acme.")
    else:
        assert tenants == plain


def test_all_are_drawn() -> None:
    """Every public method that builds a subject draws it in its docstring."""
    others = {"of", "sender", "journaled", "journaled_again"}
    others |= {*(f"read_{one}" for one in READ)}
    public = {
        name
        for name, _ in inspect.getmembers(Subjects, inspect.isfunction)
        if not name.startswith("_")
    }

    assert public - others == DRAWN.keys()


@pytest.mark.parametrize("tenant", ["default", "acme"])
@pytest.mark.parametrize("operation", ["predict", "signature.parse"])
def test_call_is_read_back(tenant: str, operation: str) -> None:
    """A call subject says its tenant and its operation again."""
    subjects = Subjects("p", tenant)

    read = Subjects("p").read_call(subjects.call(operation))

    assert read == Address(tenant, operation)


@pytest.mark.parametrize("tenant", ["default", "acme"])
def test_cancel_is_read_back(tenant: str) -> None:
    """A cancel subject says its tenant and its request again."""
    subjects = Subjects(tenant=tenant)

    assert Subjects().read_cancel(subjects.cancel("r-1")) == Address(tenant, "r-1")


@pytest.mark.parametrize("tenant", ["default", "acme"])
def test_event_is_read_back(tenant: str) -> None:
    """An event subject says its tenant and its request again."""
    subject = Subjects(tenant=tenant).event("r-1", "accepted")

    assert Subjects().read_event(subject) == Address(tenant, "r-1")


@pytest.mark.parametrize("tenant", ["default", "acme"])
def test_journaled_is_read_back(tenant: str) -> None:
    """A subject of the journal says whose it is, and what it is about."""
    subjects = Subjects("p", tenant)
    session = subjects.session_events("r-1").replace("*", "x")

    assert [
        Subjects("p").read_journaled(one)
        for one in (subjects.event("r-1", "done"), subjects.record("r-1", "lm_call"))
    ] == [(tenant, "event", "r-1", "done"), (tenant, "record", "r-1", "lm_call")]
    assert Subjects("p").read_journaled(session) == (tenant, "event", "r-1", "x")
    for other in (subjects.cancel("r-1"), "p", "p.v1.tenant", "x.event.r-1"):
        with pytest.raises(BadRequest, match="no subject of the journal"):
            Subjects("p").read_journaled(other)


@pytest.mark.parametrize("tenant", ["default", "acme"])
def test_native_is_read_back(tenant: str) -> None:
    """A native subject says its operation and its tenant again."""
    subject = Subjects(tenant=tenant).native("signature.parse")

    assert Subjects().read_native(subject) == "signature.parse"
    assert Subjects().sender(subject).tenant == tenant


@pytest.mark.parametrize("subject", ["dspex.v1.event.r.done", "dspex.v1.tenant.a.b"])
def test_other_families_are_no_calls(subject: str) -> None:
    """A subject of another family is refused."""
    with pytest.raises(BadRequest, match="not a call subject"):
        Subjects().read_call(subject)


def test_same_tenant_is_the_same_value() -> None:
    """Asking for the tenant one has already makes nothing new."""
    subjects = Subjects()

    assert subjects.of("default") is subjects
    assert subjects.of("acme").of("default") == subjects


@pytest.mark.parametrize("text", ["a", "A-b_9", "x" * 64])
def test_tokens(text: str) -> None:
    """Letters, digits, '_' and '-' up to 64 may stand in a subject."""
    assert token(text, "request") == text


@pytest.mark.parametrize("text", ["", "a.b", "a b", "*", ">", "é", "x" * 65, "a\n"])
def test_what_is_no_token(text: str) -> None:
    """Everything else is refused, and the refusal names the header at fault."""
    assert not is_token(text)
    with pytest.raises(BadRequest, match="1 to 64 characters") as refused:
        token(text, "Dspex-Request")
    assert refused.value.field == "Dspex-Request"


@pytest.mark.parametrize(
    ("reply", "answered"),
    [
        ("_INBOX.a.b", True),
        ("_R_.x.y", True),
        ("$JS.API.STREAM.DELETE.x", False),
        ("dspex.v1.call.predict", False),
        ("_INBOX", False),
        ("_INBOX.>", False),
        ("_INBOX.*.a", False),
        ("_INBOX.a..b", False),
        ("_INBOX.a b", False),
        ("", False),
    ],
)
def test_only_inboxes_are_answered(reply: str, answered: bool) -> None:
    """A reply subject is answered only if it is an inbox, without wildcards."""
    assert answerable(reply) is answered


@pytest.mark.parametrize(
    ("pattern", "subject", "covered"),
    [
        ("a.>", "a.b", True),
        ("a.>", "a.b.c", True),
        ("a.>", "a", False),
        ("a.*", "a.b", True),
        ("a.*", "a.b.c", False),
        ("a.b", "a.b", True),
        ("a.b", "a.c", False),
        ("a.b.c", "a.b", False),
    ],
)
def test_patterns(pattern: str, subject: str, covered: bool) -> None:
    """Wildcards mean what they mean to the server."""
    assert covers(pattern, subject) is covered


@pytest.mark.parametrize(
    ("subject", "literal"),
    [("a.b-c_1", True), ("a..b", False), ("a.*", False), ("$JS.API", False)],
)
def test_subjects_to_call(subject: str, literal: bool) -> None:
    """What is called has no wildcards, no spaces and no empty tokens."""
    assert is_literal(subject) is literal


def test_heartbeat_is_read_back() -> None:
    """A heartbeat subject says its pool and its worker again."""
    subjects = Subjects()

    assert subjects.read_heartbeat(subjects.heartbeat("light", "w-1")) == (
        "light",
        "w-1",
    )
