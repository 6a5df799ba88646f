"""The job process against a real database and artifact store."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from cloud_hub.app import setup
from cloud_hub.app.job_data import JobData
from cloud_hub.app.worker import Worker
from cloud_hub.core.config import HubConfig, load
from cloud_hub.core.errors import Exhausted, Invalid, NotFound
from cloud_hub.core.model import Job, JobState, Principal, Role
from cloud_hub.core.rollout_plan import OnBreach
from cloud_hub.services.datasets import DatasetService, NewSample
from cloud_hub.services.registry import CHAMPION, RegistryService
from cloud_hub.services.reports import ReportService
from cloud_hub.services.training import TrainingService
from cloud_hub.store.artifacts import ArtifactStore
from edge_agent.core.clock import SystemClock
from protos.contract.ids import ModelName
from tests.hub.fleet_parts import BOARD
from tests.hub.fleet_parts import Hub as FleetHub
from tests.hub.pipeline.parts import LABELS, digits

ADMIN = Principal(role=Role.ADMIN, name="ada")
MODEL = ModelName("digits")
SPEC = {
    "name": MODEL,
    "data": {"dataset": "digits", "calibration": 32},
    "teacher": {"width": 8, "epochs": 3},
    "student": {"width": 8, "epochs": 3},
    "train": {"augment": [], "batch_size": 32},
    "targets": ["onnx-int8"],
    "gate": {"bound": 0.2, "max_drop": 0.2, "max_output_error": 1.0, "min_speedup": 0},  # a run takes 20 us
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Hub:
    config: HubConfig
    path: Path
    training: TrainingService
    registry: RegistryService
    datasets: DatasetService
    reports: ReportService

    def queue(self, **changes: object) -> Job:
        self.training.put_spec(ADMIN, yaml.safe_dump({**SPEC, **changes}))
        self.training.run(ADMIN, MODEL)
        job = self.training.claim()
        assert job is not None
        return job

    def start(self, job: Job) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "cloud_hub.app.worker", "--config", str(self.path), "--job", job.id]
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=_environment())

    def work(self, job: Job, within_s: float = 150.0) -> Job:
        process = self.start(job)
        _, errors = process.communicate(timeout=within_s)
        assert process.returncode == 0, errors.decode()
        return self.training.job(job.id)

    def report(self, job: Job) -> bytes:
        return b"".join(self.reports.of_job(ADMIN, job.id))

    def said(self, job: Job) -> list[str]:
        return [line.text for line in self.training.lines(job.id)]


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    path = tmp_path / "hub.yaml"
    path.write_text(yaml.safe_dump({"data_dir": str(tmp_path / "data"), "training": {"threads": 1}}))
    config = load(path, {})
    config.data_dir.mkdir()
    database = setup.open_database(config)
    database.migrate()
    clock = SystemClock()
    artifacts = ArtifactStore(config.data_dir / "artifacts")
    hub = Hub(
        config=config,
        path=path,
        training=TrainingService(database, clock, config.training),
        registry=RegistryService(database, artifacts, clock),
        datasets=DatasetService(database, artifacts, clock),
        reports=ReportService(database, artifacts),
    )
    hub.datasets.create(ADMIN, "digits", LABELS)
    items = [
        NewSample(dataset="digits", content=one.content, label=one.label, source=one.source, name=one.name)
        for one in digits(400)
    ]
    assert hub.datasets.import_samples(ADMIN, items).added == 400
    yield hub
    database.close()


def test_a_job_publishes_a_version_and_a_better_champion_stops_the_next(hub: Hub) -> None:
    job = hub.work(hub.queue(deploy={"auto": True, "selector": {"site": "nowhere"}}))
    assert (job.state, job.published_version, job.progress) == (JobState.PUBLISHED, 1, 1.0), job.reason
    version = hub.registry.get(ADMIN, MODEL, 1)
    assert [variant.target for variant in version.variants] == ["onnx-int8"]
    assert version.job_id == job.id
    assert version.report["trigger"] == "manual: by ada"
    assert version.report["data"]["given"] == 400  # type: ignore[index]
    assert any("no rollout" in line for line in hub.said(job))
    assert not (hub.config.data_dir / "work" / job.id).exists()

    hub.registry.set_alias(ADMIN, MODEL, CHAMPION, 1)
    refused = hub.work(hub.queue(gate={**SPEC["gate"], "min_gain": 0.5}))  # type: ignore[dict-item]
    assert refused.state is JobState.REJECTED
    assert "does not reach the champion, version 1" in refused.reason
    with pytest.raises(NotFound):
        hub.registry.get(ADMIN, MODEL, 2)
    assert b"passes the gate" in hub.report(job) and b"digits" in hub.report(job)
    assert b"does not reach the champion, version 1" in hub.report(refused)


def test_a_killed_job_goes_on_after_its_last_whole_epoch(hub: Hub) -> None:
    job = hub.queue(teacher={"width": 8, "epochs": 8})
    process = hub.start(job)
    _wait(lambda: any(line.startswith("epoch 2/8") for line in hub.said(job)), process)
    process.kill()
    process.communicate()
    before = len(hub.said(job))
    assert hub.training.job(job.id).state is JobState.RUNNING
    assert hub.training.recover("killed") == 1
    again = hub.training.claim()
    assert again is not None and again.id == job.id
    done = hub.work(again)
    assert done.state is JobState.PUBLISHED, done.reason
    later = hub.said(job)[before:]
    assert not any(line.startswith(("epoch 1/8", "epoch 2/8")) for line in later)
    assert any(line.startswith("epoch 8/8") for line in later)


def _of_all_stages(hub: Hub) -> Job:
    return hub.queue(
        tuning={"trials": 3, "epochs": 1, "space": {"train.lr": {"low": 0.001, "high": 0.01}}},
        compress={"search": "small", "prune": [0.0, 0.3], "finetune_epochs": 1},
    )


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("stage", ["tuning", "teacher", "student", "compress", "verify"])
def test_a_job_killed_at_any_stage_does_nothing_again_that_was_done(hub: Hub, stage: str) -> None:
    """Trials and epochs are kept, of pruned networks too; files are made and tried again."""
    job = _of_all_stages(hub)
    process = hub.start(job)
    told: list[int] = []

    def there() -> bool:
        if hub.training.job(job.id).stage == stage:
            told.append(len(hub.said(job)))
        return bool(told) and (stage == "verify" or len(hub.said(job)) > told[0])

    _wait(there, process, timeout_s=300.0)
    process.kill()
    process.communicate()
    before = hub.said(job)
    assert hub.training.recover("killed") == 1
    again = hub.training.claim()
    assert again is not None
    done = hub.work(again, within_s=400.0)
    assert done.state is JobState.PUBLISHED, done.reason
    later = hub.said(job)[len(before) :]
    repeated = [line for line in later if line in before and line.startswith(("trial ", "epoch ", "pruned "))]
    assert not repeated, "what was told was kept"
    if stage != "tuning":
        assert not [line for line in later if line.startswith("trial ")]


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("stage", ["tuning", "student", "compress"])
def test_a_job_cancelled_at_any_stage_leaves_nothing_and_is_run_again_from_its_beginning(hub: Hub, stage: str) -> None:
    job = _of_all_stages(hub)
    process = hub.start(job)
    _wait(lambda: hub.training.job(job.id).stage == stage, process, timeout_s=300.0)
    hub.training.cancel(ADMIN, job.id)
    process.communicate(timeout=90)
    assert process.returncode == 3
    assert not (hub.config.data_dir / "work" / job.id).exists()
    assert list(hub.training.trials(job.id, 0)) == []
    again = hub.training.retry(ADMIN, job.id)
    assert (again.state, again.spec_yaml) == (JobState.QUEUED, job.spec_yaml)


def test_a_cancelled_job_stops_and_leaves_nothing(hub: Hub) -> None:
    job = hub.queue(teacher={"width": 8, "epochs": 1000}, train={**SPEC["train"], "patience": 1000})  # type: ignore[dict-item]
    process = hub.start(job)
    _wait(lambda: any(line.startswith("epoch 1/") for line in hub.said(job)), process)
    hub.training.cancel(ADMIN, job.id)
    process.communicate(timeout=60)
    assert process.returncode == 3
    assert hub.training.job(job.id).state is JobState.CANCELLED
    assert not (hub.config.data_dir / "work" / job.id).exists()


def test_a_stopped_hub_takes_its_job_with_it_and_the_job_stays_to_be_resumed(hub: Hub) -> None:
    job = hub.queue(teacher={"width": 8, "epochs": 1000}, train={**SPEC["train"], "patience": 1000})  # type: ignore[dict-item]
    process = hub.start(job)
    _wait(lambda: any(line.startswith("epoch 1/") for line in hub.said(job)), process)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 3
    assert hub.training.job(job.id).state is JobState.RUNNING
    assert (hub.config.data_dir / "work" / job.id / "teacher-0.safetensors").exists()


def test_a_job_whose_hub_was_killed_ends_by_itself_and_stays_to_be_resumed(hub: Hub) -> None:
    job = hub.queue(teacher={"width": 8, "epochs": 1000}, train={**SPEC["train"], "patience": 1000})  # type: ignore[dict-item]
    worker = [sys.executable, "-m", "cloud_hub.app.worker", "--config", str(hub.path), "--job", job.id]
    parent = subprocess.Popen(
        ["sh", "-c", '"$@" & echo $!; wait', "sh", *worker],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=_environment(),
    )
    assert parent.stdout is not None
    worker_pid = int(parent.stdout.readline())
    _wait(lambda: any(line.startswith("epoch 1/") for line in hub.said(job)), parent)
    parent.kill()
    parent.wait()
    _wait(lambda: _has_ended(worker_pid))
    assert hub.training.job(job.id).state is JobState.RUNNING


def test_unusable_data_fails_the_job_with_the_report(hub: Hub) -> None:
    job = hub.work(hub.queue(data={"dataset": "digits", "min_samples": 1000}))
    assert job.state is JobState.FAILED
    assert "400 usable samples, data.min_samples is 1000" in job.reason


def test_a_job_that_is_not_running_is_refused(hub: Hub) -> None:
    hub.training.put_spec(ADMIN, yaml.safe_dump(SPEC))
    process = hub.start(hub.training.run(ADMIN, MODEL))
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert b"is queued, not running" in errors


def _has_ended(pid: int) -> bool:
    """Gone, or a zombie that nobody has waited for."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def _environment() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if not key.startswith("CLOUD_HUB__")}


