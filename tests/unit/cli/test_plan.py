"""Which programs a stack starts, and how."""

from pathlib import Path

from msgspec.structs import replace

from dspex.bus.children import Program
from dspex.cli import toy
from dspex.cli.lm import Choice
from dspex.cli.plan import Plan
from dspex.contracts import configuration
from dspex.contracts.configuration import Lm, parse

URL = "nats://127.0.0.1:4222"
LOGS = Path("logs")


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


def _programs(plan: Plan) -> list[Program]:
    return [*plan.services(URL), plan.supervisor(URL, {}, LOGS)]


def test_one_supervisor_for_all_workers() -> None:
    """The workers of all pools are left to one program, which knows where logs go."""
    program = _plan("[pools.a]\nprocesses = 2\n[pools.b]").supervisor(URL, {}, LOGS)

    assert program.role == "supervisor"
    assert program.argv[-2:] == ("--logs", "logs")


def test_a_host_that_joins_has_only_workers() -> None:
    """Router, native-ops and state run elsewhere."""
    assert replace(_plan(), joins=True).services(URL) == []


def test_programs_watch_their_parent() -> None:
    """Every program is told to leave when its parent does, and where NATS is."""
    plan = _plan()

    for program in _programs(plan):
        assert program.environ["DSPEX_PARENT_PIPE"] == "1"
        assert program.environ["DSPEX_NATS_URL"] == URL


def test_configuration_file_is_handed_on() -> None:
    """Every program reads the file that this one read."""
    plan = _plan(path=Path("my.toml"))

    for program in _programs(plan):
        assert program.argv[-2:] == ("--config", "my.toml")


def test_found_model_reaches_workers_only() -> None:
    """A model found here is described to workers, so that they read the same."""
    plan = _plan()

    read = parse("", plan.supervisor(URL, {}, LOGS).environ)

    assert read.lms["default"] == plan.choice.lm
    assert not any("DSPEX_LMS" in name for name in plan.services(URL)[0].environ)


def test_configured_model_is_not_described_again() -> None:
    """A configured model stays as the file has it."""
    environ = _plan(configured=True).supervisor(URL, {}, LOGS).environ

    assert not any(name.startswith("DSPEX_LM") for name in environ)


def test_workers_find_the_model_server() -> None:
    """Address and key of the built-in model's server reach the workers."""
    model = {"DSPEX_MODEL_URL": "http://127.0.0.1:1/v1", "DSPEX_MODEL_KEY": "k"}

    assert _plan().supervisor(URL, model, LOGS).environ.items() >= model.items()


def test_model_key_is_no_argument() -> None:
    """The key is in the environment: arguments are shown to every user."""
    program = toy.program("python", "secret")

    assert program.environ["DSPEX_MODEL_KEY"] == "secret"
    assert "secret" not in program.argv
