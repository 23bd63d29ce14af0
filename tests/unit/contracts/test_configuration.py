"""The configuration file, and the environment that overrides it."""

from __future__ import annotations

from typing import Any

import pytest
from tests.support import write_configuration

from dspex.contracts import configuration
from dspex.contracts.configuration import (
    Configuration,
    ConfigurationError,
    Lm,
    parse,
)
from dspex.contracts.pooling import Pool
from dspex.contracts.subjects import Subjects

EXAMPLE = """
[nats]
listen = "127.0.0.1:4222"
store = ".dspex/nats"
[lms.default]
model = "openai/gpt-4o-mini"
api_key_env = "OPENAI_API_KEY"
[pools.light]
processes = 2
concurrency = 16
lm = "default"
"""


def refused(text: str, environ: dict[str, str] | None = None) -> str:
    with pytest.raises(ConfigurationError) as found:
        parse(text, environ or {})
    return str(found.value)


def test_example_file() -> None:
    """The documented file is read as it says."""
    found = parse(EXAMPLE, {})

    assert found.nats.url is None
    assert found.nats.listen == "127.0.0.1:4222"
    assert found.lms["default"].model == "openai/gpt-4o-mini"
    assert found.lms["default"].api_key_env == "OPENAI_API_KEY"
    assert found.pools == {"light": Pool(processes=2, concurrency=16, lm="default")}
    assert found.subjects == Subjects("dspex")


def test_no_file() -> None:
    """Without a file there is one pool with two processes and no language model."""
    found = parse("", {})

    assert found == Configuration()
    assert found.pools["light"].processes == 2
    assert found.lms == {}


@pytest.mark.parametrize(
    ("text", "key", "nearest"),
    [
        ("[nats]\nlissen = 'x'", "nats.lissen", "listen"),
        ("[lms.a]\nmodle = 'x'", "lms.a.modle", "model"),
        ("[pools.a]\nproceses = 1", "pools.a.proceses", "processes"),
        ("[pool.a]\nprocesses = 1", "pool", "pools"),
    ],
)
def test_unknown_keys(text: str, key: str, nearest: str) -> None:
    """An unknown key is refused with its place and the nearest valid key."""
    message = refused(text)

    assert key in message
    assert f"Did you mean {nearest!r}?" in message
    assert "Allowed: " in message


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[nats", "is not TOML"),
        ("[pools.a]\nprocesses = 'two'", "Expected `int`, got `str`"),
        ("[pools.a]\nprocesses = -1", ">= 0"),
        ("[pools.a]\nconcurrency = 0", ">= 1"),
        ("[lms.a]\nmodel = 'x'\ntimeout_s = 0", "> 0"),
        ("[lms.a]\napi_base = 'x'", "missing required field `model`"),
        ("prefix = 'a.b'", "prefix 'a.b' is not 1 to 64 characters"),
        ("[pools.'a b']\nprocesses = 1", "pools.a b"),
        ("nats = 3", "Expected `object`"),
    ],
)
def test_bad_values(text: str, said: str) -> None:
    """A value that cannot be used is refused, with what is allowed."""
    assert said in refused(text)


def test_pool_of_an_unknown_language_model() -> None:
    """A pool may only name a language model that is described."""
    message = refused("[lms.a]\nmodel='x'\n[pools.light]\nlm='b'")

    assert "pools.light.lm is 'b'" in message
    assert "Described: a." in message


@pytest.mark.parametrize(
    ("environ", "path", "value"),
    [
        ({"DSPEX_LM": "ollama_chat/llama3"}, "lms.default.model", "ollama_chat/llama3"),
        ({"DSPEX_POOLS_LIGHT_PROCESSES": "5"}, "pools.light.processes", 5),
        ({"DSPEX_POOLS_MY_POOL_QUEUE": "5"}, "pools.my_pool.queue", 5),
        (
            {"DSPEX_POOLS_LIGHT_REQUEST_TIMEOUT_S": "2.5"},
            "pools.light.request_timeout_s",
            2.5,
        ),
        ({"DSPEX_NATS_URL": "nats://h:1"}, "nats.url", "nats://h:1"),
        ({"DSPEX_NATS_GRACE": "5"}, "nats.grace", 5.0),
        ({"DSPEX_LMS_DEFAULT_API_KEY_ENV": "KEY"}, "lms.default.api_key_env", "KEY"),
        ({"DSPEX_LMS_DEFAULT_API_KEY": "123456"}, "lms.default.api_key", "123456"),
        ({"DSPEX_LMS_DEFAULT_API_KEY": "true"}, "lms.default.api_key", "true"),
        ({"DSPEX_LMS_DEFAULT_TEMPERATURE": "0"}, "lms.default.temperature", 0.0),
        ({"DSPEX_PREFIX": "acme"}, "prefix", "acme"),
    ],
)
def test_environment_overrides(environ: dict[str, str], path: str, value: Any) -> None:
    """A variable overrides its key, whether the file has it or not."""
    text = EXAMPLE + "\n[pools.my_pool]\nprocesses = 1"

    assert _at(parse(text, environ), path) == value


def test_environment_alone() -> None:
    """A machine without a file is set up by variables."""
    found = parse("", {"DSPEX_LM": "a/b", "DSPEX_POOLS_LIGHT_CONCURRENCY": "3"})

    assert found.lms == {"default": Lm(model="a/b")}
    assert found.pools == {"light": Pool(concurrency=3)}


