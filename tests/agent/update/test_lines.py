"""Several components, their conditions, their deadlines, and what is taken back after it was kept."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path

import pytest

from edge_agent.app.bootstrap import usable
from edge_agent.core.config import AgentConfig, UpdateConfig, load
from edge_agent.core.errors import BadPackage, ConfigError, DiskFull, LinkDown, TooSlow
from edge_agent.core.model import Happening
from edge_agent.update.components.config import ConfigInstaller
from edge_agent.update.components.trial import Trial
from edge_agent.update.engine import UpdateEngine
from edge_agent.update.floors import Release as ReleaseNumber
from edge_agent.update.installer import Permit
from edge_agent.update.interlocks import HubsTime, LockFiles
from edge_agent.update.line import LOOK_S, SAVE_S
from edge_agent.update.overlay import Overlay, check_open
from edge_agent.update.probation import Ruling, Verdict, Vitals
from edge_agent.update.record import Component, Effect, Found, Update
from edge_agent.update.shelf import Shelf, ShelfRecord
from protos.contract.ids import digest_of
from protos.contract.twin import DesiredTwin, PackageAssignment, PackageKind
from protos.contract.update import UpdateState as S
from protos.contract.windows import parse_window
from tests.agent.update.package_parts import Fetches
from tests.agent.update.parts import CONFIG, HEALTHY, Device, release

ONE, TWO, THREE = release(1), release(2), release(3)


def package(version: str, kind: PackageKind = PackageKind.CONFIG, rollout: str = "") -> PackageAssignment:
    digest = digest_of(version.encode())
    return PackageAssignment(kind=kind, name="site", version=version, digest=digest, size_bytes=1, rollout_id=rollout)


@dataclass
class Settings:
    """A component that needs a new start of the agent; its disk is what outlives one."""

    component: Component = Component.CONFIG
    verify_s: float = 10.0
    activate_s: float = 10.0
    started: PackageAssignment | None = None  # in this process
    next: PackageAssignment | None = None  # on disk: what is started next
    before: PackageAssignment | None = None  # on disk: what is gone back to
    ruling: Verdict = field(default_factory=lambda: Verdict(Ruling.COMMIT))
    fetching: Callable[[], None] = lambda: None
    verifying: Callable[[], None] = lambda: None
    bytes: int = 0
    cuts: int = 0

    def restart(self) -> None:
        self.started = self.next

    def running(self) -> PackageAssignment | None:
        return self.started

    def found(self) -> Found | None:
        return None

    def boot(self, trial: Update | None, *, suspect: bool) -> str:
        return ""

    def tend(self) -> float:
        return 3600.0

    def failing(self) -> str:
        return ""

    def damaged(self) -> bool:
        return False

    def place(self, update: Update) -> str:
        return "a"

    def present(self, update: Update) -> str:
        return ""

    def prepare(self, update: Update) -> None: ...

    def fetch(self, update: Update, permit: Permit, called_off: Callable[[], bool]) -> ReleaseNumber:
        self.fetching()
        return ReleaseNumber(series="config/default/site", number=1)

    def cut(self) -> None:
        self.cuts += 1

    def progress(self, update: Update) -> int:
        return self.bytes

    def verify(self, update: Update) -> None:
        self.verifying()

    def check(self, update: Update) -> None: ...

    def activate(self, update: Update) -> Effect:
        assert isinstance(update.assignment, PackageAssignment)
        if self.started == update.assignment:
            return Effect.NOW
        self.next, self.before = update.assignment, self.next
        return Effect.RESTART

    def judge(self, update: Update, elapsed_s: float) -> Verdict:
        return self.ruling

    def commit(self, update: Update) -> None: ...

    def withdraw(self, update: Update) -> None: ...

    def roll_back(self, update: Update) -> Effect:
        self.next = self.before
        return Effect.RESTART if self.started == update.assignment else Effect.NOW

    def fall_back(self, reason: str) -> Effect | None:
        if self.next == self.before:
            return None
        self.next = self.before
        return Effect.RESTART


class Rig:
    def __init__(self, folder: Path, config: UpdateConfig = CONFIG) -> None:
        self.settings = Settings()
        self.device = Device(folder, config, others=[self.settings])
        self.device.install(ONE, 1)
        self.device.states.clear()
        self.device.told.clear()

    @property
    def engine(self) -> UpdateEngine:
        return self.device.engine

    def desire(self, generation: int, *packages: PackageAssignment, model: bool = False) -> DesiredTwin:
        it = DesiredTwin(generation=generation, packages=packages)
        if model:
            it = replace(TWO.desired(generation), packages=packages)
        self.engine.offer(it)
        return it

    def restart(self) -> None:
        self.settings.restart()
        self.device.restart()

    def until(self, condition: Callable[[], object], steps: int = 3000) -> None:
        for _ in range(steps):
            if condition():
                return
            self.device.clock.advance(min(60.0, self.engine.step()))
        raise AssertionError(f"it never came: {self.engine.standing}")

    def state(self, component: Component = Component.CONFIG) -> S | None:
        update = self.device.journal.newest(component)
        return update.state if update is not None else None

    def reason(self, component: Component = Component.CONFIG) -> str:
        update = self.device.journal.newest(component)
        return update.reason if update is not None else ""


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


# -- components -----------------------------------------------------------------------------------------------------------


def test_a_component_that_needs_a_new_start_asks_for_it_and_is_judged_after_it(rig: Rig) -> None:
    rig.desire(2, package("7"))
    rig.until(lambda: rig.device.asked_for)
    assert (rig.state(), rig.device.asked_for, rig.engine.standing.packages) == (S.TRIAL, [Effect.RESTART], ())
    assert rig.engine.step() >= 3600, "nothing more is done in this process"
    rig.restart()
    rig.until(lambda: rig.state() is S.COMMITTED)
    assert rig.engine.standing.packages == (package("7"),)
    assert [each.state for each in rig.engine.standing.package_updates] == [S.COMMITTED]
    assert rig.device.runner.running == ONE.model


def test_a_component_that_does_badly_is_taken_back_by_another_start(rig: Rig) -> None:
    rig.desire(2, package("7"))
    rig.until(lambda: rig.device.asked_for)
    rig.settings.ruling = Verdict(Ruling.ROLL_BACK, "the hub is not reached")
    rig.restart()
    rig.until(lambda: rig.device.asked_for)
    assert (rig.state(), rig.reason(), rig.settings.next) == (S.ROLLED_BACK, "the hub is not reached", None)
    rig.restart()
    assert rig.engine.standing.packages == ()


def test_a_start_that_never_lasts_is_bounded_and_taken_back(rig: Rig) -> None:
    rig.desire(2, package("7"))
    rig.until(lambda: rig.device.asked_for)
    for _ in range(CONFIG.max_attempts):
        rig.restart()  # and it dies before anything is decided
    assert rig.state() is S.ROLLED_BACK and "did not survive" in rig.reason()
    assert rig.device.asked_for == [Effect.RESTART]


def test_one_component_is_on_trial_at_a_time_and_the_others_wait_staged(rig: Rig) -> None:
    rig.device.serve(TWO)
    rig.desire(2, package("7"), model=True)
    rig.until(lambda: rig.state(Component.MODEL) is S.TRIAL)
    rig.device.clock.advance(0.1)
    while rig.state(Component.MODEL) is S.TRIAL:
        assert rig.state() is not S.TRIAL
        rig.device.clock.advance(rig.engine.step())
    assert rig.state(Component.MODEL) is S.COMMITTED
    rig.until(lambda: rig.state() is S.TRIAL)


def test_the_newest_generation_holds_for_each_component_by_itself(rig: Rig) -> None:
    """A twin that changes one component carries the other: what is under way there goes on."""
    rig.settings.fetching = lambda: (_ for _ in ()).throw(LinkDown("not yet"))
    rig.desire(2, package("7", rollout="r"))
    rig.until(lambda: rig.state() is S.FETCHING)
    rig.device.serve(TWO)
    rig.desire(3, package("7", rollout="r"), model=True)
    rig.until(lambda: rig.device.runner.running == TWO.model and rig.state(Component.MODEL) is S.COMMITTED)
    update = rig.device.journal.newest(Component.CONFIG)
    assert update is not None and (update.generation, update.state) == (3, S.FETCHING)
    assert rig.engine.standing.generation == 3


def test_a_component_that_this_device_lacks_fails_at_once_with_the_reason(rig: Rig) -> None:
    rig.desire(2, package("9", PackageKind.FIRMWARE))
    rig.until(lambda: rig.state(Component.FIRMWARE) is S.FAILED)
    assert rig.reason(Component.FIRMWARE) == "this device takes no firmware"
    assert rig.device.told[-1].detail == "firmware site:9 generation 2: this device takes no firmware"


def test_a_full_disk_of_one_component_does_not_stop_another(rig: Rig) -> None:
    rig.settings.fetching = lambda: (_ for _ in ()).throw(DiskFull("no room for it"))
    rig.device.serve(TWO)
    rig.desire(2, package("7"), model=True)
    rig.until(lambda: rig.device.runner.running == TWO.model and rig.state(Component.MODEL) is S.COMMITTED)
    assert rig.state() is S.FETCHING


class Held:
    """Downloads in threads of their own; the one of the settings lasts until it is let go, or cut."""

    def __init__(self, rig: Rig) -> None:
        self._rig, self._reached, self._let_go = rig, threading.Event(), threading.Event()
        rig.settings.fetching = self._fetch
        rig.device.apart = self._begin
        self.ended: list[str] = []

    def let_go(self) -> None:
        self._let_go.set()
        self._thread.join(10)

    def _begin(self, act: Callable[[], None]) -> None:
        """Returns once the other downloads have ended: nothing depends on how fast they are."""
        thread = threading.Thread(target=act)
        thread.start()
        while thread.is_alive() and not self._reached.is_set():
            thread.join(0.01)
        if self._reached.is_set():
            self._thread = thread

    def _fetch(self) -> None:
        cuts = self._rig.settings.cuts
        self._reached.set()
        assert self._let_go.wait(10)
        self.ended.append("cut" if self._rig.settings.cuts > cuts else "whole")
        if self.ended[-1] == "cut":
            raise LinkDown("the download was cut")


def test_a_download_that_lasts_holds_up_neither_other_updates_nor_what_is_taken_back(rig: Rig) -> None:
    rig.device.serve(TWO)
    rig.desire(2, model=True)
    rig.until(lambda: rig.device.runner.running == TWO.model and rig.state(Component.MODEL) is S.COMMITTED)
    held = Held(rig)
    rig.device.serve(THREE)
    rig.engine.offer(replace(THREE.desired(3), packages=(package("7"),)))
    rig.until(lambda: rig.device.runner.running == THREE.model and rig.state(Component.MODEL) is S.COMMITTED)
    rig.device.runner.health = replace(HEALTHY, crashes=CONFIG.max_crashes, last_crash="SIGSEGV")
    rig.until(lambda: rig.device.runner.running == TWO.model)
    assert (rig.state(), held.ended, rig.engine.oversee()) == (S.FETCHING, [], "")
    rig.device.runner.health = HEALTHY
    held.let_go()
    rig.until(lambda: rig.state() is S.TRIAL)
    assert held.ended == ["whole"]


def test_a_newer_wish_is_taken_when_what_is_fetched_for_the_one_before_has_ended(rig: Rig) -> None:
    """Two downloads would write to one place."""
    held = Held(rig)
    rig.desire(2, package("7"))
    rig.until(lambda: rig.state() is S.FETCHING)
    rig.engine.step()
    rig.desire(3, package("8"))
    for _ in range(3):
        assert rig.engine.step() > 0, "it waits, and is woken"
    assert (rig.engine.standing.generation, rig.state()) == (2, S.FETCHING)
    held.let_go()
    rig.settings.fetching = lambda: None
    rig.until(lambda: rig.device.asked_for)
    assert (held.ended, rig.settings.next) == (["cut"], package("8"))


def test_a_trial_can_be_called_off_while_another_component_is_fetched(rig: Rig) -> None:
    held = Held(rig)
    rig.device.serve(TWO)
    rig.device.runner.health = replace(HEALTHY, inferences=0)
    rig.desire(2, package("7"), model=True)
    rig.until(lambda: rig.state(Component.MODEL) is S.TRIAL and rig.state() is S.FETCHING)
    rig.engine.offer(DesiredTwin(generation=3))
    rig.engine.step()
    held.let_go()
    rig.until(lambda: rig.engine.standing.generation == 3)
    assert (rig.state(), rig.state(Component.MODEL)) == (S.SUPERSEDED, S.ROLLED_BACK)
    assert rig.device.runner.running == ONE.model


def test_a_download_that_ends_while_another_component_is_on_trial_is_seen_at_once(rig: Rig) -> None:
    """A newer wish waits for it, and may be the one that calls the trial off."""
    held = Held(rig)
    rig.device.serve(TWO)
    rig.device.runner.health = replace(HEALTHY, inferences=0)
    rig.desire(2, package("7"), model=True)
    rig.until(lambda: rig.state(Component.MODEL) is S.TRIAL and rig.state() is S.FETCHING)
    rig.device.clock.advance(rig.engine.step())
    held.let_go()
    rig.engine.step()  # the trial is due as well
    assert (rig.state(), rig.state(Component.MODEL)) == (S.STAGED, S.TRIAL)


# -- calling off ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", [S.OFFERED, S.FETCHING, S.STAGED])
def test_a_twin_without_a_model_calls_off_what_is_under_way(rig: Rig, state: S) -> None:
    device = rig.device
    device.serve(TWO)
    if state is S.OFFERED:
        device.journal.offer(Component.MODEL, TWO.wanted(2))
    else:
        device.engine.offer(TWO.desired(2))
        device.settle(until=state)
    device.engine.offer(DesiredTwin(generation=3))
    device.settle()
    assert (device.state, device.reason) == (S.SUPERSEDED, "called off by generation 3")
    assert device.runner.history == [ONE.model]
    assert device.engine.standing.generation == 3


def test_a_twin_without_a_model_takes_a_trial_back(rig: Rig) -> None:
    device = rig.device
    device.serve(TWO)
    device.engine.offer(TWO.desired(2))
    device.settle(until=S.TRIAL)
    device.engine.offer(DesiredTwin(generation=3))
    device.settle()
    assert (device.state, device.reason) == (S.ROLLED_BACK, "called off by generation 3")
    assert device.runner.running == ONE.model
    device.engine.offer(TWO.desired(4))
    device.settle()
    assert (device.state, device.runner.running) == (S.COMMITTED, TWO.model)


def test_a_twin_that_names_a_package_no_more_calls_it_off_also_on_trial(rig: Rig) -> None:
    rig.desire(2, package("7"))
    rig.until(lambda: rig.device.asked_for)
    rig.settings.ruling = Verdict(Ruling.WAIT)
    rig.restart()
    rig.desire(3)
    rig.until(lambda: rig.device.asked_for)
    assert (rig.state(), rig.reason(), rig.settings.next) == (S.ROLLED_BACK, "called off by generation 3", None)


# -- conditions and deadlines ----------------------------------------------------------------------------------------------


def test_download_now_and_install_in_the_window_also_after_a_restart(rig: Rig) -> None:
    device = rig.device
    device.interlocks.append(HubsTime(device.clock))
    device.serve(TWO)
    hour = (device.clock.now() + timedelta(hours=2)).replace(minute=0)
    window = parse_window(f"{hour:%H}:00-{hour + timedelta(hours=1):%H}:00")
    device.restart()
    device.engine.offer(replace(TWO.desired(2), windows=(window,)))
    device.settle(until=S.STAGED)
    assert device.engine.step() == LOOK_S
    status = device.engine.standing.update
    assert status is not None and status.reason == "waits for its maintenance window" and status.fit is not None
    verified = device.runner.verified
    device.hub.blobs.clear()
    for _ in range(CONFIG.max_attempts + 2):  # a reboot costs no attempt: its golden run has passed
        device.restart()
        assert device.engine.step() == LOOK_S
    assert device.runner.verified == 0 and verified == 1
    device.settle(until=S.TRIAL)
    assert window.holds(device.clock.now())
    device.settle()
    assert (device.state, device.runner.running) == (S.COMMITTED, TWO.model)


def test_rolling_back_waits_for_nothing(rig: Rig, tmp_path: Path) -> None:
    device, lock = rig.device, tmp_path / "recording"
    device.serve(TWO)
    device.interlocks.append(LockFiles((lock,)))
    device.restart()
    device.engine.offer(TWO.desired(2))
    device.settle(until=S.TRIAL)
    lock.touch()
    device.runner.health = Vitals(errors=9, last_error="boom")
    device.settle()
    assert (device.state, device.runner.running) == (S.ROLLED_BACK, ONE.model)


def test_waiting_has_an_end_that_restarts_do_not_put_off(tmp_path: Path) -> None:
    rig = Rig(tmp_path, replace(CONFIG, staged_timeout_s=4 * SAVE_S))
    device, lock = rig.device, tmp_path / "recording"
    lock.touch()
    device.interlocks.append(LockFiles((lock,)))
    device.serve(TWO)
    device.restart()
    device.engine.offer(TWO.desired(2))
    device.settle(until=S.STAGED)
    for _ in range(4):
        device.restart()
        for _ in range(int(SAVE_S / LOOK_S) + 2):
            device.clock.advance(device.engine.step() if device.state is S.STAGED else 0.0)
    assert device.state is S.FAILED
    assert device.reason == f"not activated within {4 * SAVE_S:.0f} s: waits for {lock} to go"
    assert device.runner.running == ONE.model


def test_bytes_that_come_keep_a_slow_download_alive(rig: Rig) -> None:
    def trickle() -> None:
        rig.settings.bytes += 1
        raise LinkDown("cut again")

    rig.settings.fetching = trickle
    rig.desire(2, package("7"))
    before = rig.device.clock.monotonic()
    rig.until(lambda: rig.device.clock.monotonic() - before > 3 * CONFIG.fetch_timeout_s)
    assert rig.state() is S.FETCHING
    rig.settings.fetching = lambda: (_ for _ in ()).throw(LinkDown("not a byte more"))
    rig.until(lambda: rig.state() is S.FAILED)
    assert "not downloaded within 600 s: not a byte more" in rig.reason()


def test_a_download_that_went_well_for_long_is_not_given_up_for_one_slow_minute(rig: Rig) -> None:
    def slows_down() -> None:
        rig.device.clock.advance(3 * CONFIG.fetch_timeout_s)
        rig.settings.bytes += 100 << 20
        rig.settings.fetching = trickle
        raise TooSlow("in a tunnel")

    def trickle() -> None:
        rig.device.clock.advance(60.0)
        rig.settings.bytes += 1
        raise TooSlow("a byte in a minute")

    rig.settings.fetching = slows_down
    rig.desire(2, package("7"))
    rig.until(lambda: rig.settings.bytes)
    assert rig.state() is S.FETCHING
    rig.until(lambda: rig.state() is S.FAILED)
    assert "not downloaded" not in rig.reason() and "a byte in a minute" in rig.reason()


def test_a_place_that_is_never_there_ends_the_update(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(update: Update) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(rig.settings, "place", full)
    rig.desire(2, package("7"))
    rig.until(lambda: rig.state() is S.FAILED)
    assert rig.reason() == "not begun in 3 tries"


def test_a_trial_about_which_nothing_is_decided_ends(rig: Rig) -> None:
    rig.settings.ruling = Verdict(Ruling.WAIT)
    rig.desire(2, package("7"))
    rig.until(lambda: rig.device.asked_for)
    rig.restart()
    rig.device.clock.advance(2 * CONFIG.reach_timeout_s + 1)
    rig.until(lambda: rig.device.asked_for)
    assert rig.state() is S.ROLLED_BACK and "nothing was decided in" in rig.reason()


@pytest.mark.parametrize("error", [OSError("the disk has a bad moment"), ValueError("a bug")], ids=["error", "bug"])
@pytest.mark.parametrize("act", ["judge", "commit"])
def test_a_trial_whose_acts_keep_failing_ends(rig: Rig, act: str, error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise error

    rig.desire(2, package("7"))
    rig.until(lambda: rig.device.asked_for)
    monkeypatch.setattr(rig.settings, act, fails)
    rig.restart()
    for _ in range(1000):
        if rig.device.asked_for:
            break
        try:
            rig.device.clock.advance(min(60.0, rig.engine.step()))
        except ValueError:  # as ``run`` does
            rig.device.clock.advance(60.0)
    assert (rig.state(), rig.settings.next) == (S.ROLLED_BACK, None)
    assert f"nothing could be decided in {CONFIG.trial_timeout_s * 2:.0f} s of trial: {error!r}" == rig.reason()


def test_what_was_committed_late_is_not_taken_back_because_that_could_not_be_told(rig: Rig) -> None:
    class Full(list[Happening]):
        def append(self, _: Happening) -> None:
            raise DiskFull("the spool is full")

    rig.settings.ruling = Verdict(Ruling.WAIT)
    rig.desire(2, package("7"))
    rig.until(lambda: rig.device.asked_for)
    rig.device.told = Full()
    rig.restart()
    rig.device.clock.advance(2 * CONFIG.reach_timeout_s + 1)
    rig.settings.ruling = Verdict(Ruling.COMMIT)
    for _ in range(3):
        rig.engine.step()
    assert (rig.state(), rig.reason(), rig.settings.next) == (S.COMMITTED, "", package("7"))


def test_an_act_that_hangs_is_seen_from_outside_and_counts_as_an_attempt(rig: Rig) -> None:
    hung: list[str] = []

    def hang() -> None:
        hung.append(rig.engine.oversee())
        rig.device.clock.advance(rig.settings.verify_s + 1)
        hung.append(rig.engine.oversee())
        raise BadPackage("it would never have come back")

    rig.settings.verifying = hang
    rig.desire(2, package("7"))
    rig.until(lambda: hung)
    assert hung == ["", "config site:7 has hung in STAGED for 11 s"]
    update = rig.device.journal.newest(Component.CONFIG)
    assert update is not None and update.attempts == 1
    assert rig.engine.oversee() == ""


def test_a_download_that_gives_nothing_is_cut_and_one_that_cannot_be_cut_ends_the_agent(rig: Rig) -> None:
    said: list[tuple[str, int]] = []

    def stuck() -> None:
        for _ in range(25):
            rig.device.clock.advance(CONFIG.fetch_timeout_s / 10)
            said.append((rig.engine.oversee(), rig.settings.cuts - cuts))
        raise LinkDown("at last")

    rig.settings.fetching = stuck
    rig.desire(2, package("7"))
    cuts = rig.settings.cuts
    rig.until(lambda: said)
    assert said[8] == ("", 0) and said[12] == ("", 1)
    assert said[-1][0].startswith("config site:7 has hung in FETCHING")


def test_however_seldom_somebody_looks_a_download_is_cut_before_it_ends_the_agent(rig: Rig) -> None:
    said: list[tuple[str, int]] = []

    def stuck() -> None:
        for _ in range(2):
            rig.device.clock.advance(3 * CONFIG.fetch_timeout_s)
            said.append((rig.engine.oversee(), rig.settings.cuts - cuts))
        raise LinkDown("cut")

    rig.settings.fetching = stuck
    rig.desire(2, package("7"))
    cuts = rig.settings.cuts
    rig.until(lambda: said)
    assert said[0] == ("", 0) and said[1] == ("", 1), "the first look learns what is there"


# -- after the commit ------------------------------------------------------------------------------------------------------


def test_what_was_committed_is_not_blamed_for_the_golden_run_of_another_that_takes_the_board_down(rig: Rig) -> None:
    """By the time its own bound ends it, the agent has ended soon after more starts than anything else may."""
    rig.desire(2, package("7"))
    rig.until(lambda: rig.device.asked_for)
    rig.restart()
    rig.until(lambda: rig.state() is S.COMMITTED)
    rig.device.serve(TWO)
    rig.desire(3, package("7"), model=True)
    rig.until(lambda: rig.state(Component.MODEL) is S.STAGED)
    update = rig.device.journal.newest(Component.MODEL)
    assert update is not None
    rig.device.journal.count(update)
    rig.device.restart(cut=True, fall_back=True)
    assert (rig.state(), rig.reason(), rig.settings.next) == (S.COMMITTED, "", package("7"))
    rig.device.restart(cut=True, fall_back=True)
    assert rig.settings.next is None, "no golden run had begun"


def test_a_committed_model_that_keeps_crashing_gives_way_to_the_one_before_it(rig: Rig) -> None:
    device = rig.device
    device.install(TWO, 2)
    device.told.clear()
    for crashes in range(1, CONFIG.max_crashes):
        device.runner.health = replace(HEALTHY, crashes=crashes, last_crash="signal 11")
        device.engine.step()
    assert device.runner.running == TWO.model
    device.runner.health = replace(HEALTHY, crashes=CONFIG.max_crashes, last_crash="signal 11")
    device.engine.step()
    assert device.runner.running == ONE.model
    assert device.engine.standing.running == ONE.assignment
    assert [event.kind for event in device.told] == ["model.fell_back"] and "signal 11" in device.told[0].detail
    assert device.state is S.COMMITTED and "taken back after it was committed" in device.reason
    device.runner.health = HEALTHY
    device.restart()
    assert device.runner.running == ONE.model
    device.engine.offer(TWO.desired(2))  # retained at the broker
    device.settle()
    assert device.runner.running == ONE.model


def test_the_one_before_is_not_left_for_the_one_that_crashed(rig: Rig) -> None:
    device = rig.device
    device.install(TWO, 2)
    for _ in range(2):
        device.runner.health = replace(HEALTHY, crashes=CONFIG.max_crashes, last_crash="signal 11")
        device.engine.step()
        device.runner.health = HEALTHY
        device.engine.step()
    assert device.runner.running == ONE.model
    assert [event.kind for event in device.told][-2:] == ["model.fell_back", "model.failing"]


def test_crashes_that_are_far_between_are_borne(rig: Rig) -> None:
    device = rig.device
    device.install(TWO, 2)
    for crashes in range(1, 4 * CONFIG.max_crashes):
        device.runner.health = replace(HEALTHY, crashes=crashes)
        device.engine.step()
        device.clock.advance(CONFIG.crash_window_s / 2)
    assert device.runner.running == TWO.model


def test_an_agent_that_keeps_ending_goes_back_from_what_was_committed_last(rig: Rig) -> None:
    device = rig.device
    device.install(TWO, 2)
    rig.desire(3, package("7"), model=True)  # with the model that runs
    rig.until(lambda: rig.device.asked_for)
    rig.restart()
    rig.until(lambda: rig.state() is S.COMMITTED)
    device.told.clear()
    device.restart(suspect=True, fall_back=True)
    assert rig.settings.next is None and device.asked_for == [Effect.RESTART]
    assert "config.fell_back" in [event.kind for event in device.told]
    rig.settings.before = rig.settings.next
    rig.settings.restart()
    device.restart(suspect=True, fall_back=True)  # that was not it
    assert "model.fell_back" in [event.kind for event in device.told]
    device.clock.advance(30.0)
    device.engine.step()
    assert device.runner.running == ONE.model


# -- the configuration that an agent starts with ---------------------------------------------------------------------------

SETTINGS = b"log_level: DEBUG\n"
SITE = PackageAssignment(
    kind=PackageKind.CONFIG, name="site", version="1", digest=digest_of(SETTINGS), size_bytes=len(SETTINGS)
)


def shelved(data_dir: Path, *, good: bool, data: bytes = SETTINGS) -> Shelf:
    """As an agent leaves its disk that was asked for SITE in generation 4."""
    shelf = Overlay(data_dir).shelf
    shelf.prepare(shelf.slot("a"), ShelfRecord(assignment=SITE, generation=4, good=good))
    shelf.slot("a").file.write_bytes(data)
    shelf.activate(shelf.slot("a"))
    return shelf


def begun(data_dir: Path) -> tuple[Overlay, AgentConfig]:
    """What a start of the agent begins with; its own configuration has the log level INFO."""
    overlay = Overlay(data_dir)
    return overlay, overlay.begin(lambda path: load(None, {}, overlay=path), AgentConfig(data_dir=data_dir))


def test_a_configuration_that_lost_its_journal_is_known_again(tmp_path: Path) -> None:
    shelved(tmp_path, good=True)
    trial = Trial(idle=lambda: "", connected=lambda: True, config=CONFIG, note=tmp_path / "note")
    installer = ConfigInstaller(Overlay(tmp_path), Fetches({}).as_fetcher(), trial, ())
    device = Device(tmp_path / "device", others=[installer])
    newest = device.journal.newest(Component.CONFIG)
    assert newest is not None and (newest.state, newest.generation, newest.assignment) == (S.COMMITTED, 4, SITE)
    assert device.engine.standing.generation == 4


@pytest.mark.parametrize("file", ["package", "package.json"])
def test_a_committed_configuration_that_rots_is_fetched_again(tmp_path: Path, file: str) -> None:
    shelved(tmp_path, good=True).slot("a").file.with_name(file).write_bytes(b"rot")
    overlay, settings = begun(tmp_path)
    trial = Trial(idle=lambda: "", connected=lambda: True, config=CONFIG, note=tmp_path / "note")
    installer = ConfigInstaller(overlay, Fetches({}).as_fetcher(), trial, ())
    assert (settings.log_level, installer.boot(None, suspect=False), installer.damaged()) == ("INFO", "", True)


def test_each_start_on_trial_is_counted_before_the_configuration_is_used(tmp_path: Path) -> None:
    shelf = shelved(tmp_path, good=False)
    for _ in range(AgentConfig().update.max_attempts):
        overlay, settings = begun(tmp_path)
        assert (settings.log_level, overlay.running, overlay.fall()) == ("DEBUG", SITE, None)
    overlay, settings = begun(tmp_path)
    fall = overlay.fall()
    assert (settings.log_level, overlay.running, shelf.current()) == ("INFO", None, None)
    assert fall is not None and fall.reason == "the agent did not survive 3 starts with it"


def test_a_start_that_cannot_be_counted_is_made_with_what_was_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shelved(tmp_path, good=False)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("edge_agent.update.overlay.write_atomic", full)
        overlay, settings = begun(tmp_path)
        assert (settings.log_level, overlay.running) == ("INFO", None)
    overlay, settings = begun(tmp_path)
    assert (settings.log_level, overlay.running) == ("DEBUG", SITE), "its turn comes when there is room"


def test_a_configuration_that_proves_unusable_later_is_not_started_with_again(tmp_path: Path) -> None:
    shelf = shelved(tmp_path, good=True)
    overlay, _ = begun(tmp_path)
    assert overlay.shun("the camera it names is none")
    overlay, settings = begun(tmp_path)
    fall = overlay.fall()
    assert (settings.log_level, shelf.current()) == ("INFO", None)
    assert fall is not None and (fall.digest, fall.reason) == (SITE.digest, "the camera it names is none")


@pytest.mark.parametrize("damage", [b"log_level: [", b""])
def test_a_damaged_configuration_leaves_the_devices_own(tmp_path: Path, damage: bytes) -> None:
    shelf = shelved(tmp_path, good=True, data=damage)
    overlay, settings = begun(tmp_path)
    fall = overlay.fall()
    assert (settings.log_level, overlay.running, shelf.current()) == ("INFO", None, None)
    assert fall is not None and "instead of" in fall.reason


@pytest.mark.parametrize(
    "text",
    [
        "update: {max_attempts: 0}",
        "update: {fetch_timeout_s: .nan}",
        "update: {rate_window_s: 0}",
        "sync: {keepalive_s: 0}",
        "sync: {backoff_min_s: 1.0e+9}",
        "sync: {backoff_max_s: .inf}",
    ],
)
def test_settings_after_which_no_other_would_come_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "sent").write_text(text)
    with pytest.raises(ConfigError, match=text.partition("{")[2].partition(":")[0]):
        usable(load(None, {}, overlay=tmp_path / "sent"))
    (tmp_path / "sent").write_text("update: {max_attempts: 1}")
    check_open(load(None, {}, overlay=tmp_path / "sent"))
