"""`python -m dspex.services.model`: serve the built-in model until told to stop.

Whoever starts it reads one line from its standard output when it is ready and
keeps the pipe to its standard input open. The pipe's end is the sign to leave: it
comes even when the parent was killed, so no model is left behind.
"""

from __future__ import annotations

import json
import os
import signal
import stat
import sys
import threading
from typing import TYPE_CHECKING, NoReturn

from dspex.services.model import server, settings
from dspex.services.model.server import ServerError
from dspex.services.model.settings import SettingsError
from dspex.services.model.weights import WeightsError, ensure_weights

if TYPE_CHECKING:
    from collections.abc import Callable


def main() -> None:
    """Run the program; the exit status is 2 when it cannot start."""
    try:
        given = settings.read(sys.argv[1:], os.environ)
        _stop_when_told()
        weights = ensure_weights(given.models, _progress)
        if not given.prepare:
            _leave_by(_end)
            running = server.start(given, weights)
            _serve(f"{running.listening_address}/v1")
    except (ServerError, SettingsError, WeightsError) as error:
        _progress(str(error))
        sys.exit(2)


def _serve(url: str) -> None:
    ready = {"type": "ready", "url": url, "model": server.ALIAS}
    print(json.dumps(ready), flush=True)
    threading.Event().wait()


def _stop_when_told() -> None:
    _leave_by(_leave)
    if _is_pipe(sys.stdin.fileno()):
        threading.Thread(target=_watch_stdin, daemon=True).start()


def _leave_by(handler: Callable[..., NoReturn]) -> None:
    signal.signal(signal.SIGTERM, handler)
    signal.signal(signal.SIGINT, handler)


def _leave(*_: object) -> NoReturn:
    # An exception, so that a download is stopped and cleaned up on the way out.
    sys.exit(0)


def _end(*_: object) -> NoReturn:
    # No exception: one that comes while the model is loaded is lost in the library,
    # and answers that are being made would hold up an orderly exit. Nobody is left to
    # read them, and there is nothing to save.
    os._exit(0)


def _is_pipe(descriptor: int) -> bool:
    # A terminal or /dev/null says nothing about whoever started the program.
    mode = os.fstat(descriptor).st_mode
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)


def _watch_stdin() -> None:
    while os.read(sys.stdin.fileno(), 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def _progress(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
