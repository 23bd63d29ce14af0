"""The files in deploy name what there is, and agree with each other."""

from __future__ import annotations

import fnmatch
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.support import deployment
from tests.support.deployment import (
    DEPLOY,
    PROJECT,
    container,
    deployments,
    services,
    units,
    yaml,
)
from tests.support.documents import ROOT

from dspex.cli.lm import Choice
from dspex.cli.plan import Plan
from dspex.contracts.configuration import Configuration, Lm, parse
from dspex.services.supervisor.launching import Launcher

WORKERS = {"dspex-worker", "dspex-supervisor", "dspex-replay"}
"""The commands that may get keys of language models."""

WRITTEN = [
    one
    for one in sorted(DEPLOY.rglob("*"))
    if one.is_file() and one.suffix != ".lock" and "pycache" not in str(one)
]


def of_file(name: str) -> Configuration:
    return parse(deployment.text(name), {})


@pytest.mark.parametrize("line", deployment.commands(), ids=" ".join)
def test_commands_and_options_are_there(line: tuple[str, ...]) -> None:
    """Each command is one of the package's, and has these options."""
    command, *options = line
    helped = subprocess.run(
        [sys.executable, "-m", deployment.module(command), "--help"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )

    flags = {one for one in options if one.startswith("-")}
    assert flags <= set(re.findall(r"--[\w-]+", helped.stdout))


def test_compose_starts_what_up_starts() -> None:
    """Compose has the programs of `dspex up`, and workers as supervisors start them."""
    choice = Choice(lm=Lm(model="openai/any"), why="")
    plan = Plan(configuration=Configuration(), choice=choice, python="python")
    started = [*plan.services("nats://x"), *plan.replay("nats://x", {})]
    launcher = Launcher(host="h", url="nats://x", logs=Path())
    pool = Configuration().pools["light"]
    worker = launcher.program("light-1", "light", pool)

    wanted = {one.role: one.argv[2] for one in [*started, worker]}
    found = {
        name: deployment.module(one["command"][0]) for name, one in services().items()
    }

    assert found == wanted
    assert services()["worker"]["command"][1:] == list(worker.argv[3:5])


@pytest.mark.parametrize("path", WRITTEN, ids=lambda one: one.name)
def test_variables_are_read(path: Path) -> None:
    """Each variable of ours names a key, or is read by a program."""
    # A stream such as DSPEX_JOBS is one word; a variable of a key has the section, too.
    for name in re.findall(r"DSPEX_[A-Z]+(?:_[A-Z]+)+", path.read_text()):
        assert parse("", {name: "1"}) != Configuration(), name


@pytest.mark.parametrize("name", ["dspex.toml", "kubernetes/dspex.toml", "pools.toml"])
def test_configurations_are_read(name: str) -> None:
    """A configuration has keys that there are, and a model that has its key."""
    assert of_file(name).lms["default"].api_key_env == "OPENAI_API_KEY"


def test_extras_are_locked() -> None:
    """What images are built with are extras whose packages requirements.lock holds."""
    optional = PROJECT["optional-dependencies"]
    locked = re.search(r"\[(.*)\]", optional["dev"][0])
    assert locked is not None
    texts = [deployment.text("Dockerfile"), deployment.text("README.md")]
    named = re.findall(r"EXTRAS=`?([\w,]+)", "\n".join(texts))
    named += [one["build"]["args"]["EXTRAS"] for one in services().values()]

    extras = {extra for one in named for extra in one.split(",")}

    assert {"worker", "otlp"} <= extras <= {*locked[1].split(","), "gpu"}


def test_workers_have_dspy() -> None:
    """Programs that run DSPy are in an image with it; the others are not."""
    built = {name: one["build"]["args"]["EXTRAS"] for name, one in services().items()}
    images = {name: one["image"] for name, one in services().items()}

    for name, one in services().items():
        needs = one["command"][0] in WORKERS
        assert ("worker" in built[name].split(",")) is needs
        assert images[name].startswith("dspex-worker:") is needs
    for found in map(container, deployments().values()):
        assert (found["image"] == "dspex-worker") is (found["command"][0] in WORKERS)


def test_images_have_the_version() -> None:
    """Every image of ours has the tag of this version."""
    tags = [
        tag
        for path in WRITTEN
        for tag in re.findall(r"\bdspex(?:-worker)?:(\d[\w.]*)", path.read_text())
    ]
    named = yaml("kubernetes/kustomization.yaml")["images"]

    assert {*tags, *(one["newTag"] for one in named)} == {PROJECT["version"]}
    assert {one["name"] for one in named} == {
        container(one)["image"] for one in deployments().values()
    }


def test_the_image_has_every_room() -> None:
    """The Dockerfile copies what a wheel is built from; nothing of it is ignored."""
    copied = {
        word
        for line in re.findall(r"^COPY (?!--)(.*)", deployment.text("Dockerfile"), re.M)
        for word in line.split()[:-1]
    }
    ignored = deployment.text("Dockerfile.dockerignore").splitlines()
    kept = {line[1:] for line in ignored if line.startswith("!")}

    rooms = {"contracts", "native", "router", "services", "clients"}
    assert copied == kept
    assert rooms | {"pyproject.toml", "requirements.lock", "hatch_build.py"} <= copied
    assert all((ROOT / name).exists() for name in copied)


def test_only_workers_get_keys() -> None:
    """The variable that holds a model's key reaches workers and nothing else."""
    key = of_file("dspex.toml").lms["default"].api_key_env
    for one in services().values():
        assert (key in one["environment"]) is (one["command"][0] in WORKERS)
    for found in map(container, deployments().values()):
        assert ("envFrom" in found) is (found["command"][0] in WORKERS)
    for name, unit in units().items():
        gets = "EnvironmentFile" in unit
        assert gets is any(name.startswith(one) for one in WORKERS)


def test_no_key_is_in_a_file() -> None:
    """No file has a key: variables are named, or passed on."""
    for one in services().values():
        passed = [name for name in one["environment"] if name.endswith("_KEY")]
        assert all(one["environment"][name] is None for name in passed)
    for name in ("dspex.toml", "kubernetes/dspex.toml", "pools.toml"):
        assert all(lm.api_key is None for lm in of_file(name).lms.values())


def test_what_is_stopped_gets_its_time() -> None:
    """Whoever stops a program waits longer than it may take to finish."""
    grace = max(30.0, of_file("dspex.toml").pools["light"].grace_s)
    on_kubernetes = max(30.0, of_file("kubernetes/dspex.toml").pools["light"].grace_s)

    for one in services().values():
        assert float(one["stop_grace_period"].removesuffix("s")) > grace
    for unit in units().values():
        assert float(unit["TimeoutStopSec"][0]) > grace
    for found in deployments().values():
        pod = found["spec"]["template"]["spec"]
        assert pod["terminationGracePeriodSeconds"] > on_kubernetes


def test_programs_may_do_little() -> None:
    """No program is root, writes to its image or gains rights."""
    user = re.search(r"--uid (\d+)", deployment.text("Dockerfile"))
    assert user is not None
    assert f"USER {user[1]}:{user[1]}" in deployment.text("Dockerfile")
    for one in services().values():
        assert (one["read_only"], one["cap_drop"]) == (True, ["ALL"])
        assert one["init"]
    for found in deployments().values():
        pod = found["spec"]["template"]["spec"]
        assert pod["securityContext"]["runAsUser"] == int(user[1])
        assert container(found)["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
    for unit in units().values():
        assert unit["User"] == ["dspex"]
        assert unit["NoNewPrivileges"] == ["yes"]


def test_compose_mounts_what_there_is() -> None:
    """Files that are mounted exist, and are where they are looked for."""
    everything: dict[str, Any] = yaml("compose.yaml")["services"]
    for one in everything.values():
        mounts = [mount.split(":") for mount in one.get("volumes", [])]
        files = [(source, target) for source, target, *_ in mounts if "./" in source]
        assert all((DEPLOY / source).is_file() for source, _ in files)
        targets = {target for _, target in files}
        named = re.findall(
            r"/etc/[\w./-]+", f"{one['command']} {one.get('environment')}"
        )
        assert set(named) == targets


def test_nats_is_where_it_is_looked_for() -> None:
    """Ports and folders of Compose are those of nats.conf."""
    text = deployment.text("nats.conf")
    nats = yaml("compose.yaml")["services"]["nats"]
    monitor = re.search(r'^http: "(.*)"', text, re.M)
    store = re.search(r'store_dir: "(.*)"', text)
    assert monitor is not None
    assert store is not None

    assert nats["healthcheck"]["test"][-1] == f"http://{monitor[1]}/healthz"
    assert f"nats:{store[1]}" in nats["volumes"]
    assert nats["ports"] == ["127.0.0.1:4222:4222"]
    assert 'listen: "0.0.0.0:4222"' in text
    for one in services().values():
        assert one["environment"]["DSPEX_NATS_URL"] == "nats://nats:4222"


def test_nats_on_kubernetes_is_set_up_alike() -> None:
    """The values of the Helm chart say what nats.conf says."""
    config = yaml("kubernetes/nats-values.yaml")["config"]
    flags = config["merge"].pop("feature_flags")
    said = {**config["merge"], **config["jetstream"]["merge"]}
    text = deployment.text("nats.conf")

    for key, value in said.items():
        found = re.search(rf"^\s*{key}: (.*)$", text, re.M)
        assert found is not None, key
        assert found[1].strip('"') == str(value).strip("<> "), key
    assert flags == {"js_ack_fc_v2": False}
    assert "feature_flags { js_ack_fc_v2: false }" in text
    assert "replicas" not in config.get("cluster", {})


def test_manifests_hold_together() -> None:
    """Labels, mounts and the ConfigMap of each Deployment fit."""
    kustomization = yaml("kubernetes/kustomization.yaml")
    (generated,) = kustomization["configMapGenerator"]
    for name, found in deployments().items():
        spec = found["spec"]
        labels = spec["template"]["metadata"]["labels"]
        volumes = {one["name"]: one for one in spec["template"]["spec"]["volumes"]}
        mounts = {one["name"]: one for one in container(found)["volumeMounts"]}
        environ = {one["name"]: one["value"] for one in container(found)["env"]}

        assert spec["selector"]["matchLabels"].items() <= labels.items()
        assert labels["app.kubernetes.io/name"] == name
        assert volumes.keys() == mounts.keys()
        assert volumes["config"]["configMap"]["name"] == generated["name"]
        path = f"{mounts['config']['mountPath']}/{generated['files'][0]}"
        assert environ == {"DSPEX_CONFIG": path}


def test_keda_scales_what_there_is() -> None:
    """KEDA's target is a Deployment of such a pool, in a namespace where NATS is."""
    keda = yaml("kubernetes/keda.yaml")["spec"]
    scaled = deployments()[keda["scaleTargetRef"]["name"]]
    configuration = of_file("kubernetes/dspex.toml")
    namespace = yaml("kubernetes/kustomization.yaml")["namespace"]
    _, _, pool = container(scaled)["command"]
    needed = configuration.pools[pool].concurrency * configuration.supervisor.target

    assert float(keda["advanced"]["scalingModifiers"]["target"]) == needed
    assert "replicas" not in scaled["spec"]
    assert configuration.nats.url == "nats://nats:4222"
    assert yaml("kubernetes/nats-values.yaml")["service"]["ports"]["monitor"]["enabled"]
    for trigger in keda["triggers"]:
        given = trigger["metadata"]
        assert given["natsServerMonitoringEndpoint"] == f"nats.{namespace}.svc:8222"
        assert fnmatch.fnmatch(given["consumer"], f"{pool}-p[1-5]")


def test_telemetry_reaches_the_collector() -> None:
    """Its pipelines consist of what it has, and take only what DSPex sends."""
    collector = yaml("otel-collector.yaml")
    pipelines = collector["service"]["pipelines"]
    endpoint = collector["receivers"]["otlp"]["protocols"]["http"]["endpoint"]
    url = f"http://otel-collector:{endpoint.rpartition(':')[2]}"

    assert pipelines.keys() == {"traces", "metrics"}
    for pipeline in pipelines.values():
        for kind, names in pipeline.items():
            assert set(names) == collector[kind].keys()
    assert f"OTEL_EXPORTER_OTLP_ENDPOINT={url}\n" in deployment.text("README.md")
    assert url in deployment.text("compose.yaml")
    for one in services().values():
        assert "OTEL_EXPORTER_OTLP_ENDPOINT" in one["environment"]
        assert "otlp" in one["build"]["args"]["EXTRAS"].split(",")


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="there is no systemd")
def test_units_are_units(tmp_path: Path) -> None:
    """Systemd knows every key of the units."""
    here = str(Path(sys.executable).parent)
    for path in DEPLOY.glob("systemd/*"):
        text = path.read_text().replace("/opt/dspex/bin", here)
        (tmp_path / path.name).write_text(text)

    done = subprocess.run(
        ["systemd-analyze", "verify", *map(str, tmp_path.iterdir())],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    ours = [line for line in done.stderr.splitlines() if "dspex-" in line]
    assert ours == []
