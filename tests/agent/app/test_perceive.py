import json
from random import Random

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_agent.app import keep
from edge_agent.app.keep import Keeper
from edge_agent.app.latest import latest
from edge_agent.app.meter import RING, Meter
from edge_agent.app.perceive import FAILING, Active, Perceiver
from edge_agent.core.budget import Budget
from edge_agent.core.config import CaptureConfig, SpoolConfig
from edge_agent.core.errors import InferenceError
from edge_agent.core.model import Capture, Observation
from edge_agent.decide.policy import Policy
from edge_agent.infer.model import Model
from edge_agent.infer.runtimes import load
from protos.contract.ids import digest_of
from protos.contract.manifest import Format
from protos.contract.telemetry import Lane
from tests.agent import models
from tests.agent.clocks import ManualClock
from tests.agent.fakes import Answer, FakeCaptures, FakeRuntime
from tests.agent.fakes_spool import MemorySpool
from tests.agent.kinds import KINDS

CLOCK = ManualClock()


def frame(value: int = 100) -> Observation:
    pixels = np.full((models.SIDE, models.SIDE, 3), value, np.uint8)
    return Observation(content=pixels, captured_at=CLOCK.now(), source="cam", name="a.png", key=7)


def active(answer: Answer | None = None, *, name: bytes = b"one", control_rate: float = 0.0) -> Active:
    manifest = models.files().manifest
    digest = digest_of(name)
    policy = Policy(manifest.output, CaptureConfig(control_rate=control_rate), Random(1), Budget(1000, CLOCK), model=digest)
    runtime = FakeRuntime(answer=answer or (lambda tensor: np.array([9, 0, 0, 0], np.float32)))
    return Active(digest=digest, loaded=Model(manifest, runtime), policy=policy, meter=Meter())


@pytest.fixture
def spool() -> MemorySpool:
    return MemorySpool(SpoolConfig(batch_records=1), CLOCK)


@pytest.fixture
def captures() -> FakeCaptures:
    return FakeCaptures()


@pytest.fixture
def keeper(spool: MemorySpool, captures: FakeCaptures) -> Keeper:
    return Keeper(captures, spool, Budget(1000, CLOCK))


@pytest.fixture
def perceiver(spool: MemorySpool, keeper: Keeper) -> Perceiver:
    return Perceiver(spool, keeper, CLOCK)


def told(spool: MemorySpool) -> list[bool]:
    """Of every record there is: whether it says that its frame was kept."""
    spool.flush()
    batches = spool.batches(after=None, lane=Lane.NORMAL, limit=1000)
    return [row.captured for batch, _ in batches for row in batch.inferences.rows()]


def finish(keeper: Keeper) -> None:
    keeper.stop()
    keeper.run()


def test_without_a_model_frames_are_counted_and_leave_no_record(perceiver: Perceiver, spool: MemorySpool) -> None:
    assert perceiver.see(frame()) is None
    assert (perceiver.skipped_frames, spool.stats().records) == (1, 0)


def test_a_frame_becomes_one_record_of_the_model_that_saw_it(perceiver: Perceiver, spool: MemorySpool) -> None:
    perceiver.swap(active())
    outcome = perceiver.see(frame())
    assert outcome is not None
    assert (outcome.label, outcome.model, outcome.frame_key) == (0, digest_of(b"one"), 7)
    assert spool.stats().records == 1
    assert perceiver.inferred.is_set()
    assert perceiver.busy_s() == 0


def test_after_a_swap_the_next_frame_is_seen_by_the_new_model_with_counters_of_its_own(perceiver: Perceiver) -> None:
    first, second = active(), active(name=b"two")
    perceiver.swap(first)
    perceiver.see(frame())
    perceiver.swap(second)
    outcome = perceiver.see(frame())
    assert outcome is not None and outcome.model == digest_of(b"two")
    assert (first.meter.inferences, second.meter.inferences, perceiver.total.inferences) == (1, 1, 2)


def test_a_swap_while_a_frame_is_looked_at_does_not_mix_the_two(perceiver: Perceiver) -> None:
    second = active(name=b"two")

    def swap_and_answer(tensor: NDArray[np.float32]) -> NDArray[np.float32]:
        perceiver.swap(second)
        return np.array([0, 9, 0, 0], np.float32)

    perceiver.swap(active(swap_and_answer))
    outcome = perceiver.see(frame())
    assert outcome is not None and (outcome.model, outcome.label) == (digest_of(b"one"), 1)
    assert second.meter.inferences == 0


def test_a_frame_whose_model_ended_because_another_took_its_place_is_seen_by_that_one(perceiver: Perceiver) -> None:
    second = active(name=b"two")

    def swap_and_fail(tensor: NDArray[np.float32]) -> NDArray[np.float32]:
        perceiver.swap(second)
        raise InferenceError("the worker was closed")

    first = active(swap_and_fail)
    perceiver.swap(first)
    outcome = perceiver.see(frame())
    assert outcome is not None and outcome.model == digest_of(b"two")
    assert (first.meter.errors, perceiver.total.errors, perceiver.busy_s()) == (0, 0, 0)


def test_a_frame_that_cannot_be_used_is_counted_and_the_next_one_is_seen(perceiver: Perceiver) -> None:
    perceiver.swap(active())
    bad = Observation(content=np.zeros((4, 4), np.uint8), captured_at=CLOCK.now(), source="cam")
    assert perceiver.see(bad) is None
    assert perceiver.see(frame()) is not None
    assert (perceiver.bad_frames, perceiver.total.errors) == (1, 0)


