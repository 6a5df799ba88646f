"""From landed batches to episodes, over a real database and across restarts."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sqlalchemy import select

from cloud_hub.core.config import DriftConfig
from cloud_hub.core.errors import NotReady
from cloud_hub.core.model import DriftEpisode, Principal
from cloud_hub.services import folding
from cloud_hub.services.drift import DriftService
from cloud_hub.services.fleet import FleetService
from cloud_hub.services.folding import Fold
from cloud_hub.services.telemetry import TelemetryService
from cloud_hub.store import drift as store
from cloud_hub.store import fleet as fleet_store
from cloud_hub.store.database import Database
from protos.contract import codec
from protos.contract.ids import DeviceId, ModelName, TenantId
from protos.contract.telemetry import Batch
from tests.hub.fleet_parts import ADMIN, STRANGER, Clock
from tests.hub.telemetry_parts import CAM, START, TENANT, batch, clean, dark, publish

WINDOW = timedelta(seconds=60)
READINGS = 60  # one a second


@dataclass
class Site:
    """A camera that sends a window's readings at a time, and the hub that folds them."""

    url: str
    clock: Clock = field(default_factory=Clock)
    asked: list[DriftEpisode] = field(default_factory=list)
    answer: Callable[[DriftEpisode], str] = lambda episode: "job-1"
    sequence: int = 0
    window: int = 0
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(11))

    def __post_init__(self) -> None:
        self.start()
        publish(self.db, 1)

    def start(self) -> None:
        self.db = Database(self.url)
        self.telemetry = TelemetryService(self.db, self.clock)
        self.drift = DriftService(self.db, DriftConfig(), self._ask, self.clock)
        self.fold = Fold(self.db, DriftConfig(), self.clock)

    def tick(self) -> None:
        self.fold.tick()
        self.drift.tick()

    def restart(self) -> None:
        self.db.close()
        self.start()

    def _ask(self, episode: DriftEpisode) -> str:
        self.asked.append(episode)
        return self.answer(episode)

    def land(self, sent: Batch, device: DeviceId = CAM, tenant: TenantId = TENANT) -> None:
        with self.db.write() as tx:
            self.telemetry.land(tx, tenant, device, sent, codec.encode_batch(sent), self.clock.now())

    def send(
        self, readings: Callable[..., tuple[NDArray[Any], NDArray[Any]]] = clean, *, version: int = 1, tick: bool = True
    ) -> None:
        """The next window, in three batches."""
        self.clock.advance(WINDOW.total_seconds())
        labels, confidence = readings(self.rng, READINGS)
        for part in range(0, READINGS, 20):
            at = START + self.window * WINDOW + timedelta(seconds=part)
            rows = slice(part, part + 20)
            self.land(
                batch(self.sequence, 20, at=at, step_ms=1000, version=version, labels=labels[rows], confidence=confidence[rows])
            )
            self.sequence += 20
        self.window += 1
        if tick:
            self.tick()

    def episodes(self, who: Principal, open_only: bool = False) -> list[DriftEpisode]:
        return self.drift.episodes(who, open_only=open_only)[0]

    def idle(self, seconds: float = 200.0) -> None:
        self.clock.advance(seconds)
        self.tick()


@pytest.fixture
def site(database_url: str) -> Iterator[Site]:
    made = Site(database_url)
    yield made
    made.db.close()


def test_windows_are_folded_judged_and_hold_every_reading_once(site: Site) -> None:
    for _ in range(5):
        site.send()
    site.idle()
    windows = site.drift.windows(ADMIN)
    assert [window.start for window in reversed(windows)] == [START + number * WINDOW for number in range(5)]
    assert [(window.readings, sum(window.label_counts), sum(window.confidence_counts)) for window in windows] == [
        (READINGS, READINGS, READINGS)
    ] * 5
    assert not any(window.drifted for window in windows)
    assert site.episodes(ADMIN) == []


def test_a_window_closes_only_when_later_readings_or_time_have_passed_it(site: Site) -> None:
    site.send()
    assert site.drift.windows(ADMIN) == []
    site.land(batch(site.sequence, 1, at=START + WINDOW + timedelta(seconds=4.9)))
    site.tick()
    assert site.drift.windows(ADMIN) == []
    site.land(batch(site.sequence + 1, 1, at=START + WINDOW + timedelta(seconds=5)))
    site.tick()
    assert len(site.drift.windows(ADMIN)) == 1


def test_readings_within_the_lateness_count_and_later_ones_are_counted_as_late(site: Site) -> None:
    site.clock.advance(120)
    site.land(batch(0, 30, at=START))
    site.land(batch(30, 1, at=START + timedelta(seconds=63)))
    site.land(batch(31, 3, at=START + timedelta(seconds=50)))  # late, but within lateness_s
    site.land(batch(34, 1, at=START + timedelta(seconds=70)))
    site.land(batch(35, 4, at=START + timedelta(seconds=55)))  # too late
    site.tick()
    [window] = site.drift.windows(ADMIN)
    assert window.readings == 33
    with site.db.read() as tx:
        state = store.find_devices(tx, [CAM]).get(CAM)
    assert state is not None
    assert state.late == 4


