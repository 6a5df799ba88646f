"""The composition of update, infer and decide over real model files."""

from pathlib import Path

import numpy as np
import pytest

from edge_agent.app.keep import Keeper
from edge_agent.app.perceive import Perceiver
from edge_agent.app.runner import ModelRunner
from edge_agent.core.budget import Budget
from edge_agent.core.config import AgentConfig, CaptureConfig, SpoolConfig
from edge_agent.core.errors import BadModel
from edge_agent.infer import runtimes
from edge_agent.update.slots import Slot
from protos.contract.ids import digest_of
from protos.contract.manifest import Format
from tests.agent import models
from tests.agent.app.test_perceive import frame
from tests.agent.clocks import ManualClock
from tests.agent.fakes import FakeCaptures
from tests.agent.fakes_spool import MemorySpool


@pytest.fixture
def perceiver() -> Perceiver:
    clock = ManualClock()
    spool = MemorySpool(SpoolConfig(), clock)
    return Perceiver(spool, Keeper(FakeCaptures(), spool, Budget(0, clock)), clock)


@pytest.fixture
def runner(perceiver: Perceiver) -> ModelRunner:
    return ModelRunner(perceiver, AgentConfig(), Budget(0, ManualClock()))


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
    assert runner.verify(here) > 0
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
    assert captured == [True, False, False]