def test_inferences_that_keep_failing_are_told_once_per_streak(perceiver: Perceiver, spool: MemorySpool) -> None:
    healthy = False

    def answer(tensor: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.array([9, 0, 0, 0], np.float32) if healthy else np.full(4, np.nan, np.float32)

    perceiver.swap(active(answer))
    for _ in range(3 * FAILING):
        assert perceiver.see(frame()) is None
    healthy = True
    assert perceiver.see(frame()) is not None
    healthy = False
    for _ in range(FAILING):
        perceiver.see(frame())
    batches = spool.batches(after=None, lane=Lane.CRITICAL, limit=10)
    assert [event.kind for batch, _ in batches for event in batch.events] == ["inference.failing"] * 2
    assert perceiver.total.errors == 4 * FAILING
    assert "NaN" in perceiver.total.last_error


def test_a_frame_worth_keeping_is_kept_and_its_record_says_so(
    perceiver: Perceiver, keeper: Keeper, captures: FakeCaptures, spool: MemorySpool
) -> None:
    perceiver.swap(active(control_rate=1.0))
    outcome = perceiver.see(frame())
    assert outcome is not None and outcome.captured
    assert told(spool) == [], "a record before it is known whether the frame was kept"
    finish(keeper)
    assert told(spool) == [True]
    assert [capture.reason for capture in captures.pending(9)] == ["control"]


def test_a_frame_that_found_no_room_is_not_said_to_be_kept(spool: MemorySpool) -> None:
    keeper = Keeper(FakeCaptures(max_bytes=1), spool, Budget(1000, CLOCK))
    perceiver = Perceiver(spool, keeper, CLOCK)
    perceiver.swap(active(control_rate=1.0))
    perceiver.see(frame())
    finish(keeper)
    assert told(spool) == [False]


def test_where_the_disk_is_slow_inference_goes_on_and_what_was_not_kept_is_counted(
    perceiver: Perceiver, keeper: Keeper, spool: MemorySpool
) -> None:
    perceiver.swap(active(control_rate=1.0))
    outcomes = [perceiver.see(frame(value)) for value in range(keep.WAITING + 2)]  # nobody writes
    assert [outcome is not None and outcome.captured for outcome in outcomes] == [True] * keep.WAITING + [False] * 2
    assert (keeper.missed, told(spool)) == (2, [False] * 2)
    finish(keeper)
    assert sorted(told(spool)) == [False] * 2 + [True] * keep.WAITING


def test_a_frame_that_cannot_be_kept_still_leaves_its_record(
    perceiver: Perceiver, keeper: Keeper, captures: FakeCaptures, spool: MemorySpool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(capture: Capture) -> bool:
        raise MemoryError

    monkeypatch.setattr(captures, "add", fail)
    perceiver.swap(active(control_rate=1.0))
    perceiver.see(frame())
    with pytest.raises(MemoryError):
        finish(keeper)
    assert told(spool) == [False]


def test_latencies_are_of_the_last_ones_only() -> None:
    meter = Meter()
    assert meter.latency_ms() == (0.0, 0.0)
    for _ in range(RING):
        meter.succeeded(100.0)
    for _ in range(RING):
        meter.succeeded(1.0)
    assert meter.latency_ms() == (1.0, 1.0)
    assert meter.vitals().inferences == 2 * RING


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_said_last_is_there_whole(perceiver: Perceiver, kind: str) -> None:
    assert latest(perceiver.last) is None
    one = KINDS[kind]
    files = one.files()
    policy = Policy(one.output, CaptureConfig(control_rate=0.0), Random(1), Budget(0, CLOCK), model=digest_of(b"m"))
    model = Model(files.manifest, load(Format.ONNX, files.model))
    perceiver.swap(Active(digest=digest_of(b"m"), loaded=model, policy=policy, meter=Meter()))
    outcome = perceiver.see(Observation(content=one.contents[0], captured_at=CLOCK.now(), source="s", name="f#1"))
    told = latest(perceiver.last)
    assert outcome is not None and told is not None
    assert told == json.loads(json.dumps(told, allow_nan=False))
    assert (told["label"], told["value"], told["name"]) == (outcome.label_name, outcome.value, "f#1")
    assert ("ranked" in told, "values" in told) == (kind == "rankings", kind == "forecasts")
    if kind == "forecasts":
        assert list(told["values"]) == ["speed+1", "speed+2"] and told["values"]["speed+2"] == told["value"]
    assert len(told.get("boxes", ())) == (told["value"] if kind == "detections" else 0)


def test_a_capture_that_the_hub_would_not_take_costs_the_frame_and_not_the_record(
    perceiver: Perceiver, keeper: Keeper, spool: MemorySpool, captures: FakeCaptures
) -> None:
    one = KINDS["rows"]
    files = one.files()
    policy = Policy(one.output, CaptureConfig(control_rate=1.0), Random(1), Budget(9, CLOCK), model=digest_of(b"m"))
    model = Model(files.manifest, load(Format.ONNX, files.model))
    perceiver.swap(Active(digest=digest_of(b"m"), loaded=model, policy=policy, meter=Meter()))
    for content in ({"age": 1.0, "note": "x" * (5 << 20)}, one.contents[0]):
        perceiver.see(Observation(content=content, captured_at=CLOCK.now(), source="s"))
    finish(keeper)
    assert sorted(told(spool)) == [False, True]
    assert captures.count() == 1
