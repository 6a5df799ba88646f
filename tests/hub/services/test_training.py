"""Jobs: one at a time per model, from whichever trigger, through crashes and with several processes."""

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path

import pytest

from cloud_hub.core.config import TrainingConfig
from cloud_hub.core.errors import Conflict, Invalid, NotFound, NotReady
from cloud_hub.core.job_queue import Resources
from cloud_hub.core.model import Job, JobState, TrainingStep
from cloud_hub.core.pages import Page
from cloud_hub.core.spec import parse
from cloud_hub.services.datasets import DatasetService, NewSample
from cloud_hub.services.training import TrainingService
from cloud_hub.store import episodes
from cloud_hub.store.artifacts import ArtifactStore
from cloud_hub.store.database import Database
from protos.contract.ids import ModelName
from tests.hub.fleet_parts import ADMIN, STRANGER, Clock
from tests.hub.services.test_datasets import image
from tests.hub.telemetry_parts import CAM, DIGITS, START, TENANT

LABELS = ("one", "two")


def spec(cron: str = "", min_new_labels: int = 5, on_labels: int = 0, drift: bool = True, extra: str = "") -> str:
    triggers = f"{{cron: '{cron}', min_new_labels: {min_new_labels}, on_labels: {on_labels}, drift: {str(drift).lower()}}}"
    return f"name: digits\ndata: {{dataset: numbers}}\ntriggers: {triggers}\n{extra}"


@dataclass
class Trainer:
    folder: Path
    database_url: str  # of a migrated database
    clock: Clock = field(default_factory=Clock)
    images: int = 0

    def __post_init__(self) -> None:
        self.start()
        self.datasets = DatasetService(self.db, ArtifactStore(self.folder / "artifacts"), self.clock)
        self.datasets.create(ADMIN, "numbers", LABELS)

    def start(self) -> None:
        self.db = Database(self.database_url)
        self.training = TrainingService(self.db, self.clock, TrainingConfig(max_attempts=2))

    def add(self, count: int, label: str | None = "one") -> None:
        self.clock.advance(1)
        numbers = range(self.images, self.images + count)
        self.images += count
        items = [NewSample(dataset="numbers", content=image(n), label=label, source=f"s{n}", name=str(n)) for n in numbers]
        assert self.datasets.import_samples(ADMIN, items).added == count
        self.clock.advance(1)

    def put(self, yaml: str) -> None:
        self.training.put_spec(ADMIN, yaml)

    def tick(self, seconds: float = 1.0) -> None:
        self.clock.advance(seconds)
        self.training.tick()

    def jobs(self) -> list[Job]:
        return self.training.list(ADMIN)[0]

    def complete(self, state: JobState = JobState.PUBLISHED) -> Job:
        self.clock.advance(1)
        job = self.training.claim()
        assert job is not None
        assert self.training.finish(job.id, state, version=1 if state is JobState.PUBLISHED else 0)
        return job


@pytest.fixture
def trainer(tmp_path: Path, database_url: str) -> Iterator[Trainer]:
    made = Trainer(tmp_path, database_url)
    yield made
    made.db.close()


def test_a_spec_is_checked_kept_and_replaced(trainer: Trainer) -> None:
    with pytest.raises(NotFound, match="put one first"):
        trainer.training.get_spec(ADMIN, DIGITS)
    trainer.put(spec())
    trainer.put(spec(min_new_labels=7))
    assert "min_new_labels: 7" in trainer.training.get_spec(ADMIN, DIGITS).yaml
    with pytest.raises(Invalid, match="did you mean"):
        trainer.put(spec(extra="gates: {}"))
    with pytest.raises(Invalid, match="schedule"):
        trainer.put(spec(cron="61 * * * *"))
    with pytest.raises(NotFound):
        trainer.training.get_spec(STRANGER, DIGITS)


