"""Which language model is chosen, and that a configured one is never replaced."""

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest

from dspex.cli import lm
from dspex.cli.lm import Choice
from dspex.contracts import configuration
from dspex.contracts.configuration import Configuration

NOTHING = configuration.parse("", {})


def _choose(
    found: Configuration = NOTHING,
    environ: dict[str, str] | None = None,
    *,
    ollama: str | None = None,
    llama_server: str | None = None,
) -> Choice:
    return lm.choose(
        found,
        environ or {},
        ollama=lambda: ollama,
        llama_server=lambda: llama_server,
    )


def test_configured_model_wins() -> None:
    """A configured model is used though a key is set and a server answers."""
    found = configuration.parse("", {"DSPEX_LM": "openai/gpt-5"})

    choice = _choose(found, {"DSPEX_LM": "openai/gpt-5", "GROQ_API_KEY": "k"})

    assert choice.lm.model == "openai/gpt-5"
    assert choice.configured
    assert choice.why == "openai/gpt-5, as DSPEX_LM says"


def test_configuration_file_is_named() -> None:
    """The sentence says which section the model comes from."""
    found = configuration.parse('[lms.default]\nmodel = "openai/gpt-5"', {})

    assert _choose(found).why.endswith("as the configuration (lms.default) says")


def test_builtin_can_be_configured() -> None:
    """The built-in model may be asked for by name, and is called a toy."""
    found = configuration.parse("", {"DSPEX_LM": "builtin"})

    choice = _choose(found, {"DSPEX_LM": "builtin"})

    assert choice.builtin
    assert "toy model" in choice.why
    assert lm.needs_builtin(found, choice)


@pytest.mark.parametrize(("variable", "model"), lm.PROVIDERS.items())
def test_provider_key_chooses_its_model(variable: str, model: str) -> None:
    """Each provider's key chooses a model of that provider."""
    choice = _choose(environ={variable: "k"}, ollama="llama3")

    assert (choice.lm.model, choice.lm.api_key_env) == (model, variable)
    assert variable in choice.why


def test_empty_key_is_no_key() -> None:
    """A variable that is set to nothing counts as not set."""
    assert _choose(environ={"OPENAI_API_KEY": ""}).builtin


def test_ollama_before_llama_server() -> None:
    """Ollama is asked before llama-server."""
    choice = _choose(ollama="llama3", llama_server="x")

    assert choice.lm.model == "ollama_chat/llama3"
    assert choice.lm.api_base == lm.OLLAMA


def test_llama_server() -> None:
    """llama-server is reached by its OpenAI routes and can constrain answers."""
    choice = _choose(llama_server="qwen")

    assert choice.lm.model == "openai/qwen"
    assert choice.lm.api_base == f"{lm.LLAMA_SERVER}/v1"
    assert choice.lm.response_schema


def test_builtin_is_last_and_says_so() -> None:
    """With nothing else, the built-in model, with a sentence that says what it is."""
    choice = _choose()

    assert choice.builtin
    assert "built-in toy model, 135M parameters" in choice.why
    assert lm.needs_builtin(NOTHING, choice)


def test_builtin_beside_the_default() -> None:
    """The built-in model is needed when any configured model is the built-in one."""
    text = '[lms.default]\nmodel = "openai/x"\n[lms.toy]\nmodel = "builtin"'
    found = configuration.parse(text, {})

    assert lm.needs_builtin(found, _choose(found))


class _Models(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        models = {"models": [{"name": "llama3:8b"}], "data": [{"id": "qwen"}]}
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(models).encode())

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Keep the tests' output clean."""


@pytest.fixture(name="models")
def _models() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), _Models) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_probes_read_the_first_model(models: str) -> None:
    """The probes take the name of the first model that a server offers."""
    assert lm.probe_ollama(models) == "llama3:8b"
    assert lm.probe_llama_server(models) == "qwen"


def test_probe_of_nobody() -> None:
    """A port where nobody listens is no model, and no error."""
    assert lm.probe_ollama("http://127.0.0.1:1") is None
