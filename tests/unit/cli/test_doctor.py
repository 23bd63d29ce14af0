"""What the doctor finds, and what it advises."""

import json
import socket
import sys
from pathlib import Path

import pytest

from dspex.bus.settings import Published
from dspex.cli import doctor
from dspex.cli.__main__ import main
from dspex.contracts import configuration
from dspex.native.metrics import texts
from dspex.services.model import weights


def _binary(folder: Path, text: str) -> None:
    path = folder / "nats-server"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def test_old_python_fails() -> None:
    """Python 3.10 is refused with what to install; 3.11 is fine."""
    assert doctor.check_python((3, 10, 2)).status == "fail"
    assert doctor.check_python((3, 11, 0)).status == "ok"


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("echo nats-server: v2.15.1", "ok"),
        ("echo nats-server: v2.9.10", "fail"),
        ("exit 1", "fail"),
    ],
)
def test_version_of_the_server(tmp_path: Path, text: str, status: str) -> None:
    """A server that is too old, or does not run, fails."""
    _binary(tmp_path, text)

    assert doctor.check_server(str(tmp_path / "python"), "").status == status


def test_missing_server_is_a_warning(tmp_path: Path) -> None:
    """Without a server one can still use another machine's."""
    check = doctor.check_server(str(tmp_path / "python"), str(tmp_path))

    assert check.status == "warn"
    assert "nats.url" in check.advice


def test_bad_configuration_fails(tmp_path: Path) -> None:
    """A configuration with an unknown key fails, and the key is named."""
    path = tmp_path / "dspex.toml"
    path.write_text("[nats]\nurll = 'x'")

    check, used = doctor.check_configuration(path, {})

    assert check.status == "fail"
    assert "urll" in check.found
    assert "docs/configuration.md" in check.advice
    assert used.pools


def test_taken_port_fails() -> None:
    """A port that somebody else has fails; a free one is fine."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        found = configuration.parse(f'[nats]\nlisten = "{listen}"', {})
        check = doctor.check_listen(found)

    assert check.status == "fail"
    free = configuration.parse('[nats]\nlisten = "127.0.0.1:0"', {})
    assert doctor.check_listen(free).status == "ok"
    assert doctor.check_listen(configuration.parse("", {})).status == "ok"


def test_port_of_the_running_stack_is_not_taken() -> None:
    """The port that the stack of this folder has is no reason to fail."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        found = configuration.parse(f'[nats]\nlisten = "{listen}"', {})
        stack = Published(url=f"nats://{listen}", alive=True)
        check = doctor.check_listen(found, stack)

    assert check.status == "ok"


def test_stack_of_the_folder() -> None:
    """A stack that runs here is shown with its address; one that was killed, too."""
    runs = doctor.check_stack(Published(url="nats://h:1", alive=True))
    killed = doctor.check_stack(Published(url="nats://h:1", alive=False))

    assert (runs.status, killed.status) == ("ok", "warn")
    assert "nats://h:1" in runs.found
    assert "was killed" in killed.found
    assert doctor.check_stack(None).status == "ok"


def test_folder_that_cannot_be_used(tmp_path: Path) -> None:
    """A folder where `up` could not write fails, and looking leaves nothing there."""
    before = doctor.check_folder(tmp_path)
    left = list(tmp_path.iterdir())
    (tmp_path / ".dspex").write_text("")

    assert before.status == "ok"
    assert left == []
    assert doctor.check_folder(tmp_path).status == "fail"


def test_port_does_not_matter_with_a_url() -> None:
    """With nats.url nothing is started, so no port is needed."""
    found = configuration.parse('[nats]\nurl = "nats://h:1"', {})

    assert doctor.check_listen(found).status == "ok"


def test_missing_dspy_fails(tmp_path: Path) -> None:
    """A Python that cannot import DSPy cannot run workers."""
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\nexit 1\n")
    python.chmod(0o755)

    assert doctor.check_dspy(str(python)).status == "fail"


def test_model_without_its_key_fails() -> None:
    """A configured model whose key is not set fails and names the variable."""
    text = '[lms.default]\nmodel = "openai/x"\napi_key_env = "MY_KEY"'
    found = configuration.parse(text, {})

    (check,) = doctor.check_model(found, {})
    (with_key,) = doctor.check_model(found, {"MY_KEY": "k"})

    assert check.status == "fail"
    assert "MY_KEY" in check.advice
    assert with_key.status == "ok"


def test_builtin_model_is_a_warning(tmp_path: Path) -> None:
    """The built-in model is called a toy, and its weights are looked for."""
    environ = {"DSPEX_LM": "builtin", "DSPEX_MODELS": str(tmp_path)}
    found = configuration.parse("", environ)

    model, missing = doctor.check_model(found, environ)
    (tmp_path / weights.FILE).write_text("")
    _, there = doctor.check_model(found, environ)

    assert "toy" in model.found
    assert (missing.status, there.status) == ("warn", "ok")


def test_machine_without_a_gpu_is_fine() -> None:
    """Whatever GPUs there are, none included, the check passes."""
    assert doctor.check_gpu().status == "ok"


@pytest.mark.parametrize(
    ("text", "version"), [("2.15.1", (2, 15, 1)), ("3.0.0rc1", (3, 0)), ("", ())]
)
def test_versions_are_read(text: str, version: tuple[int, ...]) -> None:
    """A version is its leading numbers."""
    assert doctor.read_version(text) == version


def test_missing_compiled_functions_are_a_warning() -> None:
    """Pure Python is slower, which is said; nothing fails for it."""
    check = doctor.check_texts(texts.PURE)

    assert check.status == "warn"
    assert "C compiler" in check.advice
    if texts.COMPILED is not None:
        assert doctor.check_texts(texts.COMPILED).status == "ok"


@pytest.mark.dspy
def test_doctor_as_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """doctor --json lists every check; a machine that runs these tests is well."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DSPEX_LM", "openai/x")

    status = main(["doctor", "--json"])

    said = json.loads(capsys.readouterr().out)
    names = {check["name"] for check in said["checks"]}
    assert (status, said["ok"]) == (0, True)
    assert {"Python", "nats-server", "DSPy", "language model"} <= names


def test_doctor_for_people(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """doctor prints a line per check, advice below, and fails if one does."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))

    status = main(["doctor"])

    assert status == 1
    assert "pip install 'dspex[worker]'" in capsys.readouterr().out