def test_a_job_goes_from_queue_to_version(trainer: Trainer) -> None:
    trainer.put(spec())
    job = trainer.training.run(ADMIN, DIGITS)
    assert (job.state, job.trigger, job.trigger_detail) == (JobState.QUEUED, "manual", "by ada")
    claimed = trainer.training.claim()
    assert claimed is not None
    assert (claimed.id, claimed.state, claimed.attempts, claimed.spec_yaml) == (job.id, JobState.RUNNING, 1, spec())
    assert trainer.training.claim() is None
    for epoch in range(3):
        assert trainer.training.progress(job.id, "teacher", epoch / 3, f"epoch {epoch}")
    assert trainer.training.progress(job.id, "verify", 7.0)
    assert [(line.number, line.text) for line in trainer.training.lines(job.id)] == [
        (1, "epoch 0"),
        (2, "epoch 1"),
        (3, "epoch 2"),
    ]
    assert [line.number for line in trainer.training.lines(job.id, after=2)] == [3]
    assert trainer.training.get(ADMIN, job.id).progress == 1.0
    assert trainer.training.finish(job.id, JobState.PUBLISHED, version=4)
    ended = trainer.training.get(ADMIN, job.id)
    assert (ended.state, ended.published_version, ended.stage) == (JobState.PUBLISHED, 4, "verify")
    assert ended.ended_at is not None
    with pytest.raises(NotFound):
        trainer.training.get(STRANGER, job.id)
    assert trainer.training.list(ADMIN, ModelName("signs")) == ([], "")


def test_a_run_needs_a_spec_and_a_data_set(trainer: Trainer) -> None:
    with pytest.raises(NotFound):
        trainer.training.run(ADMIN, DIGITS)
    trainer.put(spec().replace("numbers", "letters"))
    with pytest.raises(NotReady, match="'letters'"):
        trainer.training.run(ADMIN, DIGITS)


def test_a_model_has_one_job_at_a_time(trainer: Trainer) -> None:
    trainer.put(spec(min_new_labels=0))
    job = trainer.training.run(ADMIN, DIGITS)
    trainer.put(spec(min_new_labels=0, extra="targets: [onnx-int8]"))
    assert trainer.training.run(ADMIN, DIGITS).id == job.id
    assert "onnx-int8" in trainer.training.job(job.id).spec_yaml
    assert trainer.training.request(DIGITS, "drift", "cam-1") == job.id
    trainer.training.claim()
    assert trainer.training.request(DIGITS, "drift", "cam-1") == job.id
    with pytest.raises(Conflict, match=job.id):
        trainer.training.run(ADMIN, DIGITS)
    assert len(trainer.jobs()) == 1


def test_many_who_ask_at_once_get_one_job(trainer: Trainer) -> None:
    trainer.put(spec(min_new_labels=0))
    ids = at_once(4, lambda: trainer.training.request(DIGITS, "drift", "cam"))
    assert len(set(ids)) == 1
    assert len(trainer.jobs()) == 1


def test_a_claimed_job_belongs_to_one_worker(trainer: Trainer) -> None:
    trainer.put(spec())
    trainer.training.run(ADMIN, DIGITS)
    other = TrainingService(Database(trainer.database_url), trainer.clock)
    claims = at_once(4, trainer.training.claim, other.claim)
    assert len([job for job in claims if job is not None]) == 1
    assert trainer.jobs()[0].attempts == 1