def test_a_backlog_of_hours_is_folded_in_order_and_none_of_it_is_late(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folding, "PAGE_BATCHES", 4)
    monkeypatch.setattr(folding, "TICK_PAGES", 2)
    site.clock.advance(6 * 3600)
    for _ in range(10):
        site.send(tick=False)
    for _ in range(4):
        site.tick()
    site.idle()
    assert [window.readings for window in site.drift.windows(ADMIN)] == [READINGS] * 10


def test_a_broken_clock_does_not_make_honest_readings_late(site: Site) -> None:
    site.land(batch(0, 30, at=START))
    site.land(batch(30, 5, at=START + timedelta(days=4000)))
    site.land(batch(35, 30, at=START + timedelta(seconds=5)))
    site.tick()
    site.idle()
    [window] = site.drift.windows(ADMIN)
    assert window.readings == 60
    with site.db.read() as tx:
        state = store.find_devices(tx, [CAM]).get(CAM)
    assert state is not None
    assert (state.future, state.late) == (5, 0)


def test_readings_of_models_and_classes_that_the_hub_does_not_have_are_left_out(site: Site) -> None:
    site.land(batch(0, 40, version=9))
    site.land(batch(40, 40, labels=[3] * 30 + [10] * 10))
    site.tick()
    site.idle()
    [window] = site.drift.windows(ADMIN)
    assert (window.readings, window.label_counts[3]) == (30, 30)


def test_drift_opens_one_episode_says_why_and_asks_once(site: Site) -> None:
    for _ in range(3):
        site.send()
    for _ in range(6):
        site.send(dark)
    [episode] = site.episodes(ADMIN)
    assert (episode.device, episode.model, episode.version, episode.job_id) == (CAM, "digits", 1, "job-1")
    assert episode.opened_at == START + 5 * WINDOW
    assert episode.closed_at is None
    assert episode.reason.startswith("2 windows in a row, the last of 60 readings: labels moved: PSI ")
    assert "bound 0." in episode.reason
    assert "mean confidence 0.5" in episode.reason
    assert [asked.id for asked in site.asked] == [episode.id]


def test_one_drifted_window_is_no_episode(site: Site) -> None:
    for readings in (clean, dark, clean, dark, clean, clean):
        site.send(readings)
    assert site.episodes(ADMIN) == []


def test_an_episode_closes_once_after_quiet_windows_and_a_new_one_may_open(site: Site) -> None:
    for readings in [dark] * 3 + [clean] * 5 + [dark] * 3 + [clean]:
        site.send(readings)
    again, first = site.episodes(ADMIN)
    assert first.closed_at == START + 6 * WINDOW
    assert first.reason.endswith("; closed: 3 quiet windows in a row")
    assert again.closed_at is None
    assert site.episodes(ADMIN, open_only=True) == [again]
    assert len(site.asked) == 2


def test_windows_too_small_to_judge_neither_open_nor_close(site: Site) -> None:
    site.send(dark)
    for _ in range(2):
        site.clock.advance(60)
        site.land(batch(site.sequence, 5, at=START + site.window * WINDOW))
        site.sequence, site.window = site.sequence + 5, site.window + 1
    site.send(dark)
    site.idle()
    [episode] = site.episodes(ADMIN)
    assert episode.opened_at == START + 4 * WINDOW


def test_a_restart_between_any_two_steps_changes_nothing(site: Site) -> None:
    for readings in [clean] * 2 + [dark] * 3:
        site.send(readings, tick=False)
        site.restart()
        site.tick()
        site.restart()
    site.idle()
    assert [window.readings for window in site.drift.windows(ADMIN)] == [READINGS] * 5
    assert len(site.episodes(ADMIN)) == 1
    assert len(site.asked) == 1


def test_a_crash_within_the_fold_folds_nothing_twice(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(3):
        site.send(tick=False)
    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="power"):
        patch.setattr(folding.landing, "fold_through", _fail)
        site.tick()
    site.restart()
    site.tick()
    site.idle()
    assert [window.readings for window in site.drift.windows(ADMIN)] == [READINGS] * 3


def _fail(*_: object) -> None:
    raise RuntimeError("power cut")


def test_two_hubs_on_one_database_fold_every_batch_once(site: Site) -> None:
    other = Fold(site.db, DriftConfig(), site.clock)
    for number in range(4):
        site.send(tick=False)
        (site.fold, other)[number % 2].tick()
        (other, site.fold)[number % 2].tick()
    site.idle()
    assert [window.readings for window in site.drift.windows(ADMIN)] == [READINGS] * 4


