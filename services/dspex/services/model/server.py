"""llama.cpp's HTTP server inside this process, on the loopback interface."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from dspex.services.model.settings import Settings

ALIAS = "smollm2-135m"


class ServerError(Exception):
    """The server cannot start; the message says why."""


_QUIET, _TALKATIVE = 0, 3
_PROMPT_CACHE_MIB = 32  # llama.cpp's own default is 8 GiB


def start(settings: Settings, weights: Path) -> Any:
    """Load the model and start to serve; `listening_address` says where.

    Raises:
        ServerError: llama.cpp is not there, or it refuses the port or the weights.
    """
    # Imported here: it loads 100 MB, which `--prepare` and errors do not need.
    try:
        import xllamacpp.xllamacpp as llama
    except ImportError as error:
        raise ServerError(
            f"The built-in model needs xllamacpp ({error}). Install dspex[model]; a "
            "slim image may also lack the system library libgomp.so.1."
        ) from error
    params = llama.CommonParams()
    params.model.path = str(weights)
    params.model_alias = ALIAS
    params.hostnames = ["127.0.0.1"]
    params.port = settings.port
    params.api_keys = [settings.key]
    params.ui = False
    params.use_jinja = True
    params.warmup = False
    params.verbosity = _TALKATIVE if settings.verbose else _QUIET
    # Two answers at a time share one window, so a lone prompt may use all of it.
    params.n_ctx = 4096
    params.n_parallel = 2
    params.kv_unified = True
    params.cache_ram_mib = _PROMPT_CACHE_MIB
    # More threads than idle cores make it several times slower: they spin.
    params.cpuparams.n_threads = 1
    params.cpuparams_batch.n_threads = 1
    try:
        return llama.Server(params)
    except RuntimeError as error:
        reason = str(error).rstrip(".")
        raise ServerError(
            f"llama.cpp did not start on port {settings.port}: {reason}. Choose "
            "another port (0 takes a free one); --verbose shows its own log."
        ) from error
