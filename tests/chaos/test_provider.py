"""A language model that fails for everybody."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.chaos.load import echo
from tests.chaos.sizes import SIZES

if TYPE_CHECKING:
    from tests.chaos.system import System
    from tests.support.scripted_model import ScriptedModel

pytestmark = [pytest.mark.nats, pytest.mark.dspy, pytest.mark.timeout(300)]

OPENS = 60.0
"""Seconds until a breaker has seen enough."""

CLOSES = 60.0
"""Seconds until it has tried again, and found the language model well."""


def _break(model: ScriptedModel, trouble: str) -> None:
    if trouble == "hangs":
        model.hang()
    else:
        model.fail_with(500)


@pytest.mark.parametrize("trouble", SIZES.troubles)
async def test_language_model_is_down(system: System, trouble: str) -> None:
    """A broken language model is left alone while another serves, and taken back."""
    await system.fresh_router()  # one that counts no successes of other scenarios
    async with system.notices() as notices, system.load() as load:
        await load.more(SIZES.clients)
        _break(system.model, trouble)
        await notices.becomes("default", "open", OPENS)
        await load.more(SIZES.requests)
        stood_in = len(system.spare.requests)
        system.model.reply_with(echo)
        await notices.becomes("default", "closed", CLOSES)
        before = len(system.model.requests)
        await load.until(lambda: len(system.model.requests) > before + SIZES.clients)

    assert load.failures == [], load.table()
    assert stood_in >= SIZES.requests, load.table()
    assert notices.states("default")[0] == "open"
    assert notices.states("spare") == []
