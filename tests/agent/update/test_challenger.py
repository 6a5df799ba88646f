"""A challenger's line, from its offer to its end, and over restarts."""

import errno
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from edge_agent.core.backoff import Backoff
from edge_agent.core.errors import AlteredTarget, BadModel, Corrupt, LinkDown, NoTrust, Refused, Unfit
from edge_agent.core.model import Happening
from edge_agent.core.ports import Hub
from edge_agent.update.challenger import IDLE_S, LASTED_S, MOST_CRASHES, SAVE_S, WATCH_S, ChallengerLine, Sight
from edge_agent.update.floors import Release
from edge_agent.update.slots import Slot, Slots
from edge_agent.update.surroundings import Approved
from protos.contract.ids import digest_of
from protos.contract.manifest import Manifest
from protos.contract.twin import Challenger, DesiredTwin, Fit, ModelAssignment, ShadowReport
from tests.agent import models
from tests.agent.clocks import ManualClock
from tests.agent.models import ModelFiles

FIT = Fit(p50_ms=1.0, p95_ms=2.0, peak_bytes=1 << 20, error=0.1, agreement=1.0)


def assignment(files: ModelFiles) -> ModelAssignment:
    manifest = files.manifest
    return ModelAssignment(
        name=manifest.name,
        version=manifest.version,
        manifest_digest=digest_of(files.manifest_bytes),
        manifest_size_bytes=len(files.manifest_bytes),
    )


ONE, TWO = models.files(version=1), models.files(version=2, seed=2)


def twin(generation: int, files: ModelFiles | None, **shares: float) -> DesiredTwin:
    challenger = Challenger(model=assignment(files), **shares) if files is not None else None
    return DesiredTwin(generation=generation, challenger=challenger)


@dataclass
class Store:
    """What a fetcher brings, by model; ``faults`` are raised one by one before it does."""

    faults: deque[Exception] = field(default_factory=deque)
    fetched: list[ModelAssignment] = field(default_factory=list)
    asked: list[int] = field(default_factory=list)  # generations that were to be approved
    cuts: int = 0
    during: Callable[[], None] = lambda: None

    def approval(self, model: ModelAssignment, generation: int) -> Callable[[Hub], Approved]:
        self.asked.append(generation)
        blob = ONE.manifest.artifact
        approved = Approved(manifest=blob, model=blob, golden=blob, release=Release(series="models/t/street", number=1))
        return lambda hub: approved

    def fill(
        self, slot: Slot, model: ModelAssignment, *, approve: Callable[[Hub], Approved], called_off: Callable[[], bool]
    ) -> Approved:
        self.during()
        if called_off():
            raise LinkDown("the download was called off")
        if self.faults:
            raise self.faults.popleft()
        next(files for files in (ONE, TWO) if assignment(files) == model).write(slot.folder)
        self.fetched.append(model)
        return approve(None)  # type: ignore[arg-type]

    def cut(self) -> None:
        self.cuts += 1


@dataclass
class FakeStage:
    """Runs what it is given, and counts frames as a test says."""

    running: tuple[Challenger, ShadowReport] | None = None
    begun: list[int] = field(default_factory=list)  # versions
    verified: int = 0
    bad: Exception | None = None
    during_verify: Callable[[], None] = lambda: None
    crashes: int = 0

    def unrunnable(self, manifest: Manifest) -> str:
        return ""

    def verify(self, slot: Slot) -> Fit:
        self.verified += 1
        self.during_verify()
        if self.bad is not None:
            raise self.bad
        return FIT

    def begin(self, slot: Slot, challenger: Challenger, so_far: ShadowReport) -> None:
        self.running, self.crashes = (challenger, so_far), 0
        self.begun.append(challenger.model.version)

    def sees(self, frames: int) -> None:
        assert self.running is not None
        challenger, report = self.running
        self.running = challenger, replace(report, frames=report.frames + frames, agreed=report.agreed + frames)

    def look(self) -> Sight | None:
        if self.running is None:
            return None
        return Sight(report=self.running[1], crashes=self.crashes, last_crash="SIGSEGV")

    def end(self) -> None:
        self.running = None


