"""Which pool does a job."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from dspex.bus.core import Message
from dspex.contracts import catalog, encoding, examples
from dspex.contracts.failures import Failure
from dspex.contracts.subjects import Subjects
from dspex.services.state.pools import Pools

SUBJECTS = Subjects()
PREDICT = catalog.operation("predict")
PARSE = catalog.operation("signature.parse")


def pools(*configured: str) -> Pools:
    return Pools(SUBJECTS, configured)


def hear(found: Pools, pool: str, *, subject_pool: str = "", **changes: Any) -> None:
    """Let it hear a heartbeat."""
    beat = replace(examples.HEARTBEAT, pool=pool, **changes)
    subject = SUBJECTS.heartbeat(subject_pool or pool, beat.worker)
    found.hear(Message(subject, encoding.encode(beat), "", None))


def test_the_first_that_is_alive() -> None:
    """Without a wish, the first pool that is heard of and does the operation has it."""
    found = pools("asleep")
    hear(found, "b")
    hear(found, "c")
    hear(found, "a", operations=["chain_of_thought"])

    assert found.choose(PREDICT, None) == "b"


def test_the_first_that_is_configured() -> None:
    """Where nobody is alive, a job waits for the pool that is configured."""
    assert pools("light", "gpu").choose(PREDICT, None) == "gpu"


def test_native() -> None:
    """Native operations go to native-ops, or to the pool that is asked for."""
    assert pools("light").choose(PARSE, None) == "native"
    assert pools("light").choose(PARSE, "light") == "light"


@pytest.mark.parametrize(
    ("wanted", "code", "says"),
    [
        ("lihgt", "not_found", "Did you mean 'light'?"),
        ("native", "unsupported", "does not do 'predict'"),
        ("state", "not_found", "Unknown pool 'state'"),
    ],
)
def test_refused(wanted: str, code: str, says: str) -> None:
    """A pool that there is not, or that cannot, is named."""
    found = pools("light")
    hear(found, "state")

    with pytest.raises(Failure) as refused:
        found.choose(PREDICT, wanted)

    assert refused.value.code == code
    assert says in refused.value.message
    assert refused.value.field == "pool"


def test_nobody() -> None:
    """Without any pool a job is not taken."""
    with pytest.raises(Failure) as refused:
        pools().choose(PREDICT, None)

    assert refused.value.code == "no_worker"


def test_forged_heartbeats() -> None:
    """A heartbeat that is not of its subject's pool makes no pool."""
    found = pools("light")
    hear(found, "forged", subject_pool="other")
    found.hear(Message(SUBJECTS.heartbeat("a", "b"), b"{", "", None))

    assert found.choose(PREDICT, None) == "light"
