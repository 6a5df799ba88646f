"""The composition of update, infer and decide over real model files."""

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edge_agent.app.keep import Keeper
from edge_agent.app.perceive import Perceiver
from edge_agent.app.runner import ModelRunner
from edge_agent.core.budget import Budget
from edge_agent.core.config import AgentConfig, CaptureConfig, InferConfig, SpoolConfig, UpdateConfig
from edge_agent.core.errors import BadModel
from edge_agent.core.model import Happening, Outcome
from edge_agent.infer import runtimes
from edge_agent.infer.life import START_S, Limits
from edge_agent.infer.process import Process
from edge_agent.update.probation import Ruling, judge
from edge_agent.update.slots import Slot
from protos.contract.ids import digest_of
from protos.contract.manifest import Format
from tests.agent import models
from tests.agent.app.test_perceive import frame
from tests.agent.app.test_threads import wait_until
from tests.agent.clocks import ManualClock
from tests.agent.fakes import FakeCaptures
from tests.agent.fakes_spool import MemorySpool
from tests.agent.infer.test_remote import children


@pytest.fixture
def perceiver() -> Perceiver:
    clock = ManualClock()
    spool = MemorySpool(SpoolConfig(), clock)
    return Perceiver(spool, Keeper(FakeCaptures(), spool, Budget(0, clock)), clock)


@pytest.fixture
def told() -> list[Happening]:
    return []


@pytest.fixture
def runner(perceiver: Perceiver, told: list[Happening]) -> Iterator[ModelRunner]:
    made = ModelRunner(perceiver, AgentConfig(), Budget(0, ManualClock()), tell=told.append, clock=ManualClock())
    yield made
    made.close()
    assert children() == []


def slot(folder: Path, files: models.ModelFiles) -> Slot:
    files.write(folder)
    return Slot("a", folder)


@pytest.mark.parametrize("format", list(Format))
def test_a_slot_is_verified_activated_and_watched(
    runner: ModelRunner, perceiver: Perceiver, tmp_path: Path, format: Format
) -> None:
    files = models.files(format)
    here = slot(tmp_path, files)
    assert runner.unrunnable(files.manifest) == ""
    fit = runner.verify(here)
    assert 0 < fit.p50_ms <= fit.p95_ms and fit.error <= 1 and fit.agreement == 1 and fit.peak_bytes > 1 << 20
    runner.activate(here)
    outcome = perceiver.see(frame())
    assert outcome is not None and outcome.model == digest_of(files.manifest_bytes)
    assert runner.vitals().inferences == 1
    runner.activate(None)
    assert perceiver.active is None
    assert runner.vitals().inferences == 0


def test_a_model_that_does_not_load_leaves_the_one_before_running(
    runner: ModelRunner, perceiver: Perceiver, tmp_path: Path
) -> None:
    good, bad = tmp_path / "good", tmp_path / "bad"
    good.mkdir()
    bad.mkdir()
    runner.activate(slot(good, models.files()))
    before = perceiver.active
    with pytest.raises(BadModel):
        runner.activate(slot(bad, models.files(model=b"this is no model")))
    assert perceiver.active is before


def test_a_format_without_a_runtime_is_named(runner: ModelRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtimes, "available", lambda: ("onnx",))
    reason = runner.unrunnable(models.files(Format.TFLITE).manifest)
    assert "TFLITE" in reason and "onnx" in reason


def test_an_update_does_not_refill_the_capture_budget(perceiver: Perceiver, tmp_path: Path) -> None:
    frugal = ModelRunner(perceiver, AgentConfig(capture=CaptureConfig(control_rate=1.0)), Budget(1, ManualClock()))
    here = slot(tmp_path, models.files())
    captured = []
    for _ in range(3):
        frugal.activate(here)
        outcome = perceiver.see(frame(int(np.random.default_rng(1).integers(255))))
        assert outcome is not None
        captured.append(outcome.captured)
    frugal.close()
    assert captured == [True, False, False]


def test_the_model_before_serves_until_the_next_one_is_ready_and_then_its_worker_ends(
    runner: ModelRunner, perceiver: Perceiver, tmp_path: Path
) -> None:
    """Frames go on and on while models come and go: not one of them fails."""
    slots = []
    for name, format in (("one", Format.ONNX), ("two", Format.TFLITE)):
        (tmp_path / name).mkdir()
        slots.append(slot(tmp_path / name, models.files(format)))
    runner.activate(slots[0])
    outcomes, stop = list[Outcome | None](), threading.Event()

    def look() -> None:
        while not stop.is_set():
            outcomes.append(perceiver.see(frame()))

    thread = threading.Thread(target=look)
    thread.start()
    for turn in range(1, 7):
        seen = len(outcomes)
        runner.activate(slots[turn % 2])
        assert len(children()) == 1, "the worker before it is gone"
        wait_until(lambda seen=seen: len(outcomes) > seen + 5)
    stop.set()
    thread.join()
    assert None not in outcomes and perceiver.total.errors == 0
    assert {outcome.model for outcome in outcomes if outcome} == {digest_of(each.manifest.read_bytes()) for each in slots}


def test_a_model_that_loses_its_worker_is_rolled_back_and_the_hub_is_told(
    runner: ModelRunner, perceiver: Perceiver, told: list[Happening], tmp_path: Path
) -> None:
    runner.activate(slot(tmp_path, models.files()))
    assert judge(runner.vitals(), elapsed_s=0, reference_ms=1, config=UpdateConfig()).ruling is Ruling.WAIT
    for crashes in (1, 2, 3):
        wait_until(lambda: children() != [])
        os.kill(children()[0], signal.SIGSEGV)
        wait_until(lambda crashes=crashes: runner.vitals().crashes == crashes)
    verdict = judge(runner.vitals(), elapsed_s=0, reference_ms=1, config=UpdateConfig())
    assert (verdict.ruling, verdict.reason) == (
        Ruling.ROLL_BACK, "its worker was lost: the runtime died with signal 11 (SIGSEGV)",
    )  # fmt: skip
    assert [happening.kind for happening in told] == ["inference.worker_lost"] * 2, "the first and the second, not each"
    assert told[0].detail == "1 so far: the runtime died with signal 11 (SIGSEGV)"
    assert perceiver.workers_lost == 3
    wait_until(lambda: perceiver.see(frame()) is not None)


def test_a_model_may_take_as_long_to_start_as_it_may_to_be_verified(
    perceiver: Perceiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[float] = []

    def begin(*_: object, limits: Limits, **__: object) -> None:
        asked.append(limits.start_s)
        raise BadModel("seen enough")

    monkeypatch.setattr("edge_agent.app.runner.RemoteRuntime", begin)
    for golden_s in (90.0, 1.0):
        slow = ModelRunner(perceiver, AgentConfig(infer=InferConfig(golden_timeout_s=golden_s)), Budget(0, ManualClock()))
        with pytest.raises(BadModel, match="seen enough"):
            slow.activate(slot(tmp_path, models.files()))
    assert asked == [90.0, START_S]


def test_a_process_begun_early_takes_the_first_model_or_is_dismissed(perceiver: Perceiver, tmp_path: Path) -> None:
    blank = Process()
    early = ModelRunner(perceiver, AgentConfig(), Budget(0, ManualClock()), blank=blank)
    early.activate(slot(tmp_path, models.files()))
    early.dismiss()
    assert children() == [blank.pid] and perceiver.see(frame()) is not None
    early.close()
    assert children() == []
    idle = ModelRunner(perceiver, AgentConfig(), Budget(0, ManualClock()), blank=Process())
    idle.dismiss()
    assert children() == []