def _wait(condition: Callable[[], bool], process: subprocess.Popen[bytes] | None = None, timeout_s: float = 90.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert process is None or process.poll() is None, "the worker ended early"
        assert time.monotonic() < deadline, f"not within {timeout_s} s"
        time.sleep(0.05)


@pytest.fixture
def signs(tmp_path: Path) -> Iterator[tuple[FleetHub, Worker]]:
    """A claimed job of model signs in a hub that has devices, and its worker, which must not train."""
    hub = FleetHub(tmp_path)
    training = TrainingService(hub.db, hub.clock)
    DatasetService(hub.db, hub.artifacts, hub.clock).create(ADMIN, "signs", ("stop", "yield"))
    deploy = {"auto": True, "gates": [{"metric": "drift_score", "max_rise": 0.25}], "on_breach": "pause"}
    training.put_spec(ADMIN, yaml.safe_dump({"name": "signs", "data": {"dataset": "signs"}, "deploy": deploy}))
    training.run(ADMIN, ModelName("signs"))
    job = training.claim()
    assert job is not None
    yield hub, Worker(HubConfig(data_dir=tmp_path), hub.db, job)
    hub.db.close()


def _job(hub: FleetHub) -> Job:
    return TrainingService(hub.db, hub.clock).list(ADMIN)[0][0]


def test_a_job_that_published_before_it_died_trains_no_more_and_starts_one_rollout(
    signs: tuple[FleetHub, Worker], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub, worker = signs
    monkeypatch.setattr(worker, "_train", lambda *_: pytest.fail("it has published already"))
    device = hub.device("cam-1")
    hub.publish(job_id=_job(hub).id)
    worker.run(tmp_path)
    assert (_job(hub).state, _job(hub).published_version) == (JobState.PUBLISHED, 1)
    device.commits()
    worker.run(tmp_path)
    (rollout,) = hub.rollouts.list(ADMIN)[0]
    assert [str(gate) for gate in rollout.plan.gates] == ["drift_score max_rise 0.25 versus control"]
    assert rollout.plan.on_breach is OnBreach.PAUSE


def test_a_rollout_that_cannot_start_does_not_fail_a_job_that_published(
    signs: tuple[FleetHub, Worker], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub, worker = signs
    hub.publish(job_id=_job(hub).id)
    monkeypatch.setattr("cloud_hub.core.rollout_plan.MAX_SOAK_S", 1)
    worker.run(tmp_path)
    assert _job(hub).state is JobState.PUBLISHED


def test_a_report_knows_the_groups_of_the_devices_that_samples_come_from(
    signs: tuple[FleetHub, Worker], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub, worker = signs
    hub.device("cam-1", site="north")
    given: dict[str, object] = {}

    def retrain(*_: object, **arguments: object) -> None:
        given.update(arguments)
        raise Invalid("enough is known")

    monkeypatch.setattr("cloud_hub.pipeline.retrain.retrain", retrain)
    monkeypatch.setattr(JobData, "devices", lambda self: {"cam-1", "cam-2"})
    worker.run(tmp_path)
    assert given["devices"] == {"cam-1": {"board": BOARD, "site": "north"}}


def test_a_champion_whose_file_is_lost_fails_the_job_before_it_trains(signs: tuple[FleetHub, Worker], tmp_path: Path) -> None:
    hub, worker = signs
    version = hub.publish()
    hub.registry.set_alias(ADMIN, version.name, CHAMPION, version.version)
    hub.artifacts.remove(version.variants[0].artifact_digest)
    worker.run(tmp_path)
    job = _job(hub)
    assert job.state is JobState.FAILED and job.attempts == 1
    assert "champion, version 1, cannot be compared: no blob" in job.reason and "hubctl model promote" in job.reason


def test_a_busy_database_is_no_verdict_on_a_job(
    signs: tuple[FleetHub, Worker], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def busy(*_: object) -> None:
        raise Exhausted("the database is busy")

    hub, worker = signs
    monkeypatch.setattr(worker, "_train", busy)
    with pytest.raises(Exhausted):
        worker.run(tmp_path)
    assert _job(hub).state is JobState.RUNNING, "the runner queues it again"