def at_once(times: int, *calls: Callable[[], object]) -> list[object]:
    """What ``calls`` return, each called ``times`` times, all released together."""
    gate, results = threading.Barrier(times * len(calls)), []

    def go(call: Callable[[], object]) -> None:
        gate.wait(10)
        results.append(call())

    threads = [threading.Thread(target=go, args=(call,)) for call in calls for _ in range(times)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(results) == len(threads)
    return results


def test_a_pending_trigger_waits_for_labels_and_then_makes_one_job(trainer: Trainer) -> None:
    trainer.put(spec(min_new_labels=5))
    trainer.add(10)
    trainer.training.run(ADMIN, DIGITS)
    trainer.complete()
    trainer.add(4)
    assert trainer.training.request(DIGITS, "cron", "nightly") == ""
    assert trainer.training.request(DIGITS, "drift", "cam-1: labels moved") == ""
    assert trainer.training.request(DIGITS, "drift", "cam-2: labels moved") == ""
    for _ in range(3):
        trainer.tick()
    trainer.add(3, label=None)
    trainer.tick()
    assert len(trainer.jobs()) == 1
    trainer.add(1, label="two")
    for _ in range(3):
        trainer.tick()
    [job, _] = trainer.jobs()
    assert (job.trigger, job.trigger_detail, job.state) == ("drift", "cam-1: labels moved", JobState.QUEUED)
    trainer.complete(JobState.REJECTED)
    trainer.tick()
    assert len(trainer.jobs()) == 2


def test_labels_given_later_count_and_labels_given_again_do_not(trainer: Trainer) -> None:
    trainer.put(spec(min_new_labels=3))
    trainer.add(6, label=None)
    trainer.training.run(ADMIN, DIGITS)
    trainer.complete()
    trainer.clock.advance(1)
    samples, _ = trainer.datasets.list_samples(ADMIN, "numbers", None, None, Page())
    assert trainer.training.request(DIGITS, "drift", "cam-1") == ""
    for _ in range(4):
        trainer.datasets.label(ADMIN, [(sample.id, "one") for sample in samples[:2]])
        trainer.tick()
    assert len(trainer.jobs()) == 1
    trainer.datasets.label(ADMIN, [(samples[2].id, "two")])
    trainer.tick()
    assert len(trainer.jobs()) == 2


def test_a_failed_training_has_not_used_its_labels_up(trainer: Trainer) -> None:
    trainer.put(spec(min_new_labels=5))
    trainer.add(5)
    assert trainer.training.request(DIGITS, "drift", "cam-1") != ""
    trainer.complete(JobState.FAILED)
    assert trainer.training.request(DIGITS, "drift", "cam-1") != ""
    trainer.complete(JobState.PUBLISHED)
    assert trainer.training.request(DIGITS, "drift", "cam-1") == ""


def test_drift_does_not_train_where_the_spec_says_no_or_is_missing(trainer: Trainer) -> None:
    assert trainer.training.request(DIGITS, "drift", "cam-1") == ""
    trainer.put(spec(min_new_labels=0, drift=False))
    assert trainer.training.request(DIGITS, "drift", "cam-1") == ""
    trainer.tick()
    assert trainer.jobs() == []


def test_a_job_names_itself_in_the_open_episodes_of_its_model(trainer: Trainer) -> None:
    with trainer.db.write() as tx:
        for model in (DIGITS, ModelName("signs")):
            episodes.add(tx, TENANT, CAM, model, 1, START, "labels moved")
    trainer.put(spec(min_new_labels=2))
    trainer.training.request(DIGITS, "drift", "cam-1")
    trainer.add(2)
    trainer.tick()
    [job] = trainer.jobs()
    with trainer.db.read() as tx:
        rows = episodes.newest(tx, TENANT, None, True, before=None, limit=10)
        found = {episode.model: episode.job_id for _, episode in rows}
    assert found == {"digits": job.id, "signs": ""}


def test_new_labels_alone_make_a_job_where_the_spec_says_so(trainer: Trainer) -> None:
    trainer.put(spec(on_labels=4))
    trainer.add(3)
    trainer.tick()
    assert trainer.jobs() == []
    trainer.add(1)
    trainer.tick()
    [job] = trainer.jobs()
    assert (job.trigger, job.trigger_detail) == ("labels", "4 new labels")
    trainer.complete(JobState.FAILED)
    for _ in range(3):
        trainer.tick()
    assert len(trainer.jobs()) == 1  # the same data would fail again


def test_labels_that_came_while_a_job_waited_are_not_new_to_the_next(trainer: Trainer) -> None:
    trainer.put(spec(on_labels=4))
    trainer.add(4)
    trainer.tick()
    trainer.add(4)
    trainer.complete()  # it began on all eight
    for _ in range(3):
        trainer.tick()
    assert len(trainer.jobs()) == 1
    trainer.add(4)
    trainer.tick()
    assert len(trainer.jobs()) == 2


def test_a_schedule_is_due_once_per_slot(trainer: Trainer) -> None:
    trainer.put(spec(cron="*/10 * * * *", min_new_labels=0))
    trainer.tick(300)
    assert trainer.jobs() == []
    for _ in range(5):
        trainer.tick(61)
    [job] = trainer.jobs()
    assert (job.trigger, job.trigger_detail) == ("cron", "*/10 * * * * due 2026-03-01 12:10 UTC")
    trainer.complete()
    trainer.tick()
    assert len(trainer.jobs()) == 1
    trainer.tick(24 * 3600)
    trainer.complete()
    trainer.tick()
    assert [job.trigger for job in trainer.jobs()] == ["cron", "cron"]


def test_a_schedule_without_new_labels_waits(trainer: Trainer) -> None:
    trainer.put(spec(cron="*/10 * * * *", min_new_labels=2))
    for _ in range(4):
        trainer.tick(600)
    assert trainer.jobs() == []
    trainer.add(2)
    trainer.tick()
    assert [job.trigger for job in trainer.jobs()] == ["cron"]


def test_two_hubs_take_a_slot_once(trainer: Trainer) -> None:
    trainer.put(spec(cron="*/10 * * * *", min_new_labels=0))
    other = TrainingService(Database(trainer.database_url), trainer.clock)
    for _ in range(5):
        trainer.clock.advance(600)
        at_once(2, trainer.training.tick, other.tick)
        trainer.complete()
        at_once(2, trainer.training.tick, other.tick)
    assert len(trainer.jobs()) == 5


_TICK = """
import sys
from datetime import datetime
from cloud_hub.services.training import TrainingService
from cloud_hub.store.database import Database
from edge_agent.core.clock import SystemClock
training = TrainingService(Database(sys.argv[1]), SystemClock())
print("ready", flush=True)
sys.stdin.readline()
training.tick(datetime.fromisoformat(sys.argv[2]))
job = training.claim()
print(job.id if job else "-", flush=True)
"""


def test_two_processes_take_a_slot_and_its_job_once(trainer: Trainer) -> None:
    trainer.put(spec(cron="*/10 * * * *", min_new_labels=0))
    now = (START + timedelta(minutes=15)).isoformat()
    command = [sys.executable, "-c", _TICK, trainer.database_url, now]
    processes = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    answers = sorted(process.communicate("go\n", timeout=60)[0].strip() for process in processes)
    [job] = trainer.jobs()
    assert answers == ["-", job.id]
    assert (job.state, job.attempts) == (JobState.RUNNING, 1)


def test_a_job_whose_worker_died_is_queued_again_and_given_up_in_the_end(trainer: Trainer) -> None:
    trainer.put(spec())
    job = trainer.training.run(ADMIN, DIGITS)
    trainer.training.claim()
    trainer.training.progress(job.id, "teacher", 0.4, "epoch 1")
    trainer.db.close()
    trainer.start()
    assert trainer.training.recover() == 1
    assert trainer.training.recover() == 0
    again = trainer.training.claim()
    assert again is not None
    assert (again.id, again.attempts, again.progress) == (job.id, 2, 0.0)
    trainer.training.recover("the worker ended with code -9")
    given_up = trainer.training.job(job.id)
    assert given_up.state is JobState.FAILED
    assert given_up.reason == "given up after 2 attempts: the worker ended with code -9"
    assert trainer.training.claim() is None
    assert [line.text for line in trainer.training.lines(job.id)][:2] == [
        "epoch 1",
        "attempt 1 of 2 ended: the worker died with the hub",
    ]
    assert trainer.training.run(ADMIN, DIGITS).id != job.id


def test_trials_are_kept_as_long_as_the_job_may_go_on(trainer: Trainer) -> None:
    trainer.put(spec())
    job = trainer.training.run(ADMIN, DIGITS)
    trainer.training.claim()
    trainer.training.add_trials(job.id, [{"trial": 1}, {"trial": 2}])
    trainer.training.recover("killed")
    assert trainer.training.trials(job.id, 1) == [{"trial": 2}]
    trainer.training.cancel(ADMIN, job.id)
    assert trainer.training.trials(job.id, 0) == []
    with pytest.raises(Conflict, match="is cancelled"):
        trainer.training.add_trials(job.id, [{"trial": 3}])


def test_stopping_the_hub_costs_a_job_none_of_its_attempts(trainer: Trainer) -> None:
    trainer.put(spec())
    job = trainer.training.run(ADMIN, DIGITS)
    assert not trainer.training.release(job.id), "it does not run yet"
    for _ in range(5):
        running = trainer.training.claim()
        assert running is not None and (running.id, running.attempts) == (job.id, 1)
        assert trainer.training.release(job.id)
    assert trainer.training.job(job.id).state is JobState.QUEUED
    assert "goes on" in trainer.training.job(job.id).reason


def test_a_cancelled_job_stays_cancelled_whatever_its_worker_says(trainer: Trainer) -> None:
    trainer.put(spec())
    job = trainer.training.run(ADMIN, DIGITS)
    trainer.training.claim()
    with pytest.raises(NotFound):
        trainer.training.cancel(STRANGER, job.id)
    assert trainer.training.cancel(ADMIN, job.id).reason == "by ada"
    assert not trainer.training.progress(job.id, "teacher", 0.5, "epoch 2")
    assert not trainer.training.finish(job.id, JobState.PUBLISHED, version=3)
    ended = trainer.training.job(job.id)
    assert (ended.state, ended.published_version) == (JobState.CANCELLED, 0)
    assert trainer.training.lines(job.id) == []
    with pytest.raises(Conflict, match="cancelled"):
        trainer.training.cancel(ADMIN, job.id)
    queued = trainer.training.run(ADMIN, DIGITS)
    assert trainer.training.cancel(ADMIN, queued.id).state is JobState.CANCELLED
    assert trainer.training.claim() is None


def test_a_spec_that_an_older_hub_took_does_not_stop_the_others(trainer: Trainer, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer.put(spec(on_labels=1))
    trainer.put(spec(on_labels=1).replace("digits", "aaa"))
    with trainer.db.write() as tx:
        tx.exec_driver_sql("UPDATE training_specs SET yaml = 'name: aaa\nold_key: 1' WHERE model = 'aaa'").close()
    trainer.add(1)
    trainer.tick()
    assert [job.model for job in trainer.jobs()] == ["digits"]


def test_a_spec_that_could_never_be_deployed_is_refused_when_it_is_put(trainer: Trainer) -> None:
    with pytest.raises(Invalid, match="selector"):
        trainer.training.put_spec(ADMIN, "{name: m, data: {dataset: d}, deploy: {selector: {model: 'No Name'}}}")


def test_a_job_may_ask_for_other_resources_than_its_specification(trainer: Trainer) -> None:
    trainer.put(spec())
    job = trainer.training.run(ADMIN, DIGITS, {"priority": "high"})
    assert parse(job.spec_yaml).resources.priority == "high"
    assert parse(trainer.training.get_spec(ADMIN, DIGITS).yaml).resources.priority == "normal"
    again = trainer.training.run(ADMIN, DIGITS)
    assert (again.id, parse(again.spec_yaml).resources.priority) == (job.id, "normal"), "as the newest specification says"
    with pytest.raises(Invalid, match=r"'resources.priority' must be one of low, normal, high"):
        trainer.training.run(ADMIN, DIGITS, {"priority": "huge"})


def test_the_shortest_is_trained_first_and_the_most_urgent_before_it(trainer: Trainer) -> None:
    names = [ModelName(name) for name in ("long", "short", "urgent")]
    for name in names:
        trainer.put(spec().replace("name: digits", f"name: {name}"))
    for name, seconds in (("long", 900), ("short", 60), ("urgent", 9000)):
        job = trainer.training.run(ADMIN, ModelName(name))
        assert trainer.training.claim() is not None
        trainer.clock.advance(seconds)
        trainer.training.finish(job.id, JobState.REJECTED, "not better")
    for name in names:
        trainer.training.run(ADMIN, name, {"priority": "high"} if name == "urgent" else {})
    order = []
    while (job := trainer.training.claim(Resources(cpus=4), Resources(cpus=4))) is not None:
        order.append(job.model)
        trainer.training.finish(job.id, JobState.REJECTED, "not better")
    assert order == ["urgent", "short", "long"]


# -- again, and beforehand


def test_a_job_that_ended_is_run_again_as_it_was(trainer: Trainer) -> None:
    trainer.put(spec(min_new_labels=0))
    first = trainer.training.run(ADMIN, DIGITS)
    with pytest.raises(Conflict, match="is queued"):
        trainer.training.retry(ADMIN, first.id)
    claimed = trainer.training.claim()
    assert claimed is not None
    trainer.training.finish(first.id, JobState.FAILED, "the disk was full")
    trainer.put(spec(min_new_labels=99))
    again = trainer.training.retry(ADMIN, first.id)
    assert (again.state, again.spec_yaml, again.id != first.id) == (JobState.QUEUED, first.spec_yaml, True)
    assert first.id in again.trigger_detail
    assert trainer.training.get(ADMIN, first.id).state is JobState.FAILED
    with pytest.raises(NotFound):
        trainer.training.retry(STRANGER, first.id)


def test_a_specification_is_held_against_its_data_set_before_a_job_is_made(trainer: Trainer) -> None:
    def problems(yaml: str) -> str:
        return "\n".join(trainer.training.check_spec(ADMIN, yaml, dataset=True)[1])

    trainer.add(5)
    assert "has 5 labelled samples, data.min_samples is 100" in problems(spec())
    assert "'two' has 0" in problems(spec())
    assert "'nothing' does not exist" in problems("name: a\ndata: {dataset: nothing}")
    said = problems("name: a\ntask: forecasting\ndata: {dataset: numbers}")
    assert "holds samples of kind image, task forecasting takes window" in said
    assert "has no version 7" in problems("name: a\ndata: {dataset: numbers, version: 7}")
    assert "5 samples do not say when they were captured" in problems("name: a\ndata: {dataset: numbers, split_by: time}")
    trainer.add(50, "one")
    trainer.add(50, "two")
    yaml, found = trainer.training.check_spec(ADMIN, spec(), dataset=True)
    assert found == [] and parse(yaml) == parse(spec())
    assert trainer.training.check_spec(STRANGER, spec(), dataset=True)[1], "another tenant's data set is not there"


def test_a_step_is_kept_while_its_stage_lasts(trainer: Trainer) -> None:
    trainer.put(spec(min_new_labels=0))
    trainer.training.run(ADMIN, DIGITS)
    job = trainer.training.claim()
    assert job is not None
    step = TrainingStep(epoch=1, epochs=3, step=2, steps=9, loss=0.5, eta_s=12.5)
    trainer.training.progress(job.id, "teacher", 0.1, "", step)
    trainer.training.progress(job.id, "teacher", 0.1, "a line")
    assert trainer.training.job(job.id).step == step
    trainer.training.progress(job.id, "teacher", 0.1, "", replace(step, loss=float("nan")))
    assert trainer.training.job(job.id).step == step
    trainer.training.progress(job.id, "student", 0.5, "the next network")
    assert trainer.training.job(job.id).step is None
    assert [line.text for line in trainer.training.lines(job.id)] == ["a line", "the next network"]
