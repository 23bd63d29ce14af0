"""Hosts in networks of their own, on one machine: network namespaces and a cable each.

    async with Network(nats_url, model_url) as network:
        await stack.start(supervisor(folder, "two", network))
        await network.cut()
        await network.heal()

It needs Linux, root and ``ip`` of iproute2.
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import subprocess
import sys
from contextlib import AsyncExitStack
from typing import Self
from urllib.parse import urlsplit
from uuid import uuid4

from tests.support.fault_proxy import FaultProxy


def refusal() -> str:
    """Why there can be no networks here; empty if there can."""
    if sys.platform != "linux" or os.geteuid():
        return "network namespaces need root, on Linux"
    if shutil.which("ip") is None:
        return "network namespaces need ip, of Debian's iproute2"
    name = f"d{uuid4().hex[:8]}"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True)
    if made.returncode:
        return f"network namespaces cannot be made: {made.stderr.decode()}"
    subprocess.run(["ip", "netns", "del", name], check=True)
    return ""


class Network:
    """One host's network: it reaches the server and the model, and nothing else.

    Args:
        nats: URL of the NATS server, as the test reaches it.
        model: That of the language model.

    Attributes:
        within: The command that runs a program in it.
        environ: Where the server and the model are, seen from there.
    """

    def __init__(self, nats: str, model: str) -> None:
        self.environ: dict[str, str] = {}
        self._urls = (nats, model)
        self._name = f"d{uuid4().hex[:8]}"
        # A block that is set aside for tests of networks (RFC 2544).
        net = f"198.{random.randint(18, 19)}.{random.randrange(256)}"
        block = random.randrange(64) * 4
        self._ours, self._theirs = f"{net}.{block + 1}", f"{net}.{block + 2}"
        self.within = ("ip", "netns", "exec", self._name)
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        name, inside = self._name, ("-n", self._name)
        await _ip("netns", "add", name)
        self._stack.push_async_callback(_ip, "netns", "del", name)
        there = ("peer", "name", "eth0", "netns", name)
        await _ip("link", "add", name, "type", "veth", *there)
        await _ip("addr", "add", f"{self._ours}/30", "dev", name)
        await _ip("link", "set", name, "up")
        await _ip(*inside, "addr", "add", f"{self._theirs}/30", "dev", "eth0")
        for device in ("lo", "eth0"):
            await _ip(*inside, "link", "set", device, "up")
        nats, model = [await self._passed_on(url) for url in self._urls]
        self.environ |= {
            "DSPEX_NATS_URL": nats,
            "DSPEX_LMS_DEFAULT_API_BASE": model,
        }
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def cut(self) -> None:
        """Pull the cable: nothing goes through, and nobody is told."""
        await _ip("link", "set", self._name, "down")

    async def heal(self) -> None:
        """Plug it in again."""
        await _ip("link", "set", self._name, "up")

    async def _passed_on(self, url: str) -> str:
        """What listens at our end of the cable in place of a URL."""
        found = urlsplit(url)
        assert found.hostname is not None
        assert found.port is not None
        proxy = FaultProxy(
            found.hostname, found.port, scheme=found.scheme, listen=self._ours
        )
        await self._stack.enter_async_context(proxy)
        return proxy.url + found.path


async def _ip(*arguments: str) -> None:
    process = await asyncio.create_subprocess_exec(
        "ip", *arguments, stderr=asyncio.subprocess.PIPE
    )
    _, said = await process.communicate()
    if process.returncode:
        raise OSError(f"ip {' '.join(arguments)}: {said.decode()}")
