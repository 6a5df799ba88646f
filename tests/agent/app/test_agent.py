"""The agent's threads together, with parts that do as they are told."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_agent.app.agent import STUCK_S, Agent, Parts
from edge_agent.app.keep import Keeper
from edge_agent.app.meter import Meter
from edge_agent.app.perceive import Perceiver
from edge_agent.app.report import Membership, Reporter, Self, read_status
from edge_agent.app.starts import LASTED_S, MANY, Starts
from edge_agent.app.streaming import Streaming, load_device_specs
from edge_agent.app.wakeup import Wakeup
from edge_agent.app.watch import Watcher
from edge_agent.core.budget import Budget
from edge_agent.core.config import SpoolConfig, StreamsConfig
from edge_agent.core.errors import AgentError, Permanent, Restart
from edge_agent.core.model import Happening, Observation, Outcome
from edge_agent.core.ports import StreamStats
from edge_agent.update.record import Effect
from protos.contract.telemetry import Lane
from tests.agent.app.test_perceive import active
from tests.agent.app.test_threads import PIXELS, wait_until
from tests.agent.clocks import ManualClock
from tests.agent.fakes import FakeCaptures, FakeSource
from tests.agent.fakes_spool import MemorySpool
from tests.agent.update.parts import Device, release


@dataclass
class Signals:
    received: str = ""


@dataclass
class FakeNetwork:
    """Fails ``faults`` times before it runs."""

    faults: int = 0
    running: bool = False
    membership: Membership = field(default_factory=Membership)
    news: int = 0
    stopped: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        if self.faults:
            self.faults -= 1
            raise RuntimeError("a bug in the network")
        self.running = True
        self.stopped.wait()

    def changed(self) -> None:
        self.news += 1

    def stop(self) -> None:
        self.stopped.set()


class Whole:
    def __init__(
        self, folder: Path, source: FakeSource, *, ends_with_source: bool, streams: StreamsConfig | None = None
    ) -> None:
        self.clock = ManualClock()
        self.spool = MemorySpool(SpoolConfig(batch_records=1), self.clock)
        self.captures = FakeCaptures()
        self.streams: Streaming | None = None
        if streams is not None:
            self.streams = Streaming(load_device_specs(streams), streams, self.spool, folder, self.clock)
        self.keeper = Keeper(self.captures, self.streams or self.spool, Budget(1000, self.clock))
        self.perceiver = Perceiver(self.streams or self.spool, self.keeper, self.clock)
        self.network = FakeNetwork()
        self.device = Device(folder)
        me = Self(boot_id="b", agent_version="1", runtimes=("onnx",), started_at=self.clock.now(), data_dir=folder)
        self.wakeup = Wakeup()
        self.signals = Signals()
        parts = Parts(
            clock=self.clock,
            spool=self.spool,
            perceiver=self.perceiver,
            keeper=self.keeper,
            watcher=Watcher(source, self.perceiver, max_frames=None),
            engine=self.device.engine,
            network=self.network,
            reporter=Reporter(
                me, perceiver=self.perceiver, keeper=self.keeper, engine=self.device.engine, spool=self.spool,
                captures=self.captures, clock=self.clock, streams=self.streams.stats if self.streams else StreamStats,
            ),
            wakeup=self.wakeup,
            starts=Starts(folder / "starts"),
            streams=self.streams,
            reboot=self._reboot,
            ends_with_source=ends_with_source,
        )  # fmt: skip
        self.agent = Agent(parts)
        self.error: AgentError | None = None
        self.reboots, self.board_obeys = 0, True
        self.thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        try:
            self.agent.run(self.signals)  # type: ignore[arg-type]  # no real signals in a test
        except AgentError as error:
            self.error = error

    def _reboot(self) -> None:
        self.reboots += 1
        if self.board_obeys:
            self.signals.received = "SIGTERM"

    def stop(self) -> None:
        self.signals.received = "SIGTERM"
        self.wakeup.set()
        self.thread.join(20)
        assert not self.thread.is_alive()


@pytest.fixture
def whole(tmp_path: Path) -> Iterator[Whole]:
    made = Whole(tmp_path, FakeSource([PIXELS] * 3, stay=True), ends_with_source=False)
    yield made
    made.stop()


class Dated(FakeSource):
    """Three frames of one moment."""

    def __init__(self, at_s: int) -> None:
        super().__init__([PIXELS] * 3)
        self._at = datetime.fromtimestamp(at_s, UTC)

    def observations(self) -> Iterator[Observation]:
        for frame in super().observations():
            yield replace(frame, captured_at=self._at)


def test_an_agent_with_streams_sends_their_windows_across_a_restart(tmp_path: Path) -> None:
    """Two starts of three frames each, within one window that the third start closes; no reading is sent by itself."""
    specs = tmp_path / "streams.yaml"
    specs.write_text("streams: {all: {window: {kind: tumbling, size_s: 10, lateness_s: 0}, aggregates: {n: count}}}")
    config = StreamsConfig(specs=specs, raw="none")
    records: list[tuple[int, int, bool]] = []
    for start in range(3):
        whole = Whole(tmp_path, Dated(1_700_000_000 + 10 * (start // 2)), ends_with_source=True, streams=config)
        whole.perceiver.swap(active())
        whole.thread.start()
        whole.thread.join(20)
        assert not whole.thread.is_alive() and whole.error is None
        batches = whole.spool.batches(after=None, lane=Lane.NORMAL, limit=100)
        records += [(len(batch.inferences), row.readings, row.complete) for batch, _ in batches for row in batch.windows]
        status = read_status(tmp_path)
        assert status is not None and status["streams"]["readings"] == 3 and status["streams"]["left_out"] == 3
    assert records == [(0, 6, True)]


def test_it_watches_until_it_is_told_to_stop(whole: Whole, tmp_path: Path) -> None:
    whole.perceiver.swap(active())
    whole.thread.start()
    wait_until(lambda: whole.perceiver.total.inferences == 3)
    whole.stop()
    status = read_status(tmp_path)
    assert status is not None
    assert (status["state"], status["running"], status["health"]["inferences"]) == ("stopped", False, 3)
    normal = status["spool"]["lanes"]["normal"]
    assert (normal["records"], normal["next"], normal["committed"], normal["dropped"]) == (3, 3, -1, 0)
    assert normal["oldest_age_s"] >= 0 and status["spool"]["epoch"] == whole.spool.epoch
    assert status["uplink"]["sent_batches"] == 0 and status["health"]["disk_total_bytes"] > 0


def test_a_part_that_fails_is_told_to_the_hub_and_begun_again(whole: Whole) -> None:
    whole.network.faults = 1
    whole.thread.start()
    wait_until(lambda: whole.spool.stats().records == 1 and whole.network.faults == 0)
    (batch, _), *_ = whole.spool.batches(after=None, lane=Lane.CRITICAL, limit=1)
    assert (batch.events[0].kind, "a bug in the network" in batch.events[0].detail) == ("agent.fault", True)


def test_starts_that_end_suddenly_are_counted_until_one_lasts(tmp_path: Path) -> None:
    for before in range(MANY):
        assert Starts(tmp_path / "starts").failed == before
    whole = Whole(tmp_path, FakeSource([]), ends_with_source=False)
    whole.thread.start()
    wait_until(lambda: read_status(tmp_path) is not None)
    whole.clock.advance(LASTED_S + 1)
    whole.wakeup.set()
    wait_until(lambda: (tmp_path / "starts").read_bytes().startswith(b"0 "))
    whole.stop()


@pytest.mark.parametrize(
    ("ends", "boot", "cut"),
    [("at once", "one", False), ("at once", "two", True), ("lasting", "one", False), ("in order", "one", True)],
)
def test_a_run_that_the_power_or_a_stop_ended_is_told_from_one_that_died(
    tmp_path: Path, ends: str, boot: str, cut: bool
) -> None:
    (tmp_path / "boot_id").write_text("one\n")
    first = Starts(tmp_path / "starts", boot_id=tmp_path / "boot_id")
    assert not first.cut, "nothing is known of a run before it"
    {"at once": lambda: None, "lasting": first.lasted, "in order": first.ended}[ends]()
    (tmp_path / "boot_id").write_text(boot)
    assert Starts(tmp_path / "starts", boot_id=tmp_path / "boot_id").cut is cut


def test_an_agent_that_was_told_to_stop_did_not_end_suddenly(whole: Whole, tmp_path: Path) -> None:
    whole.thread.start()
    whole.stop()
    assert Starts(tmp_path / "starts").failed == 0


def test_what_was_worth_keeping_is_kept_and_told_before_it_stops(whole: Whole) -> None:
    whole.perceiver.swap(active(control_rate=1.0))
    whole.thread.start()
    wait_until(lambda: whole.perceiver.total.inferences == 3)
    whole.stop()
    assert whole.captures.count() == 1, "three frames of the same pixels"
    batches = whole.spool.batches(after=None, lane=Lane.NORMAL, limit=9)
    assert [row.captured for batch, _ in batches for row in batch.inferences.rows()] == [True] * 3


def test_a_part_that_fails_together_with_the_spool_is_begun_again(whole: Whole, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(item: Outcome | Happening, lane: Lane = Lane.NORMAL) -> int:
        raise Permanent("the file is gone")

    monkeypatch.setattr(whole.spool, "append", broken)
    whole.network.faults = 1
    whole.thread.start()
    wait_until(lambda: whole.network.faults == 0)
    wait_until(lambda: whole.network.running)


def test_what_changes_is_reported_and_written_down_at_once(whole: Whole, tmp_path: Path) -> None:
    whole.thread.start()
    wait_until(lambda: read_status(tmp_path) is not None)
    one = release(1)
    whole.device.serve(one)
    whole.device.on_change = whole.agent.changed
    whole.device.engine.offer(one.desired(1))
    wait_until(lambda: whole.network.news > 0)
    wait_until(lambda: (read_status(tmp_path) or {})["generation"] == 1)


def test_it_ends_with_its_source_where_that_was_asked_for(tmp_path: Path) -> None:
    whole = Whole(tmp_path, FakeSource([PIXELS] * 3), ends_with_source=True)
    whole.perceiver.swap(active())
    whole.thread.start()
    whole.thread.join(20)
    assert not whole.thread.is_alive() and whole.error is None


def test_an_inference_that_hangs_ends_the_process_so_that_it_is_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_agent.app.agent.JOIN_S", 0.01)
    whole = Whole(tmp_path, FakeSource([PIXELS]), ends_with_source=False)
    hanging, released = threading.Event(), threading.Event()

    def hang(tensor: NDArray[np.float32]) -> NDArray[np.float32]:
        hanging.set()
        released.wait(20)
        return np.zeros(4, np.float32)

    whole.perceiver.swap(active(hang))
    whole.thread.start()
    assert hanging.wait(10)
    whole.clock.advance(STUCK_S + 1)
    assert whole.perceiver.busy_s() > STUCK_S
    assert Meter().vitals(busy_s=3.0).busy_s == 3.0
    whole.wakeup.set()
    whole.thread.join(20)
    released.set()
    assert whole.error is not None and "has hung for 21 s" in str(whole.error)


def test_an_update_that_needs_a_new_start_ends_the_agent_in_order(whole: Whole) -> None:
    whole.thread.start()
    wait_until(lambda: whole.network.running)
    whole.agent.again(Effect.RESTART)
    whole.thread.join(20)
    assert isinstance(whole.error, Restart) and whole.reboots == 0
    assert whole.network.stopped.is_set()
    status = read_status(whole.device.folder)
    assert status is not None and status["state"] == "stopped"
    assert (whole.device.folder / "starts").read_bytes().startswith(b"0 "), "it is no sudden end"


def test_an_update_of_the_board_asks_for_its_new_start_and_waits_to_be_stopped(whole: Whole) -> None:
    whole.thread.start()
    whole.agent.again(Effect.REBOOT)
    whole.thread.join(20)
    assert (whole.reboots, whole.error) == (1, None)


def test_a_signal_goes_before_what_an_update_asks_for(whole: Whole) -> None:
    whole.signals.received = "SIGTERM"
    whole.agent.again(Effect.REBOOT)
    whole.thread.start()
    whole.thread.join(20)
    assert (whole.reboots, whole.error) == (0, None)


def test_an_update_that_hangs_ends_the_agent(whole: Whole, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(whole.device.engine, "oversee", lambda: "street:2 has hung in STAGED for 500 s")
    whole.thread.start()
    whole.thread.join(20)
    assert whole.error is not None and "street:2 has hung" in str(whole.error)
