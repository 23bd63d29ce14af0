"""Everything that a stack left behind: streams, buckets, blobs, logs."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING

import msgspec

from dspex.bus.batches import batch, sequence_of
from dspex.bus.durable import api

if TYPE_CHECKING:
    from tests.support.stack import Stack

    from dspex.bus.connection import NatsBus


async def kept(bus: NatsBus, stack: Stack) -> dict[str, list[bytes]]:
    """What every stream and bucket under a prefix holds, subjects too, by its name."""
    found: dict[str, list[bytes]] = {}
    listed = await api(bus, "STREAM.NAMES")
    for name in listed["streams"]:
        if stack.prefix.lower() not in name.lower():
            continue
        last = 0
        found[name] = []
        while messages := await batch(bus, name, last):
            for message in messages:
                last = sequence_of(message)
                said = msgspec.json.encode(dict(message.headers))
                found[name] += [message.data, said]
    return found


def logged(stack: Stack) -> list[bytes]:
    """What its programs logged."""
    return [program.log.encode() for program in stack.programs]


def forms(secret: str) -> list[bytes]:
    """A text as it may stand in messages, encoded or inside of another JSON."""
    once = json.dumps(secret)[1:-1]
    plain = json.dumps(secret, ensure_ascii=False)[1:-1]
    both = [secret, once, plain]
    both += [json.dumps(one, ensure_ascii=False)[1:-1] for one in (once, plain)]
    encoded = [one.encode() for one in dict.fromkeys(both)]
    return [*encoded, base64.b64encode(secret.encode())]
