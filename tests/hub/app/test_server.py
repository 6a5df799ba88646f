"""``cloud-hub serve`` as a process: what keeps it from starting, how it ends, and what its violent end leaves behind."""

import configparser
import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import yaml

from cloud_hub.app.cli import EXIT_USAGE
from cloud_hub.core import config
from cloud_hub.core.model import JobState
from cloud_hub.services.datasets import NewSample
from edge_agent.core.layers import build
from protos.contract.ids import ModelName
from tests.conftest import REPOSITORY
from tests.e2e.system import ADMIN, HubProcess, System, program, wait_for
from tests.hub.app.test_runner import gone
from tests.hub.pipeline.parts import LABELS, digits


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[HubProcess]:
    made = HubProcess(tmp_path / "hub")
    yield made
    made.close()


def refused(hub: HubProcess, **env: str) -> str:
    """What a hub says that cannot start: one line, and status 1."""
    done = program("cloud-hub", "serve", "--config", hub.config_path, env=env)
    assert done.returncode == 1, done.stderr
    assert done.stderr.startswith("cloud-hub: ") and done.stderr.count("\n") == 1, done.stderr
    return done.stderr


# -- starts that fail -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["grpc.port", "grpc.enroll_port", "broker.port", "metrics.port"])
def test_a_port_in_use_is_named_with_the_key_that_moves_it(hub: HubProcess, key: str) -> None:
    section, name = key.split(".")
    with socket.create_server(("127.0.0.1", getattr(getattr(hub.config, section), name))) as taken:
        said = refused(hub)
        assert f":{taken.getsockname()[1]}: Address already in use" in said and key in said
    assert not (hub.data_dir / "broker" / "mosquitto.pid").exists()


def test_a_data_folder_that_cannot_be_made_is_named(hub: HubProcess) -> None:
    assert "/dev/null/hub" in refused(hub, CLOUD_HUB__DATA_DIR="/dev/null/hub")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_data_folder_that_cannot_be_written_is_named(hub: HubProcess) -> None:
    hub.data_dir.mkdir(mode=0o500)
    assert str(hub.data_dir) in refused(hub)


def test_a_file_that_is_no_database_is_refused(hub: HubProcess) -> None:
    hub.init()
    (hub.data_dir / "hub.db").write_bytes(b"no database at all" * 100)
    assert "not a database" in refused(hub)


def test_a_broker_that_is_not_installed_is_named(hub: HubProcess) -> None:
    assert "no-such-broker" in refused(hub, CLOUD_HUB__BROKER__BINARY="no-such-broker")


def test_a_second_hub_on_the_same_data_is_refused_and_the_first_runs_on(hub: HubProcess) -> None:
    hub.start()
    assert f"another hub runs on {hub.data_dir}" in refused(hub)
    broker = hub.broker_pid
    assert hub.stop() == 0
    assert gone(broker)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("grpc: {prot: 1}", "unknown key 'grpc.prot'; did you mean 'port'?"),
        ("grpc: {port: many}", "'grpc.port' must be int"),
        ("grpc: {port: 70000}", "'grpc.port' must be in 0..65535"),
        ("grpc: {names: []}", "'grpc.names'"),
        ("log_level: LOUD", "'log_level' must be DEBUG"),
        ("- a list", "must hold a mapping"),
    ],
)
def test_a_configuration_that_cannot_be_used_is_status_2(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "hub.yaml").write_text(text)
    done = program("cloud-hub", "serve", "--config", tmp_path / "hub.yaml")
    assert done.returncode == 2
    assert words in done.stderr and done.stderr.count("\n") == 1


def test_the_command_line_loads_no_training_and_no_server() -> None:
    code = "import sys, cloud_hub.app.cli; print(*{name.partition('.')[0] for name in sys.modules})"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert {"torch", "grpc", "sqlalchemy", "onnxruntime", "apscheduler", "amqtt"}.isdisjoint(out.stdout.split())
    assert program("cloud-hub", "--help").returncode == 0


def test_the_server_loads_no_training() -> None:
    code = "import sys, cloud_hub.app.server; print(*{name.partition('.')[0] for name in sys.modules})"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert {"torch", "litert_torch", "onnx", "matplotlib"}.isdisjoint(out.stdout.split())


# -- ends -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_within_seconds_and_its_broker_with_it(hub: HubProcess, number: signal.Signals) -> None:
    hub.start()
    broker = hub.broker_pid
    hub.signal(number)
    assert hub.process is not None
    assert hub.process.wait(10) == 0
    assert gone(broker)
    assert "Traceback" not in hub.log and '"exception"' not in hub.log
    assert json.loads(hub.log.splitlines()[-1])["message"] == "stopped"


def test_a_signal_while_it_starts_leaves_no_broker_behind(hub: HubProcess) -> None:
    process = hub.launch()
    pid_file = hub.data_dir / "broker" / "mosquitto.pid"
    wait_for(pid_file.exists, "the start of its broker")
    broker = hub.broker_pid
    process.terminate()
    assert process.wait(20) == 0
    assert gone(broker)


def test_a_hub_starts_over_the_broker_of_one_that_was_killed(hub: HubProcess) -> None:
    hub.start()
    orphan = hub.broker_pid
    hub.kill()
    assert not gone(orphan)
    hub.start()
    assert gone(orphan) and not gone(hub.broker_pid)
    assert hub.stop() == 0