class Bench:
    """One data folder; ``restart`` is what a power cut and a boot leave of everything else."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.clock, self.store = folder, ManualClock(), Store()
        self.clock.advance(1e6)
        self.changes = 0
        self.told: list[Happening] = []
        self.restart()

    def restart(self) -> None:
        self.stage, self.slots = FakeStage(), Slots(self.folder)
        self.line = ChallengerLine(
            self.slots,
            self.stage,
            self.store,  # type: ignore[arg-type]  # as much of a Fetcher as it needs
            self.store.approval,
            self.clock,
            Backoff(0.5, 60.0, lambda: 1.0),
            max_attempts=3,
            tell=self.told.append,
            changed=self._changed,
        )

    def _changed(self) -> None:
        self.changes += 1

    def settle(self, steps: int = 200) -> None:
        """Until it runs, or has nothing more to do."""
        for _ in range(steps):
            pause = self.line.step()
            if pause in (WATCH_S, IDLE_S):
                return
            self.clock.advance(pause)
        raise AssertionError(f"not settled: {self.line.report()}")

    def runs(self, generation: int, files: ModelFiles, **shares: float) -> None:
        self.line.offer(twin(generation, files, **shares))
        self.settle()
        assert self.stage.running is not None and self.stage.running[0].model == assignment(files)

    def problem(self) -> str:
        report = self.line.report()
        assert report is not None
        return report.problem

    def files(self) -> list[str]:
        return sorted(path.name for path in (self.folder / "slots" / "c").iterdir())


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path / "models")


def test_a_challenger_is_fetched_verified_and_started_in_a_slot_of_its_own(bench: Bench) -> None:
    assert bench.line.report() is None
    bench.runs(4, ONE, share=0.5)
    report = bench.line.report()
    assert report is not None and (report.model, report.fit, report.problem) == (assignment(ONE), FIT, "")
    assert bench.store.asked == [4], "the director is asked by the newest generation"
    assert bench.files() == ["golden.pb", "manifest.pb", "model.bin", "slot.json"]
    assert bench.slots.current() is None and bench.slots.records() == [], "what the device starts from is another's"
    assert bench.changes == 2, "that it is there, and what its golden run measured"


def test_it_goes_on_over_restarts_with_what_it_counted_and_needs_no_hub(bench: Bench) -> None:
    bench.runs(4, ONE)
    bench.stage.sees(100)
    bench.clock.advance(SAVE_S)
    bench.line.step()
    bench.stage.sees(7)  # lost: the power goes
    bench.restart()
    bench.store.faults.append(LinkDown("no hub"))
    bench.settle()
    report = bench.line.report()
    assert report is not None and (report.frames, report.fit) == (100, FIT)
    assert bench.stage.begun == [1] and bench.stage.verified == 0 and len(bench.store.fetched) == 1


def test_an_agent_that_stops_in_good_order_forgets_nothing(bench: Bench) -> None:
    bench.runs(4, ONE)
    bench.stage.sees(100)
    bench.line.stop()
    bench.line.run()
    assert bench.stage.running is None
    bench.restart()
    report = bench.line.report()
    assert report is not None and report.frames == 100


def test_it_ends_and_leaves_nothing_when_the_twin_names_it_no_more(bench: Bench) -> None:
    bench.runs(4, ONE)
    bench.line.offer(twin(5, None))
    bench.settle()
    assert bench.stage.running is None and bench.line.report() is None
    assert bench.files() == [] and not (bench.folder / "challenger.json").exists()
    bench.restart()
    bench.settle()
    assert bench.stage.begun == []


def test_another_one_takes_its_place_with_counters_of_its_own(bench: Bench) -> None:
    bench.runs(4, ONE)
    bench.stage.sees(50)
    bench.runs(5, TWO)
    report = bench.line.report()
    assert report is not None and (report.model.version, report.frames) == (2, 0)


def test_other_shares_go_on_with_what_was_counted(bench: Bench) -> None:
    bench.runs(4, ONE, share=0.1)
    bench.stage.sees(50)
    bench.runs(5, ONE, share=0.9)
    report = bench.line.report()
    assert report is not None and report.frames == 50
    assert bench.stage.running is not None and bench.stage.running[0].share == 0.9
    assert len(bench.store.fetched) == bench.stage.verified == 1


def test_a_twin_that_says_the_same_or_is_older_changes_nothing(bench: Bench) -> None:
    bench.runs(4, ONE)
    for generation in (4, 3, 9):
        bench.line.offer(twin(generation, ONE) if generation == 9 else twin(generation, None))
        bench.settle()
    assert bench.stage.begun == [1] and bench.stage.running is not None


@pytest.mark.parametrize("error", [LinkDown("away"), AlteredTarget("forged"), OSError("flash")])
def test_what_may_pass_is_told_and_tried_again(bench: Bench, error: Exception) -> None:
    bench.store.faults.extend([error, error])
    bench.line.offer(twin(4, ONE))
    bench.line.step()
    bench.line.step()
    assert str(error) in bench.problem()
    bench.settle()
    assert bench.stage.running is not None and bench.problem() == ""


def test_a_device_without_roots_of_trust_waits_for_some(bench: Bench) -> None:
    bench.store.faults.append(NoTrust("this device was given no roots"))
    bench.line.offer(twin(4, ONE))
    bench.line.step()
    bench.line.step()
    assert "no roots" in bench.problem()
    bench.settle()
    assert bench.stage.running is not None


@pytest.mark.parametrize("error", [Refused("no blob"), BadModel("it cannot run here")])
def test_what_will_not_pass_is_given_up_until_a_newer_twin_names_one(bench: Bench, error: Exception) -> None:
    bench.store.faults.append(error)
    bench.line.offer(twin(4, ONE))
    bench.settle()
    assert bench.problem() == str(error)
    bench.restart()
    bench.line.offer(twin(4, ONE))
    bench.settle()
    assert bench.stage.running is None and bench.problem() == str(error), "the broker's retained twin is no new one"
    bench.runs(7, ONE)
    assert bench.problem() == ""


def test_damaged_bytes_are_not_fetched_for_ever(bench: Bench) -> None:
    bench.store.faults.extend(Corrupt("chunk 1 of 3 is not what it must be") for _ in range(10))
    bench.line.offer(twin(4, ONE))
    bench.line.step()
    bench.line.step()
    assert "Corrupt" in bench.problem() and bench.told == []
    bench.restart()
    bench.settle()
    assert bench.problem() == "the download was damaged 3 times: chunk 1 of 3 is not what it must be"
    assert [(each.kind, each.detail) for each in bench.told] == [
        ("challenger.given_up", f"street:1 generation 4: {bench.problem()}")
    ]
    bench.line.offer(twin(4, ONE))
    bench.settle()
    assert len(bench.store.faults) == 7, "the broker's retained twin is no new one"
    bench.store.faults.clear()
    bench.runs(7, ONE)


def test_one_that_answers_otherwise_than_verified_is_given_up_with_what_was_measured(bench: Bench) -> None:
    off = replace(FIT, error=12.0)
    bench.stage.bad = Unfit("golden outputs are off", off)
    bench.line.offer(twin(4, ONE))
    bench.settle()
    report = bench.line.report()
    assert report is not None and (report.fit, report.problem) == (off, "golden outputs are off")
    assert bench.stage.begun == []


def test_one_that_takes_the_agent_down_is_not_started_for_ever(bench: Bench) -> None:
    class PowerCut(BaseException): ...

    def cut() -> None:
        raise PowerCut

    bench.line.offer(twin(4, ONE))
    for _ in range(3):
        bench.stage.during_verify = cut
        with pytest.raises(PowerCut):
            bench.settle()
        bench.restart()
    bench.settle()
    assert bench.problem() == "the agent did not last in 3 starts with it" and bench.stage.verified == 0


def test_starts_that_lasted_are_not_held_against_it(bench: Bench) -> None:
    bench.runs(4, ONE)
    for _ in range(10):
        bench.clock.advance(LASTED_S)
        bench.line.step()
        bench.restart()
        bench.settle()
    assert bench.stage.running is not None and bench.problem() == ""


def test_one_whose_worker_is_lost_again_and_again_is_stopped(bench: Bench) -> None:
    bench.runs(4, ONE)
    bench.stage.sees(10)
    bench.stage.crashes = MOST_CRASHES
    bench.settle()
    report = bench.line.report()
    assert bench.stage.running is None and report is not None
    assert (report.frames, report.problem) == (10, "its worker was lost 3 times: SIGSEGV")


def test_files_that_are_damaged_on_the_disk_are_fetched_again(bench: Bench) -> None:
    bench.runs(4, ONE)
    model = bench.folder / "slots" / "c" / "model.bin"
    model.write_bytes(model.read_bytes()[:-1] + b"?")
    bench.restart()
    bench.settle()
    assert len(bench.store.fetched) == 2 and bench.stage.running is not None


def test_a_file_of_state_that_makes_no_sense_counts_as_none(bench: Bench) -> None:
    bench.runs(4, ONE)
    for damage in (b"", b"{}", b'{"version": 1, "challenger": 3}', b"\xff" * 50):
        (bench.folder / "challenger.json").write_bytes(damage)
        bench.restart()
        assert bench.line.report() is None
        bench.runs(4, ONE)


def test_an_offer_cuts_the_download_of_what_is_no_more_wanted(bench: Bench) -> None:
    bench.line.offer(twin(4, ONE))
    bench.store.during = lambda: bench.line.offer(twin(5, TWO))
    assert [bench.line.step(), bench.line.step()] == [0.0, 0.0]
    bench.store.during = lambda: None
    bench.settle()
    assert bench.stage.begun == [2] and bench.store.cuts == 2


def test_an_offer_that_a_full_disk_does_not_take_is_tried_again_after_a_pause(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    bench.line.offer(twin(4, ONE))
    with monkeypatch.context() as patch:
        patch.setattr("edge_agent.update.challenger_file.write_atomic", full)
        assert all(bench.line.step() > 0 for _ in range(5)), "it must not spin, and log, for as long as the disk is full"
    bench.settle()
    assert bench.stage.begun == [ONE.manifest.version]