def test_an_episode_that_could_not_be_told_is_told_later_and_then_never_again(site: Site) -> None:
    def refuse(episode: DriftEpisode) -> str:
        raise NotReady("no trainer")

    site.answer = refuse
    for _ in range(4):
        site.send(dark)
    assert {asked.id for asked in site.asked} == {site.episodes(ADMIN)[0].id}
    tries = len(site.asked)
    assert tries > 1
    site.answer = lambda episode: ""
    site.restart()
    for _ in range(3):
        site.tick()
    assert len(site.asked) == tries + 1
    assert site.episodes(ADMIN)[0].job_id == ""


def test_a_new_version_closes_the_episode_of_the_old_one_and_starts_anew(site: Site) -> None:
    publish(site.db, 2)
    for _ in range(3):
        site.send(dark)
    site.send(clean, version=2)
    [episode] = site.episodes(ADMIN)
    assert episode.closed_at is not None
    assert episode.reason.endswith("; closed: digits:2 runs instead")
    for _ in range(3):
        site.send(dark, version=2)
    assert [(one.version, one.closed_at is None) for one in site.episodes(ADMIN)] == [(2, True), (1, False)]


def test_a_drifted_window_under_each_of_two_versions_is_no_episode(site: Site) -> None:
    publish(site.db, 2)
    site.send(clean)
    site.send(dark)
    site.land(batch(site.sequence, 10, at=START + site.window * WINDOW + timedelta(seconds=6)))  # the dark window is over
    site.sequence, site.window = site.sequence + 10, site.window + 1
    site.tick()
    site.send(dark, version=2)
    site.idle()
    assert [window.drifted for window in reversed(site.drift.windows(ADMIN))] == [False, True, False, True]
    assert site.episodes(ADMIN) == []


def test_devices_are_judged_apart(site: Site) -> None:
    other = DeviceId("cam-2")
    for number in range(4):
        site.send(dark)
        labels, confidence = clean(site.rng, READINGS)
        at = START + number * WINDOW
        site.land(batch(number * 60, 60, at=at, step_ms=1000, labels=labels, confidence=confidence), other)
        site.tick()
    assert [episode.device for episode in site.episodes(ADMIN)] == [CAM]
    assert {window.device for window in site.drift.windows(ADMIN)} == {CAM, other}
    assert {window.device for window in site.drift.windows(ADMIN, device=other)} == {other}
    assert site.drift.windows(ADMIN, ModelName("signs")) == []
    assert (site.drift.windows(STRANGER), site.episodes(STRANGER)) == ([], [])


def test_windows_of_one_reading_column_survive_the_database(site: Site) -> None:
    site.send()
    site.idle()
    with site.db.read() as tx:
        row = tx.execute(select(store.drift_windows)).one()
    [window] = site.drift.windows(ADMIN)
    assert tuple(row.label_counts) == window.label_counts
    assert window.confidence_sum == pytest.approx(READINGS * 0.92, rel=0.05)


def test_a_device_that_was_made_again_for_another_tenant_leaves_nothing_behind_and_takes_nothing_along(site: Site) -> None:
    other = STRANGER.tenant
    publish(site.db, 1, tenant=other)
    for _ in range(3):
        site.send(dark)
    assert [episode.tenant for episode in site.asked] == [TENANT]
    for number in range(4):
        labels, confidence = dark(site.rng, READINGS)
        at = START + (site.window + number) * WINDOW
        sent = batch(number * 60, 60, at=at, step_ms=1000, labels=labels, confidence=confidence, epoch="e2")
        site.clock.advance(60)
        site.land(sent, tenant=other)
        site.tick()
    [old], [new] = site.episodes(ADMIN), site.episodes(STRANGER)
    assert old.closed_at is not None and new.closed_at is None
    assert [episode.tenant for episode in site.asked] == [TENANT, other]
    assert len(site.drift.windows(ADMIN)) == 3
    assert all(window.start >= START + 3 * WINDOW for window in site.drift.windows(STRANGER))


def test_the_drift_of_a_deleted_device_is_over(site: Site) -> None:
    with site.db.write() as tx:
        fleet_store.add(tx, CAM, TENANT, "camera-x86", {}, site.clock.now())
    for _ in range(3):
        site.send(dark)
    FleetService(site.db, site.clock).delete(ADMIN, CAM)
    assert site.episodes(ADMIN, open_only=True) == []


def test_windows_are_kept_for_so_many_days(site: Site) -> None:
    for _ in range(3):
        site.send()
    site.idle()
    site.idle(DriftConfig().keep_days * 86_400.0 - 150)
    assert len(site.drift.windows(ADMIN)) < 3
    site.idle()
    assert site.drift.windows(ADMIN) == []