def test_a_killed_hub_takes_its_worker_along_and_the_next_goes_on_with_the_job(tmp_path: Path) -> None:
    system = System(tmp_path)
    try:
        job = _train_for_long(system)
        first = _worker(system, job)
        training = system.services.training
        wait_for(lambda: training.lines(job), "its first words", 90)
        os.kill(first, signal.SIGSTOP)  # it cannot notice by itself
        system.hub.kill()
        try:
            assert wait_for(lambda: gone(first), "the worker's end") < 5
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(first, signal.SIGKILL)
        system.hub.start()
        second = _worker(system, job, other_than=first)
        wait_for(lambda: any(line.text.startswith("epoch 1/") for line in training.lines(job)), "training", 90)
        assert (training.job(job).state, training.job(job).attempts) == (JobState.RUNNING, 2)
        assert system.hub.stop() == 0
        assert gone(second)
        assert (training.job(job).state, training.job(job).attempts) == (JobState.QUEUED, 1)
    finally:
        system.close()


def _train_for_long(system: System) -> str:
    services = system.services
    services.datasets.create(ADMIN, "digits", LABELS)
    items = [
        NewSample(dataset="digits", content=one.content, label=one.label, source=one.source, name=one.name)
        for one in digits(200)
    ]
    services.datasets.import_samples(ADMIN, items)
    endless = {"width": 8, "epochs": 1000}
    spec = {
        "name": "digits",
        "data": {"dataset": "digits"},
        "teacher": dict(endless),
        "student": dict(endless),
        "train": {"patience": 1000},
    }
    services.training.put_spec(ADMIN, yaml.safe_dump(spec))
    return services.training.run(ADMIN, ModelName("digits")).id


def _worker(system: System, job: str, other_than: int = 0) -> int:
    """The process that works on it, as soon as there is one."""

    def found() -> list[int]:
        pids = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdecimal() and int(path.name) != other_than]
        return [pid for pid in pids if job.encode() in _command(pid)]

    wait_for(found, "a worker")
    assert len(found()) == 1
    return found()[0]


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


# -- logs -----------------------------------------------------------------------------------------------------------------


def test_a_log_line_is_json_with_its_fields_and_the_exception() -> None:
    code = """
import logging
from cloud_hub.app import logs
logs.configure("info")
try:
    1 / 0
except ZeroDivisionError:
    logging.getLogger("here").exception("it failed", extra={"device": "cam-a", "path": logs})
logging.getLogger("here").debug("not shown")
"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    line = json.loads(out.stderr)
    assert (line["message"], line["level"], line["logger"], line["device"]) == ("it failed", "error", "here", "cam-a")
    assert "ZeroDivisionError" in line["exception"]
    assert "T" in line["at"]


# -- deployment -----------------------------------------------------------------------------------------------------------

DEPLOY = REPOSITORY / "deploy"


def test_the_example_configuration_can_be_used_and_its_comments_show_the_defaults() -> None:
    example = DEPLOY / "hub.yaml"
    assert config.load(example, {}).grpc.names[0] == "hub.example.org"
    shown = re.sub(r"^(\s*)# (\w+: )", r"\1\2", example.read_text(), flags=re.MULTILINE)
    told = config.GrpcConfig(host="0.0.0.0", names=("hub.example.org", "localhost", "127.0.0.1"))
    expected = config.HubConfig(grpc=told, broker=config.BrokerConfig(host="0.0.0.0"))
    assert build(config.HubConfig, yaml.safe_load(shown)) == expected
    assert _keys(asdict(config.HubConfig())) <= _keys(yaml.safe_load(shown)), "each one is shown"


def _keys(values: dict[str, Any], section: str = "") -> set[str]:
    """Dotted."""
    found = {section + key for key, value in values.items() if not (isinstance(value, dict) and value)}
    return found.union(*(_keys(value, f"{section}{key}.") for key, value in values.items() if isinstance(value, dict)))


def test_the_service_is_told_when_the_hub_is_ready_and_when_it_stops(hub: HubProcess, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(30)
        hub.start(NOTIFY_SOCKET=str(tmp_path / "notify"))
        assert manager.recv(100) == b"READY=1"
        assert hub.stop() == 0
        assert manager.recv(100) == b"STOPPING=1"


def test_a_watchdog_hears_from_a_hub_that_is_alive(hub: HubProcess, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(30)
        hub.start(NOTIFY_SOCKET=str(tmp_path / "notify"), WATCHDOG_USEC="120000000")
        assert [manager.recv(100) for _ in range(3)] == [b"READY=1", b"WATCHDOG=1", b"WATCHDOG=1"]


def test_the_unit_starts_what_is_installed() -> None:
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(DEPLOY / "cloud-hub.service")
    service = unit["Service"]
    command = service["ExecStart"].split()
    assert (Path(command[0]).name, command[1:]) == ("cloud-hub", ["serve", "--config", "/etc/cloud-hub/hub.yaml"])
    assert (service["Type"], service["WatchdogSec"]) == ("notify", "120")
    assert service["RestartPreventExitStatus"] == str(EXIT_USAGE)
