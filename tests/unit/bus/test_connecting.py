"""What is said when a connection to NATS does not come about."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest
from tests.support.nats_server import NatsServer, free_port

from dspex.bus.connection import BusSettings, connect, safe_url
from dspex.contracts.failures import BusUnavailable, Forbidden

if TYPE_CHECKING:
    from pathlib import Path


async def test_dead_port_is_explained_once(caplog: pytest.LogCaptureFixture) -> None:
    """The reason of the last attempt is in the message, and no warning is logged."""
    caplog.set_level(logging.DEBUG, "dspex")
    wanted = BusSettings(url=f"nats://127.0.0.1:{free_port()}", connect_timeout=0.7)

    with pytest.raises(BusUnavailable, match=r"within 0\.7 s: .*Connect call failed"):
        await connect(wanted)

    assert [one.levelname for one in caplog.records] == ["DEBUG"]


@pytest.mark.nats
@pytest.mark.parametrize("user", ["", "ann:wrong@"])
async def test_wrong_credentials_end_it_at_once(tmp_path: Path, user: str) -> None:
    """A server that refuses us is not asked again, and the message says what to set."""
    secret = 'authorization { user: "ann", password: "sesame" }'
    async with NatsServer(tmp_path, extra=secret) as server:
        url = server.url.replace("nats://", f"nats://{user}")
        with pytest.raises(Forbidden, match="does not take the given cred") as refused:
            await connect(BusSettings(url=url, connect_timeout=60))

    assert "nats.credentials" in refused.value.hint
    assert "wrong" not in str(refused.value)


async def test_missing_credentials_file() -> None:
    """A credentials file that is not there is named."""
    wanted = BusSettings(url="nats://127.0.0.1:1", credentials="/no/such.creds")

    with pytest.raises(Forbidden, match=r"/no/such\.creds is not there"):
        await connect(wanted)


@pytest.mark.nats
@pytest.mark.parametrize("name", ["seed.nk", "user.creds"])
async def test_unreadable_credentials_file(tmp_path: Path, name: str) -> None:
    """A file that holds no credentials is named, and ends the attempt at once."""
    (tmp_path / name).write_text("garbage")
    nkey = "UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4"
    secret = f"authorization {{ users: [{{nkey: {nkey}}}] }}"
    async with NatsServer(tmp_path, extra=secret) as server:
        given = str(tmp_path / name)
        with pytest.raises(Forbidden, match=rf"{name} cannot be read"):
            await connect(BusSettings(url=server.url, credentials=given))


async def test_other_schemes_are_refused() -> None:
    """An address of something else is refused, with how one looks."""
    with pytest.raises(BusUnavailable, match="is no address of a NATS") as refused:
        await connect(BusSettings(url="http://127.0.0.1:8222"))

    assert "nats://" in refused.value.hint


def test_scheme_may_be_left_out() -> None:
    """host:port is NATS's, and a password stays hidden with or without a scheme."""
    shown = safe_url("localhost:4222, u:p@h:1")

    assert shown == "nats://localhost:4222,nats://h:1"
