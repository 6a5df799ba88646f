"""Users' streams: what is asked for, what it sees, and the windows that come out."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta

import numpy as np
import pytest

from cloud_hub.core.errors import Exhausted, Invalid, NotFound
from cloud_hub.core.model import StreamWindow, WindowFilter
from cloud_hub.core.pages import Page
from cloud_hub.services import streams as service
from cloud_hub.store import fleet as fleet_store
from cloud_hub.store import stream_windows
from cloud_hub.store.database import Database, Tx
from protos.contract.ids import DeviceId, TenantId
from protos.contract.telemetry import Batch, Lane, Window, to_ms
from tests.hub.fleet_parts import ADMIN, STRANGER
from tests.hub.fold_parts import FoldingHub
from tests.hub.telemetry_parts import CAM, START, TENANT, batch, publish

OTHER = DeviceId("cam-2")
MINUTES = """
streams:
  minutes:
    window: {kind: tumbling, size_s: 60}
    aggregates: {mean: mean(confidence), slow: max(latency_ms)}
    condition: mean < 0.5
"""
FLEET = """
streams:
  everywhere:
    across: fleet
    wait_s: 30
    window: {kind: tumbling, size_s: 60}
    aggregates: {n: count, devices: distinct(device)}
"""


@dataclass
class Heard:
    """Remembers what it is told, once the transaction is over it counts."""

    windows: list[tuple[DeviceId | None, StreamWindow]] = field(default_factory=list)
    fails: bool = False

    def on_windows(self, tx: Tx, tenant: TenantId, device: DeviceId | None, windows: Sequence[StreamWindow]) -> None:
        if self.fails:
            raise RuntimeError("not now")
        self.windows += [(device, window) for window in windows]


@pytest.fixture
def hub(db: Database) -> FoldingHub:
    publish(db, 1)
    made = FoldingHub(db)
    made.clock.advance(60)
    return made


def minute(number: int, confidence: float = 0.95, readings: int = 60, **options: object) -> Batch:
    at = START + timedelta(minutes=number)
    return batch(60 * number, readings, at=at, step_ms=1000, confidence=[confidence] * readings, **options)  # type: ignore[arg-type]


def test_windows_of_a_device_say_what_was_asked_and_whether_the_condition_held(hub: FoldingHub) -> None:
    hub.put(MINUTES)
    hub.tick(minute(0), minute(1, 0.25), minute(2))
    first, second = hub.windows()
    assert (first.stream, first.device, first.origin, first.key) == ("minutes", CAM, "hub", "")
    assert (first.start, first.end, first.readings) == (START, START + timedelta(minutes=1), 60)
    assert first.values == {"mean": pytest.approx(0.95, abs=1e-6), "slow": 2.0}
    assert (first.holds, second.holds) == (False, True)
    assert second.values["mean"] == 0.25
    assert first.complete and second.complete


def test_windows_are_grouped_by_fields_and_count_what_a_spec_lets_in(hub: FoldingHub) -> None:
    hub.put(
        "streams: {rare: {window: {kind: tumbling, size_s: 60}, aggregates: {n: count, labels: counts(label)},"
        " by: [label_name, version], where: label < 2}}"
    )
    hub.tick(minute(0))
    hub.idle()
    assert [(window.key, window.readings) for window in hub.windows()] == [
        ("label_name=0,version=1", 6),
        ("label_name=1,version=1", 6),
    ]
    assert [window.counts["labels"] for window in hub.windows()] == [(6,), (0, 6)]


def test_a_stream_sees_what_is_folded_after_it_was_put_and_says_which_window_that_cut(hub: FoldingHub) -> None:
    hub.tick(minute(0, readings=30))
    hub.put(MINUTES)
    hub.tick(batch(30, 30, at=START + timedelta(seconds=30), step_ms=1000), minute(1))
    hub.idle()
    assert [(window.readings, window.complete) for window in hub.windows()] == [(30, False), (60, True)]


def test_another_condition_keeps_open_windows_and_another_window_drops_them(hub: FoldingHub) -> None:
    hub.put(MINUTES)
    hub.tick(minute(0, readings=30))
    hub.put(MINUTES.replace("mean < 0.5", "mean > 0.5"))
    hub.tick(batch(30, 30, at=START + timedelta(seconds=30), step_ms=1000))
    assert hub.states("minutes") == 1
    hub.put(MINUTES.replace("size_s: 60", "size_s: 30"))
    assert hub.states("minutes") == 0
    hub.tick(minute(1))
    hub.idle()
    assert [window.end - window.start for window in hub.windows()] == [timedelta(seconds=30)] * 2
    hub.put(MINUTES)
    hub.clock.advance(1200)
    hub.tick(batch(120, 60, at=START + timedelta(minutes=20), confidence=[0.95] * 60))
    hub.put(MINUTES.replace("mean < 0.5", "mean > 0.9"))
    hub.idle(2000)
    assert hub.windows()[-1].holds is True


def test_a_deleted_stream_leaves_its_closed_windows(hub: FoldingHub) -> None:
    hub.put(MINUTES)
    hub.tick(minute(0), minute(1))
    assert hub.streams.delete(ADMIN, "minutes").name == "minutes"
    assert hub.states("minutes") == 0
    hub.tick(minute(2))
    hub.idle()
    assert [window.start for window in hub.windows()] == [START]
    with pytest.raises(NotFound, match="minutes"):
        hub.streams.delete(ADMIN, "minutes")


def test_a_selector_lets_in_devices_with_its_labels_as_they_are_now(hub: FoldingHub, db: Database) -> None:
    with db.write() as tx:
        fleet_store.add(tx, CAM, TENANT, "camera-x86", {"site": "north"}, START)
        fleet_store.add(tx, OTHER, TENANT, "camera-x86", {"site": "south"}, START)
    hub.put(MINUTES + "    selector: {site: north}\n")
    hub.land(minute(0), device=OTHER)
    hub.tick(minute(0))
    with db.write() as tx:
        fleet_store.put_labels(tx, OTHER, {"site": "north"})
    hub.tick(minute(1), device=OTHER)
    hub.idle()
    assert sorted((window.device, window.start) for window in hub.windows()) == [
        (CAM, START),
        (OTHER, START + timedelta(minutes=1)),
    ]


def test_windows_that_are_not_to_be_stored_are_heard_all_the_same(db: Database) -> None:
    heard = Heard()
    hub = FoldingHub(db, listeners=[heard])
    hub.put(MINUTES + "    send: holding\n")
    hub.put(MINUTES.replace("minutes:", "quiet:") + "    send: none\n")
    hub.clock.advance(300)
    hub.tick(minute(0), minute(1, 0.25), minute(2))
    hub.idle()
    assert [(window.stream, window.holds) for window in hub.windows()] == [("minutes", True)]
    assert sorted((window.stream, window.holds) for _, window in heard.windows) == [
        *[("minutes", False)] * 2, ("minutes", True), *[("quiet", False)] * 2, ("quiet", True),
    ]  # fmt: skip


def test_windows_that_devices_made_are_stored_and_heard_once(db: Database) -> None:
    heard = Heard()
    hub = FoldingHub(db, listeners=[heard])
    own = Window(
        sequence=0, stream="own", start=START, end=START + timedelta(seconds=9), readings=7, values=(("mean", 0.5),),
        key="label=3", complete=False,
    )  # fmt: skip
    sent = Batch(epoch="e1", lane=Lane.NORMAL, first_sequence=0, last_sequence=0, windows=(own,))
    hub.tick(sent)
    hub.tick(sent)
    [window] = hub.windows()
    assert (window.stream, window.device, window.origin, window.key) == ("own", CAM, "device", "label=3")
    assert (window.readings, window.values, window.complete, window.holds) == (7, {"mean": 0.5}, False, None)
    assert heard.windows == [(CAM, window)]


@pytest.mark.parametrize("order", [(True, False), (False, True), (True, True, False)])
@pytest.mark.parametrize("apart", [True, False])
def test_of_a_window_that_a_killed_device_made_twice_the_whole_one_stays(
    db: Database, order: tuple[bool, ...], apart: bool
) -> None:
    hub = FoldingHub(db)

    def made(sequence: int, complete: bool) -> Window:
        return Window(
            sequence=sequence, stream="own", start=START, end=START + timedelta(seconds=9), readings=7 if complete else 3,
            values=(("mean", 0.5),), key="label=3", complete=complete,
        )  # fmt: skip

    for epoch, complete in enumerate(order):
        one = (made(0, complete),)
        hub.land(Batch(epoch=f"e{epoch}", lane=Lane.NORMAL, first_sequence=0, last_sequence=0, windows=one))
        if apart:
            hub.tick()
    hub.tick()
    assert [(window.complete, window.readings) for window in hub.windows()] == [(True, 7)] * order.count(True)


def test_what_a_listener_refuses_is_told_again_and_stored_once(db: Database) -> None:
    heard = Heard(fails=True)
    hub = FoldingHub(db, listeners=[heard])
    hub.put(MINUTES)
    hub.clock.advance(120)
    with pytest.raises(RuntimeError, match="not now"):
        hub.tick(minute(0), minute(1))
    assert hub.windows() == []
    heard.fails = False
    hub.tick()
    assert [window for _, window in heard.windows] == hub.windows()
    assert len(heard.windows) == 1


def test_windows_of_the_fleet_close_when_every_device_has_passed_them(hub: FoldingHub) -> None:
    hub.put(FLEET)
    hub.land(minute(0), device=OTHER)
    hub.tick(minute(0), minute(1), minute(2))
    assert hub.windows() == []
    hub.tick(minute(1), device=OTHER)
    [window] = hub.windows()
    assert (window.device, window.start, window.readings) == (None, START, 120)
    assert window.values == {"n": 120.0, "devices": 2.0}


def test_windows_of_the_fleet_wait_so_long_for_a_device_and_its_readings_are_late_then(hub: FoldingHub) -> None:
    hub.put(FLEET)
    hub.land(minute(0), device=OTHER)
    hub.tick(minute(0), minute(1))
    hub.clock.advance(31)
    hub.tick(minute(2))
    assert [window.readings for window in hub.windows()] == [120, 60]
    hub.clock.advance(60)
    hub.tick(minute(1), device=OTHER)
    hub.land(minute(2), minute(3), device=OTHER)
    hub.tick(minute(3))
    assert [window.readings for window in hub.windows()] == [120, 60, 120]


def test_windows_of_a_silent_fleet_close_by_the_wall_clock(hub: FoldingHub) -> None:
    hub.put(FLEET)
    hub.tick(minute(0))
    hub.clock.advance(29)
    hub.tick()
    assert hub.windows() == []
    hub.idle(2)
    assert [window.readings for window in hub.windows()] == [60]


def test_a_device_that_has_batches_to_be_folded_is_waited_for(hub: FoldingHub, monkeypatch: pytest.MonkeyPatch) -> None:
    from cloud_hub.services import folding

    hub.put(FLEET)
    hub.land(minute(0), minute(1), minute(2))
    hub.land(minute(0), minute(1), device=OTHER)
    monkeypatch.setattr(folding, "PAGE_BATCHES", 1)
    monkeypatch.setattr(folding, "TICK_PAGES", 1)
    for _ in range(10):
        hub.tick()
    assert [window.readings for window in hub.windows()] == [120]


@pytest.mark.parametrize(
    ("yaml", "told"),
    [
        ("", "must map 'streams'"),
        ("streams: {}", "must map 'streams'"),
        ("streams: {a: 7}", "stream 'a' must be a mapping"),
        ("{", "not YAML"),
        (MINUTES.replace("mean(confidence)", "mean(confidense)"), "did you mean 'confidence'"),
        (MINUTES.replace("tumbling", "tumbeling"), "did you mean 'tumbling'"),
        (FLEET.replace("across: fleet", "across: planet"), "'across' must be device or fleet"),
        (FLEET.replace("wait_s: 30", "wait_s: -1"), "'wait_s' must be"),
        (FLEET.replace("across: fleet", "across: device"), "'wait_s' needs 'across: fleet'"),
        (FLEET.replace("kind: tumbling, size_s: 60", "kind: session, gap_s: 5"), "takes tumbling and hopping windows"),
        (MINUTES + "    selector: {BAD KEY: x}\n", "stream 'minutes': label key"),
        ("streams: {}" + " " * 300_000, "bytes of YAML"),
    ],
)
def test_a_file_that_cannot_be_used_changes_nothing_and_says_why(hub: FoldingHub, yaml: str, told: str) -> None:
    with pytest.raises(Invalid, match=told):
        hub.put(yaml)
    assert hub.streams.list(ADMIN) == []


def test_a_tenant_has_so_many_streams(hub: FoldingHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "MAX_STREAMS", 1)
    hub.put(MINUTES)
    hub.put(MINUTES)
    with pytest.raises(Exhausted):
        hub.put(FLEET)


def test_tenants_see_their_own_streams_and_windows(hub: FoldingHub) -> None:
    hub.put(MINUTES)
    hub.streams.put(STRANGER, FLEET)
    hub.land(minute(0), device=OTHER, tenant=STRANGER.tenant)
    hub.tick(minute(0))
    hub.idle()
    assert [stream.name for stream in hub.streams.list(ADMIN)] == ["minutes"]
    assert {window.stream for window in hub.windows()} == {"minutes"}
    theirs, _ = hub.streams.windows(STRANGER, WindowFilter())
    assert [(window.stream, window.readings) for _, window in theirs] == [("everywhere", 60)]
    with pytest.raises(NotFound):
        hub.streams.get(STRANGER, "minutes")


def test_windows_are_found_by_stream_device_and_time_in_pages(hub: FoldingHub) -> None:
    hub.put(MINUTES)
    hub.put(FLEET)
    hub.clock.advance(600)
    hub.land(*(minute(number) for number in range(6)), device=OTHER)
    hub.tick(*(minute(number) for number in range(6)))
    hub.idle()
    since, until = START + timedelta(minutes=2), START + timedelta(minutes=4)
    wanted = WindowFilter(stream="minutes", device=CAM, since=since, until=until)
    found, _ = hub.streams.windows(ADMIN, wanted)
    assert [window.start for _, window in found] == [START + timedelta(minutes=3), since]
    first, token = hub.streams.windows(ADMIN, WindowFilter(stream="minutes"), Page(size=7))
    rest, end = hub.streams.windows(ADMIN, WindowFilter(stream="minutes"), Page(size=7, token=token))
    assert (len(first), len(rest), end) == (7, 5, "")
    numbers = [number for number, _ in reversed([*first, *rest])]
    assert [number for number, _ in hub.streams.closed_after(ADMIN, WindowFilter(stream="minutes"), 0)] == numbers
    assert len(hub.streams.closed_after(ADMIN, WindowFilter(), numbers[-1])) == hub.streams.last_number() - numbers[-1]


def test_old_windows_go_a_few_at_a_time(hub: FoldingHub, db: Database) -> None:
    hub.put(MINUTES)
    hub.clock.advance(600)
    hub.tick(*(minute(number) for number in range(6)))
    told = hub.clock.now()
    with db.write() as tx:
        assert stream_windows.forget(tx, to_ms(told), 100) == 0, "age counts from when they were told"
        assert stream_windows.forget(tx, to_ms(told) + 1, 2) == 2
        assert stream_windows.forget(tx, to_ms(told) + 1, 100) == 2
    assert len(hub.windows()) == 1, "the newest stays"


def test_a_device_that_comes_back_after_an_outage_is_not_late(hub: FoldingHub) -> None:
    hub.put(MINUTES)
    hub.tick(minute(0))
    hub.idle(7200)
    assert len(hub.windows()) == 1
    hub.tick(*(minute(number) for number in range(1, 60)))
    hub.idle()
    assert [window.readings for window in hub.windows()] == [60] * 60


def test_states_of_a_spec_that_is_no_more_are_dropped_when_their_time_comes(hub: FoldingHub, db: Database) -> None:
    hub.put(MINUTES)
    hub.tick(minute(0))
    with db.write() as tx:
        tx.execute(service.stream_specs.stream_specs.delete())  # as if another hub's delete had come between two reads
    hub.idle()
    assert hub.states("minutes") == 0
    assert hub.windows() == []


def test_the_same_window_of_two_devices_is_two_windows(hub: FoldingHub) -> None:
    hub.put(MINUTES)
    hub.land(replace(minute(0), epoch="e9"), device=OTHER)
    hub.tick(minute(0))
    hub.idle()
    assert {(window.device, window.readings) for window in hub.windows()} == {(CAM, 60), (OTHER, 60)}


def test_a_stream_of_values_leaves_out_readings_without_one(hub: FoldingHub) -> None:
    hub.put("streams: {told: {window: {kind: tumbling, size_s: 60}, aggregates: {mean: mean(value), n: count}}}")
    plain, valued = minute(0), minute(1)
    told = np.where(np.arange(60) % 2, np.nan, 3.0).astype("<f4")
    hub.tick(plain, replace(valued, inferences=replace(valued.inferences, value=told)), minute(2))
    first, second = hub.windows()
    assert dict(first.values) == {"n": 60.0}
    assert dict(second.values) == {"mean": 3.0, "n": 60.0}
