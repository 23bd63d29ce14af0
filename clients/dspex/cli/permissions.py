"""``dspex permissions``: what each kind of user of the NATS server may do."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from dspex.bus import settings
from dspex.bus.permissions import configuration
from dspex.cli.call import report
from dspex.contracts.failures import BadRequest, Failure
from dspex.contracts.subjects import answerable, token

if TYPE_CHECKING:
    import argparse

ABOUT = """\
Print the rights of each kind of user as variables of a nats-server's configuration:
dspex_client asks, dspex_functions also offers functions, dspex_operator may do
everything, and there is one for each program. Include the file and name them where
users are listed: {user: ask, password: …, permissions: $dspex_client}. Clients must use
inboxes of their own, here _INBOX.client (nats --inbox-prefix, inboxPrefix, or inbox= of
dspex.client.connect).
"""


def main(arguments: argparse.Namespace) -> int:
    """Run the command and return its exit status."""
    try:
        found = settings.load(arguments.config, dict(os.environ))
        subjects = found.subjects.of(token(arguments.tenant, "tenant"))
        print(configuration(subjects, _inbox(arguments.inbox)), end="")
    except Failure as failure:
        report(failure, as_json=False)
        return 1
    return 0


def _inbox(given: str) -> str:
    if not answerable(given) or not given.startswith("_INBOX."):
        raise BadRequest(
            f"--inbox {given[:80]!r} is not _INBOX and at least one more token.",
            field="inbox",
            hint="Such as _INBOX.alice.",
        )
    return given
