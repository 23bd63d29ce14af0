from __future__ import annotations

from pathlib import Path

import pytest

from dspex.bus.permissions import PROGRAMS, ROLES, configuration, permissions, variable
from dspex.contracts.subjects import Subjects, covers

FILE = Path(__file__).parents[3] / "deploy" / "permissions.conf"
SUBJECTS = Subjects()


def test_the_file_in_deploy_is_the_generated_one() -> None:
    """What ``dspex permissions`` prints is what is deployed."""
    assert FILE.read_text() == configuration(SUBJECTS)


def may_publish(role: str, subject: str, subjects: Subjects = SUBJECTS) -> bool:
    found = permissions(role, subjects)
    allowed = any(covers(one, subject) for one in found.publish)
    return allowed and not any(covers(one, subject) for one in found.never)


@pytest.mark.parametrize("role", PROGRAMS)
def test_programs_say_what_they_have_to_offer(role: str) -> None:
    """Each sends the heartbeats of its own kind, and nobody else's."""
    pool = "light" if role == "worker" else role
    assert may_publish(role, SUBJECTS.heartbeat(pool, "one"))
    other = "state" if role != "state" else "router"
    assert may_publish(role, SUBJECTS.heartbeat(other, "one")) is (role == "replay")


def test_a_tenants_client_has_its_tenants_subjects() -> None:
    """It asks as its tenant, and neither as another nor as the default one."""
    acme = SUBJECTS.of("acme")
    assert may_publish("client", acme.call("predict"), acme)
    assert not may_publish("client", SUBJECTS.call("predict"), acme)
    assert not may_publish("client", SUBJECTS.of("other").call("predict"), acme)


def test_only_clients_are_kept_from_others_answers() -> None:
    """Programs answer to inboxes by name."""
    listening = {
        role for role in ROLES if "_INBOX.>" in permissions(role, SUBJECTS).subscribe
    }
    assert listening == {*PROGRAMS, "operator"}


def test_names_of_variables_are_words() -> None:
    """A prefix with a dash still gives a name that nats-server reads."""
    assert variable("client", Subjects("my-app")) == "my_app_client"
