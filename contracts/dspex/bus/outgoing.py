"""What may be published: checked before it is sent, alike on every bus.

The server does not refuse a message it cannot take, it ends the connection: a body
that fits but not together with its headers would cost a worker all its requests.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from dspex.contracts.failures import BadRequest

if TYPE_CHECKING:
    from collections.abc import Mapping

LONGEST_SUBJECT = 1024
"""Characters; the server ends connections whose subject and reply exceed 4096."""

_SUBJECT = re.compile(r"[^\s.*>]+(\.[^\s.*>]+)*")
_HEADER = re.compile(r"[!#$%&'+\-^_`|~0-9A-Za-z.]+")
_HEADER_LINES = len("NATS/1.0\r\n\r\n")
_HEADER_LINE = len(": \r\n")


def check(
    subject: str,
    data: bytes,
    headers: Mapping[str, str] | None,
    reply: str,
    limit: int,
) -> None:
    """Let a message pass that the server will take.

    Raises:
        BadRequest: It would not: the body and headers are larger than ``limit``
            bytes, or a subject or a header's name is not one.
    """
    check_subject(subject)
    if reply:
        check_subject(reply)
    size = len(data)
    if headers:
        size += _size(headers)
    if size > limit:
        raise too_large(size, limit)


def check_subject(subject: str) -> None:
    """Let a subject pass that one message can go to.

    Raises:
        BadRequest: It is empty, too long, or has blanks, empty tokens or wildcards.
    """
    if len(subject) > LONGEST_SUBJECT or not _SUBJECT.fullmatch(subject):
        raise BadRequest(
            f"Cannot publish on {subject[:80]!r}: it is not a subject.",
            hint="Tokens are separated by single dots, without blanks, '*' or '>'; "
            f"at most {LONGEST_SUBJECT} characters.",
        )


def too_large(size: int, limit: int) -> BadRequest:
    """What a message gets that is larger than the server takes."""
    return BadRequest(
        f"The message has {size} bytes; this server takes {limit} at most.",
        hint="Send less, or raise max_payload in the server's configuration.",
    )


def _size(headers: Mapping[str, str]) -> int:
    size = _HEADER_LINES
    for name, value in headers.items():
        if not _HEADER.fullmatch(name):
            raise BadRequest(
                f"{name[:80]!r} cannot be the name of a header.",
                hint="Use letters, digits and '-'.",
            )
        size += len(name) + len(value.encode()) + _HEADER_LINE
    return size
