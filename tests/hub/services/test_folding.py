"""One result, whatever the order, however often, in however many processes, and wherever they are killed."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from cloud_hub.services import folding
from cloud_hub.services.folding import Fold
from cloud_hub.store import landing, stream_states, stream_windows
from cloud_hub.store.database import Database
from protos.contract.ids import DeviceId
from protos.contract.telemetry import Batch, InferenceTable, Lane, Window, to_ms
from tests.hub.fold_parts import FoldingHub
from tests.hub.telemetry_parts import CAM, START, batch, clean, dark, publish

DEVICES = [DeviceId(f"cam-{number}") for number in range(3)]
STREAMS = """
streams:
  minutes:
    window: {kind: tumbling, size_s: 60}
    aggregates: {n: count, mean: mean(confidence), p90: p90(confidence), labels: counts(label), last: last(confidence)}
    condition: mean < 0.7
  hops:
    window: {kind: hopping, size_s: 60, hop_s: 20, lateness_s: 3}
    aggregates: {n: count, worst: min(confidence), bins: "histogram(confidence, 0, 1, 5)"}
    by: [label]
    where: confidence < 0.95
  visits:
    window: {kind: session, gap_s: 8, lateness_s: 2}
    aggregates: {n: count, sum: sum(confidence)}
  everywhere:
    across: fleet
    window: {kind: tumbling, size_s: 30}
    aggregates: {n: count, mean: mean(confidence), devices: distinct(device)}
