"""Which programs a stack starts, and how."""

from pathlib import Path

from dspex.cli.lm import Choice
from dspex.cli.plan import Plan
from dspex.contracts import configuration
from dspex.contracts.configuration import Lm, parse

URL = "nats://127.0.0.1:4222"


def _plan(
    text: str = "", path: Path | None = None, *, configured: bool = False
) -> Plan:
    lm = Lm(model="openai/gpt-4o-mini", api_key_env="OPENAI_API_KEY")
    return Plan(
        configuration=configuration.parse(text, {}),
        choice=Choice(lm=lm, why="a key is set", configured=configured),
        python="python",
        config_path=path,
    )


def test_workers_of_every_pool() -> None:
    """Each pool gets as many processes as it asks for, each with a name of its own."""
    workers = _plan("[pools.a]\nprocesses = 2\n[pools.b]").workers(URL, {})

    assert [one.name for one in workers] == ["worker-a-1", "worker-a-2", "worker-b-1"]
    assert workers[2].argv[-2:] == ("--pool", "b")


def test_programs_watch_their_parent() -> None:
    """Every program is told to leave when its parent does, and where NATS is."""
    plan = _plan()

    for program in [*plan.services(URL), *plan.workers(URL, {})]:
        assert program.environ["DSPEX_PARENT_PIPE"] == "1"
        assert program.environ["DSPEX_NATS_URL"] == URL


def test_configuration_file_is_handed_on() -> None:
    """Every program reads the file that this one read."""
    plan = _plan(path=Path("my.toml"))

    for program in [*plan.services(URL), *plan.workers(URL, {})]:
        assert program.argv[-2:] == ("--config", "my.toml")


def test_found_model_reaches_workers_only() -> None:
    """A model found here is described to workers, so that they read the same."""
    plan = _plan()

    read = parse("", plan.workers(URL, {})[0].environ)

    assert read.lms["default"] == plan.choice.lm
    assert not any("DSPEX_LMS" in name for name in plan.services(URL)[0].environ)


def test_configured_model_is_not_described_again() -> None:
    """A configured model stays as the file has it."""
    environ = _plan(configured=True).workers(URL, {})[0].environ

    assert not any(name.startswith("DSPEX_LM") for name in environ)


def test_workers_find_the_model_server() -> None:
    """Address and key of the built-in model's server reach the workers."""
    model = {"DSPEX_MODEL_URL": "http://127.0.0.1:1/v1", "DSPEX_MODEL_KEY": "k"}

    assert _plan().workers(URL, model)[0].environ.items() >= model.items()


def test_model_key_is_no_argument() -> None:
    """The key is in the environment: arguments are shown to every user."""
    program = _plan().model("secret")

    assert program.environ["DSPEX_MODEL_KEY"] == "secret"
    assert "secret" not in program.argv
