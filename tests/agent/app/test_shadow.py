"""Frames beside the model that runs: sampled, compared, kept within budgets, and never waited for."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_agent.app.keep import Keeper
from edge_agent.app.perceive import Perceiver, Seen
from edge_agent.app.shadow import Match, Shadow
from edge_agent.core.budget import Budget
from edge_agent.core.clock import SystemClock
from edge_agent.core.config import InferConfig, SpoolConfig
from edge_agent.core.errors import BadModel, InferenceError
from edge_agent.core.model import Outcome, Prediction
from edge_agent.update.slots import Slot
from protos.contract.ids import Digest, digest_of
from protos.contract.manifest import Manifest
from protos.contract.outputs import Values
from protos.contract.twin import Challenger, ModelAssignment, ShadowReport
from tests.agent import models
from tests.agent.app.test_perceive import CLOCK, active, finish, frame, told
from tests.agent.app.test_threads import wait_until
from tests.agent.fakes import Answer, FakeCaptures, FakeRuntime
from tests.agent.fakes_spool import MemorySpool
from tests.agent.infer.test_remote import children
from tests.agent.kinds import KINDS

CHAMPION, RIVAL = digest_of(b"champion"), digest_of(b"rival")
MODEL = ModelAssignment(name=models.files().manifest.name, version=2, manifest_digest=RIVAL, manifest_size_bytes=1)


def seen(
    label: int = 0,
    *,
    value: int = 100,
    model: Digest = CHAMPION,
    captured: bool = False,
    labels: tuple[str, ...] = models.LABELS,
) -> Seen:
    prediction = Prediction(label=label, confidence=0.9, latency_ms=2.0)
    outcome = Outcome(
        captured_at=CLOCK.now(), model=model, label=label, confidence=0.9, latency_ms=2.0, captured=captured, label_name="x"
    )
    return Seen(observation=frame(value), prediction=prediction, outcome=outcome, labels=labels)


class Loaded(FakeRuntime):
    """As ``RemoteRuntime``, without a process."""

    crashes, last_crash, closed = 0, "", False

    def close(self) -> None:
        self.closed = True


class Ring:
    """A match whose kept disagreements are listed."""

    def __init__(
        self,
        answer: Answer,
        *,
        share: float = 1.0,
        time: float = 1.0,
        chance: Callable[[], float] = lambda: 0.0,
        manifest: Manifest | None = None,
    ) -> None:
        self.kept: list[Seen] = []
        manifest = manifest or models.files().manifest
        self.runtime = Loaded(manifest.input.shape, answer=answer)

        def keep(frame: Seen, told: Callable[[bool], None]) -> None:
            self.kept.append(frame)
            told(True)

        self.match = Match(
            RIVAL,
            manifest,
            self.runtime,  # type: ignore[arg-type]  # as much of it as a match needs
            Challenger(model=MODEL, share=share, max_share_of_time=time),
            ShadowReport(model=MODEL, since=CLOCK.now()),
            keep=keep,
            chance=chance,
            clock=SystemClock(),
        )

    @property
    def report(self) -> ShadowReport:
        return self.match.look().report

    def show(self, *frames: Seen) -> None:
        """One after the other: each is done with before the next comes."""
        for each in frames:
            before = self.report
            self.match.show(each)
            wait_until(lambda before=before: self.report != before or bool(self.report.problem))


def says(label: int) -> Answer:
    return lambda tensor: np.eye(4, dtype=np.float32)[label] * 9


@pytest.fixture
def rings() -> Iterator[list[Ring]]:
    made: list[Ring] = []
    yield made
    for ring in made:
        ring.match.close()
        assert ring.runtime.closed


def test_frames_that_both_saw_are_compared_by_the_name_of_the_label(rings: list[Ring]) -> None:
    rings.append(ring := Ring(says(1)))
    turned = (models.LABELS[1], models.LABELS[0], *models.LABELS[2:])  # the same classes in another order
    ring.show(seen(1), seen(0), seen(0, labels=turned))
    report = ring.report
    assert (report.frames, report.agreed, report.captured) == (3, 2, 1)
    assert report.champion_confidence == pytest.approx(0.9) and report.challenger_confidence > 0.99
    assert report.champion_p95_ms == 2.0 and len(ring.kept) == 1


def test_frames_are_sampled_by_chance(rings: list[Ring]) -> None:
    draws = iter([0.05, 0.5, 0.099, 0.1, 0.99])
    rings.append(ring := Ring(says(1), share=0.1, chance=lambda: next(draws)))
    for _ in range(5):
        ring.match.show(seen(1))
        wait_until(lambda: ring.match._waiting.empty())
    wait_until(lambda: ring.report.frames + ring.report.skipped == 2)


def test_a_frame_that_finds_the_challenger_busy_is_skipped_and_nobody_waits(rings: list[Ring]) -> None:
    go, busy = threading.Event(), threading.Event()

    def slow(tensor: NDArray[np.float32]) -> NDArray[np.float32]:
        busy.set()
        go.wait(10)
        return says(1)(tensor)

    rings.append(ring := Ring(slow))
    ring.match.show(seen(1))
    assert busy.wait(10)
    for _ in range(5):
        ring.match.show(seen(1))
    assert ring.report.skipped == 4, "one may wait"
    go.set()
    wait_until(lambda: ring.report.frames == 2)


def test_a_challenger_takes_no_more_than_its_share_of_the_time(rings: list[Ring]) -> None:
    def slow(tensor: NDArray[np.float32]) -> NDArray[np.float32]:
        threading.Event().wait(0.02)
        return says(1)(tensor)

    rings.append(ring := Ring(slow, time=0.5))  # the champion takes 2 ms a frame, so one frame in ten is affordable
    ring.show(*(seen(1) for _ in range(60)))
    report = ring.report
    assert report.frames + report.skipped == 60
    assert 1 <= report.frames <= 8


def test_errors_are_counted_and_it_goes_on(rings: list[Ring]) -> None:
    broken = True

    def answer(tensor: NDArray[np.float32]) -> NDArray[np.float32]:
        if broken:
            raise InferenceError("lost")
        return says(1)(tensor)

    rings.append(ring := Ring(answer))
    ring.show(seen(1), seen(1))
    broken = False
    ring.show(seen(1))
    assert (ring.report.errors, ring.report.frames) == (2, 1)


@pytest.mark.parametrize(
    ("other", "why"),
    [
        (seen(model=RIVAL), "it is the model that runs"),
        (seen(labels=("a", "b")), "it knows other classes than the model that runs"),
    ],
)
def test_what_cannot_be_compared_says_why_for_as_long_as_that_is_so(rings: list[Ring], other: Seen, why: str) -> None:
    rings.append(ring := Ring(says(1)))
    ring.show(other)
    assert (ring.report.problem, ring.report.frames) == (why, 0)
    ring.match.show(seen(1))
    wait_until(lambda: ring.report.frames == 1)
    assert ring.report.problem == ""


def test_numbers_are_compared_by_the_bins_of_the_model_that_runs(rings: list[Ring]) -> None:
    """A model that is trained anew has bins of its own: by their names no two could ever be compared."""
    kind = KINDS["forecasts"]
    assert isinstance(kind.output, Values)
    manifest = kind.files().manifest
    own = replace(manifest, output=replace(kind.output, edges=(45.0, 47.0, 49.0, 51.0)))
    rings.append(ring := Ring(lambda tensor: np.array([0, 0.5], np.float32), manifest=own))  # 57.5 in two steps
    look = seen(2, labels=kind.output.labels)  # bins of the champion: 2 is 50..60
    observation = replace(look.observation, content=kind.contents[0])
    for label in (2, 1, 3):
        prediction = replace(look.prediction, label=label, value=0.0)
        ring.show(replace(look, observation=observation, prediction=prediction, output=kind.output))
    assert (ring.report.problem, ring.report.frames, ring.report.agreed) == ("", 3, 1)
    other = replace(kind.output, names=("rpm+1", "rpm+2"))
    ring.match.show(replace(look, observation=observation, output=other))
    assert ring.report.problem == "it knows other classes than the model that runs"


# -- with the perceiver, the keeper and a worker ----------------------------------------------------------------------------


class Device:
    def __init__(self, folder: Path, per_hour: int) -> None:
        self.spool, self.captures = MemorySpool(SpoolConfig(batch_records=1), CLOCK), FakeCaptures()
        budget = Budget(per_hour, CLOCK)
        self.keeper = Keeper(self.captures, self.spool, budget)
        self.shadow = Shadow(InferConfig(), self.keeper, budget, SystemClock(), chance=lambda: 0.0)
        self.perceiver = Perceiver(self.spool, self.keeper, CLOCK, beside=self.shadow.show)
        self.slot = Slot("c", folder)

    def challenge(self, files: models.ModelFiles) -> None:
        files.write(self.slot.folder)
        challenger = Challenger(model=MODEL, share=1.0, max_share_of_time=1.0)
        self.shadow.begin(self.slot, challenger, ShadowReport(model=MODEL, since=CLOCK.now()))

    def sees(self, frames: int) -> None:
        for value in range(frames):
            before = self.frames
            self.perceiver.see(frame(value))
            wait_until(lambda before=before: self.frames > before)

    @property
    def frames(self) -> int:
        sight = self.shadow.look()
        assert sight is not None
        return sight.report.frames


def test_disagreements_are_kept_within_the_budget_of_all_captures_and_no_record_is_told_twice(tmp_path: Path) -> None:
    device = Device(tmp_path, per_hour=2)
    threading.Thread(target=device.keeper.run, daemon=True).start()
    device.perceiver.swap(active(lambda tensor: np.array([0, 0, 0, 9], np.float32)))  # what the linear model does not say
    device.challenge(models.files())
    assert device.shadow.verify(device.slot).error <= 1
    device.sees(6)
    sight = device.shadow.look()
    assert sight is not None and sight.report.agreed < 5
    wait_until(lambda: (it := device.shadow.look()) is not None and it.report.captured == 2)
    device.shadow.end()
    assert children() == [] and device.shadow.look() is None
    finish(device.keeper)
    kept = device.captures.pending(9)
    assert [(it.reason, it.model, it.predicted) for it in kept] == [("disagreement", digest_of(b"one"), "person")] * 2
    assert len(told(device.spool)) == 6


def test_what_the_champions_policy_keeps_is_not_kept_twice(tmp_path: Path) -> None:
    device = Device(tmp_path, per_hour=1000)
    threading.Thread(target=device.keeper.run, daemon=True).start()
    device.perceiver.swap(active(lambda tensor: np.array([0, 0, 0, 9], np.float32), control_rate=1.0))
    device.challenge(models.files())
    device.sees(4)
    sight = device.shadow.look()
    device.shadow.end()
    finish(device.keeper)
    assert sight is not None and sight.report.captured == 0
    assert {it.reason for it in device.captures.pending(9)} == {"control"}


def test_a_challenger_that_does_not_load_is_refused_and_nothing_runs(tmp_path: Path) -> None:
    device = Device(tmp_path, per_hour=1)
    with pytest.raises(BadModel):
        device.challenge(models.files(model=b"this is no model"))
    assert device.shadow.look() is None and children() == []
    device.perceiver.swap(active())
    assert device.perceiver.see(frame()) is not None