@pytest.mark.parametrize(
    "name", ["DSPEX_TEST_NATS", "DSPEX_NATS", "DSPEX_NATS_URL_", "PATH", "DSPEX_HOME"]
)
def test_other_variables(name: str) -> None:
    """Empty variables, and those of no section, change nothing."""
    empty = name == "DSPEX_NATS_URL_"

    assert parse("", {name: "" if empty else "x"}) == Configuration()


@pytest.mark.parametrize(
    ("name", "key", "nearest"),
    [
        ("DSPEX_NATS_LISSEN", "nats.lissen", "listen"),
        ("DSPEX_POOLS_LIGHT_PROCESES", "pools.light.proceses", "processes"),
    ],
)
def test_unknown_variables(name: str, key: str, nearest: str) -> None:
    """A variable of a section that names no key is refused like a key."""
    message = refused("prefix = 'a'", {name: "1"})

    assert message.startswith(f"{name}: ")
    assert key in message
    assert f"Did you mean {nearest!r}?" in message


@pytest.mark.parametrize(
    ("text", "environ", "source"),
    [
        ("[pools.a]\nqueue = -1", {}, "dspex.toml: "),
        ("", {"DSPEX_POOLS_A_QUEUE": "-1"}, "DSPEX_POOLS_A_QUEUE: "),
        ("", {"DSPEX_LMS_A_API_BASE": "x"}, "DSPEX_LMS_A_API_BASE: "),
        ("", {"DSPEX_PREFIX": "a.b"}, "DSPEX_PREFIX: "),
        (
            "[lms.a]\nmodel = 'x'\n[pools.light]\nlm = 'a'",
            {"DSPEX_POOLS_LIGHT_LM": "b"},
            "DSPEX_POOLS_LIGHT_LM: ",
        ),
        ("[pools.a]\nqueue = -1\n[pools.b]", {"DSPEX_LM": "m"}, "dspex.toml: "),
    ],
)
def test_errors_name_their_source(
    text: str, environ: dict[str, str], source: str
) -> None:
    """What a variable says wrong is not blamed on the file, nor the reverse."""
    assert refused(text, environ).startswith(source)


def test_every_key_is_documented() -> None:
    """docs/configuration.md is what the structs and their docstrings say."""
    assert write_configuration.FILE.read_text() == write_configuration.text()
    assert write_configuration.main(["--check"]) == 0


@pytest.mark.parametrize(
    ("text", "environ"),
    [
        ("lms = 3", {"DSPEX_LM": "a/b"}),
        ("pools = 'x'", {"DSPEX_POOLS_LIGHT_PROCESSES": "1"}),
        ("[pools]\nlight = 2", {"DSPEX_POOLS_LIGHT_PROCESSES": "1"}),
    ],
)
def test_values_where_sections_belong(text: str, environ: dict[str, str]) -> None:
    """A variable cannot reach into what is no section, and the error says so."""
    assert "must be a section" in refused(text, environ)


def test_secrets_are_not_shown() -> None:
    """Neither a language model nor the whole configuration shows a key."""
    found = parse("[lms.default]\nmodel = 'a/b'\napi_key = 'sesame'", {})

    assert "sesame" not in repr(found)
    assert "sesame" not in str(found.lms)
    assert "a/b" in repr(found)


@pytest.mark.parametrize(
    "one",
    [
        Lm(model="a/b"),
        Lm(model="a/b", api_key="123", temperature=0.0, response_schema=True),
        Lm(model="builtin", api_base="http://127.0.0.1:1/v1", max_tokens=64),
    ],
)
def test_to_environ(one: Lm) -> None:
    """A language model handed to a child by its environment arrives as it was."""
    environ = configuration.to_environ("default", one)

    assert parse("", environ).lms == {"default": one}


def _at(found: Any, path: str) -> Any:
    for name in path.split("."):
        found = found[name] if isinstance(found, dict) else getattr(found, name)
    return found


def test_lists_in_variables() -> None:
    """A variable holds a list or a table as the file would."""
    environ = {
        "DSPEX_POOLS_GPU_GPUS": '["all"]',
        "DSPEX_POOLS_GPU_ENV": '{ A = "1" }',
    }

    pool = parse("", environ).pools["gpu"]

    assert (pool.gpus, pool.env) == (["all"], {"A": "1"})


def test_operations_of_a_pool_are_known() -> None:
    """A pool does what workers do; another name is refused with the nearest one."""
    said = refused('[pools.light]\noperations = ["predcit"]')

    assert "Did you mean 'predict'?" in said


def test_limits_of_a_pool_fit() -> None:
    """The most processes are not fewer than the fewest."""
    assert "less than pools.light.min" in refused("[pools.light]\nmin = 2\nmax = 1")


def test_mcp_servers() -> None:
    """An MCP server has a command or an address; variables override its keys."""
    found = parse(
        '[mcp.files]\ncommand = "mcp-files"\nenv = { KEY = "sk-1" }',
        {"DSPEX_MCP_FILES_TIMEOUT_S": "5"},
    )

    assert found.mcp["files"].timeout_s == 5
    assert found.mcp["files"].tools is None
    assert "sk-1" not in repr(found)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[mcp.a]", "mcp.a needs either the command"),
        ('[mcp.a]\ncommand = "x"\nurl = "http://b"', "mcp.a needs either the command"),
        ('[mcp."a.b"]\ncommand = "x"', "mcp.a.b"),
        ('[mcp.a]\ncomand = "x"', "Did you mean 'command'?"),
    ],
)
def test_bad_mcp_servers(text: str, said: str) -> None:
    """What is wrong with the section of an MCP server is said by its name."""
    assert said in refused(text)