"""


class PowerCut(BaseException):
    """Nothing catches it."""


def sent_by(rng: random.Random, seed: int) -> list[Batch]:
    """About four minutes of one device: pauses, readings out of order, late ones, ones from the future, and a new model."""
    numbers = np.random.default_rng(seed)
    made: list[Batch] = []
    at_s, sequence = 0.0, 0
    for number in range(24):
        count = rng.randint(1, 30)
        labels, confidence = (dark if 6 <= number < 16 else clean)(numbers, count)
        one = batch(sequence, count, labels=labels, confidence=confidence, version=1 if number < 18 else 2)
        offsets = at_s + np.sort(numbers.random(count)) * 10
        jitter = numbers.normal(0, 1.0, count)
        jitter[numbers.random(count) < 0.03] -= 40  # too late for most streams
        jitter[numbers.random(count) < 0.02] += 86_400  # a broken clock
        table = replace(one.inferences, captured_at_ms=one.inferences.captured_at_ms[0] * 0 + ms(offsets + jitter))
        made.append(replace(one, inferences=table))
        sequence += count
        at_s += 10 + (rng.random() < 0.15) * 12
        if rng.random() < 0.2:
            made.append(replace(told(sequence, at_s), epoch="e1"))
            sequence += 1
    return made


def ms(seconds: np.ndarray) -> np.ndarray:
    start = int(START.timestamp() * 1000)
    return np.maximum(start + np.round(seconds * 1000).astype("<i8"), 0)


def told(sequence: int, at_s: float) -> Batch:
    """A window that the device made itself."""
    start = START + timedelta(seconds=at_s)
    window = Window(
        sequence=sequence,
        stream="own",
        start=start,
        end=start + timedelta(seconds=5),
        readings=3,
        values=(("n", 3.0),),
        key="label=1",
    )
    return Batch(
        epoch="e1",
        lane=Lane.NORMAL,
        first_sequence=sequence,
        last_sequence=sequence,
        inferences=InferenceTable.of(()),
        windows=(window,),
    )


def hub(db: Database) -> FoldingHub:
    publish(db, 1)
    publish(db, 2)
    made = FoldingHub(db)
    made.clock.advance(600)  # after all that is sent, so that nothing honest is from the future
    made.put(STREAMS)
    return made


@contextmanager
def power_cut(monkeypatch: pytest.MonkeyPatch, where: str) -> Iterator[None]:
    """The next fold ends there."""
    places = {
        "before the transaction": (stream_states, "take_turn"),
        "within it": (stream_windows, "add"),
        "at its end": (landing, "fold_through"),
        "in the middle of folding": (folding, "unfold"),
    }
    with monkeypatch.context() as patch:
        patch.setattr(*places[where], _die)
        yield


def _die(*_: object, **__: object) -> None:
    raise PowerCut


@pytest.mark.parametrize("seed", range(6))
def test_windows_are_those_of_an_ordered_run_to_the_last_bit(
    db: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    rng = random.Random(seed)
    sent = {device: sent_by(rng, 100 * seed + number) for number, device in enumerate(DEVICES)}
    plain = Database(f"sqlite:///{tmp_path / 'ordered.db'}")
    plain.migrate()
    ordered = hub(plain)
    for device, batches in sent.items():
        ordered.land(*batches, device=device)
    ordered.tick()
    ordered.idle()
    wild = hub(db)
    deliver_wildly(wild, sent, rng, monkeypatch)
    wild.idle()
    expected, found = ordered.outcome(), wild.outcome()
    plain.close()
    for table in expected:
        assert found[table] == expected[table], table
    assert len(expected["streams"]) > 150
    assert len(expected["episodes"]) > 0
    assert sum(row[7] for row in expected["devices"]) > 0  # some were late


def deliver_wildly(
    wild: FoldingHub, sent: dict[DeviceId, list[Batch]], rng: random.Random, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through three replicas in any order, some twice, while two processes fold and are killed."""
    replicas = [FoldingHub(wild.db, wild.clock) for _ in range(3)]
    folds: list[Fold] = [wild.fold, replicas[0].fold]
    for device in DEVICES:  # the fleet's time is that of the devices which the hub has heard of
        wild.land(sent[device][0], device=device)
    waiting = [(device, one) for device, batches in sent.items() for one in batches]
    rng.shuffle(waiting)
    waiting += rng.sample(waiting, len(waiting) // 4)  # again
    while waiting:
        for _ in range(rng.randint(1, 6)):
            if waiting:
                device, one = waiting.pop()
                rng.choice(replicas).land(one, device=device)
        which = rng.randrange(2)
        monkeypatch.setattr(folding, "PAGE_BATCHES", rng.choice((1, 2, 5, 50)))
        chance = rng.random()
        if chance < 0.35:
            where = rng.choice(("before the transaction", "within it", "at its end", "in the middle of folding"))
            with power_cut(monkeypatch, where), pytest.raises(PowerCut):
                folds[which].tick()
                raise PowerCut  # there was nothing to fold
            if rng.random() < 0.7:
                folds[which] = wild.process()  # restarted; else the same process tries again
        elif chance < 0.9:
            folds[which].tick()
    monkeypatch.setattr(folding, "PAGE_BATCHES", 500)
    for fold in folds:
        fold.tick()
    wild.fold = folds[0]


def test_what_is_remembered_between_pages_is_never_older_than_the_database(db: Database) -> None:
    one = hub(db)
    other = one.process()
    for number in range(8):
        one.land(batch(number * 10, 10, at=START + timedelta(seconds=12 * number), step_ms=1000))
        (one.fold, other)[number % 2].tick()
    one.idle()
    assert [(window.readings, window.complete) for window in one.windows("minutes")] == [(50, True), (30, True)]


def test_of_two_processes_that_read_the_same_page_one_folds_it(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    one = hub(db)
    other = one.process()
    one.land(batch(0, 30), batch(30, 10, at=START + timedelta(seconds=70)))
    unfold = folding.unfold

    def and_then_the_other(*args: object) -> object:
        page = unfold(*args)  # type: ignore[arg-type]
        monkeypatch.setattr(folding, "unfold", unfold)
        other.tick()
        return page

    monkeypatch.setattr(folding, "unfold", and_then_the_other)
    one.tick()
    one.idle()
    assert [window.readings for window in one.windows("minutes")] == [30, 10]


def test_a_batch_that_cannot_be_read_any_more_is_passed_over(db: Database, caplog: pytest.LogCaptureFixture) -> None:
    one = hub(db)
    one.land(batch(0, 10), batch(10, 10), batch(20, 10))
    with db.write() as tx:
        tx.execute(landing.landing.update().where(landing.landing.c.first_sequence == 10).values(payload=b"\xffrotten"))
    one.tick()
    one.idle()
    assert [window.readings for window in one.windows("minutes")] == [20]
    assert "landed batch cannot be read" in caplog.text


def test_idle_windows_close_while_others_have_a_backlog(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folding, "PAGE_BATCHES", 1)
    monkeypatch.setattr(folding, "TICK_PAGES", 1)
    one = hub(db)
    one.tick(batch(0, 10))
    one.clock.advance(1000)
    busy = DeviceId("busy")
    one.land(*(batch(10 * number, 10) for number in range(5)), device=busy)
    one.tick()
    assert [window.device for window in one.windows("minutes")] == [CAM]
    with db.read() as tx:
        assert len(landing.unfolded(tx, 10)) == 4
    assert len(one.windows("minutes")) == 1


def test_windows_of_a_silent_device_wait_for_the_holes_in_its_stream(db: Database) -> None:
    one = hub(db)
    one.tick(batch(0, 10), batch(20, 10))
    one.clock.advance(1000)
    one.tick()
    assert one.windows("minutes") == []
    one.tick(batch(10, 10))
    one.idle()
    assert [window.readings for window in one.windows("minutes")] == [30]


def test_they_do_not_wait_for_ever(db: Database) -> None:
    one = hub(db)
    one.tick(batch(0, 10), batch(20, 10))
    one.idle(folding.HOLE_MS / 1000 + 1)
    assert [window.readings for window in one.windows("minutes")] == [10]


def test_lag_says_what_waits_and_since_when(db: Database) -> None:
    one = hub(db)

    def lag() -> tuple[int, int | None]:
        with db.read() as tx:
            return stream_states.lag(tx)

    assert lag() == (0, None)
    since_ms = to_ms(one.clock.now())
    one.land(batch(0, 10), batch(10, 10), batch(30, 10))
    one.clock.advance(7)
    one.land(batch(0, 10), device=DEVICES[2])
    assert lag() == (30, since_ms)
    one.tick()
    assert lag() == (0, None)


def test_streams_of_one_device_that_take_turns_do_not_make_each_other_late(db: Database) -> None:
    one = hub(db)
    for number in range(6):
        at = START + timedelta(seconds=10 * number)
        one.land(batch(10 * number, 10, at=at, step_ms=1000))
        one.land(batch(10 * number, 10, at=at, step_ms=1000, lane=Lane.CRITICAL))
        one.clock.advance(10)
    one.tick()
    one.idle()
    assert [window.readings for window in one.windows("minutes")] == [120]
