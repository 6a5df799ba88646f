"""Every fault in every state of every component's updates. A state or a fault without a cell fails the collection.

Whatever the cell: afterwards the device runs a whole version that it may run, and takes the next one.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from itertools import product
from pathlib import Path

import pytest

from edge_agent.core.errors import BadModel, BadPackage, DiskFull, LinkDown, Refused
from edge_agent.update.record import Component
from protos.contract.update import FINAL, TRANSITIONS
from protos.contract.update import UpdateState as S
from tests.agent.update.package_rigs import AgentRig, ConfigRig, FirmwareRig
from tests.agent.update.rigs import AFTERWARDS, CONFIG, DAMAGE, NEWER, OLD, PASS_S, WANTED, Died, ModelRig, Rig

RIGS: Mapping[Component, type[Rig]] = {
    Component.MODEL: ModelRig,
    Component.CONFIG: ConfigRig,
    Component.AGENT: AgentRig,
    Component.FIRMWARE: FirmwareRig,
}
LONG_S = 120.0  # for which a disk is full


class Fault(Enum):
    ERROR = "error"
    KILL = "kill -9"
    HANG = "hang"
    DISK_FULL = "disk full"
    CORRUPT = "corrupt download"
    SUPERSEDED = "superseded"
    CANCELLED = "cancelled"


@dataclass(frozen=True)
class Cell:
    """What is done to a device, and how the update that it was asked for ends."""

    act: Callable[[Rig, S], None]
    ends: S
    runs: int  # which version


# -- to a state -------------------------------------------------------------------------------------------------------


def at(rig: Rig, state: S, strike: Callable[[], None]) -> None:
    """Ask for WANTED, strike as soon as it is in ``state``, and let things go on from there."""
    struck: list[S] = []

    def entered(now: S) -> None:
        if now is state and not struck:
            struck.append(now)
            strike()

    rig.entered = entered
    _towards(rig, state)
    rig.want(WANTED)
    rig.settle()
    assert struck, f"it was never in {state.name}"


def _towards(rig: Rig, state: S) -> None:
    """Ends that do not come by themselves."""
    if state is S.FAILED:
        rig.faults.once("verify", BadModel("its golden run fails"))
    elif state is S.ROLLED_BACK:
        rig.faults.once("activate", BadModel("it does not start"))
    elif state is S.SUPERSEDED:
        rig.faults.meanwhile("fetch", lambda: rig.want(None))


# -- the acts ---------------------------------------------------------------------------------------------------------

ACT = {
    S.OFFERED: "place",
    S.FETCHING: "fetch",
    S.STAGED: "verify",
    S.TRIAL: "judge",
}  # what is done in a state; in others nothing
ERRORS: Mapping[S, Exception] = {
    S.OFFERED: BadPackage("there is no place for it"),
    S.FETCHING: Refused("the hub will not give it"),
    S.STAGED: BadModel("its golden run fails"),
    S.TRIAL: BadModel("it does not start"),
}


def error(rig: Rig, state: S) -> None:
    """The act of the state fails for good; where nothing is done, whatever is looked at between updates fails for a time."""
    if state is S.TRIAL:
        rig.faults.once("activate", ERRORS[state])
        at(rig, S.STAGED, lambda: None)
    elif state in ERRORS:
        rig.faults.once(ACT[state], ERRORS[state])
        at(rig, state, lambda: None)
    else:
        at(rig, state, lambda: rig.faults.once("tend", OSError("the disk has a bad moment"), times=3))


def kill(rig: Rig, state: S) -> None:
    """As the state was entered, before its act and after it: after each the process begins again."""

    def strike() -> None:
        if state in ACT:
            rig.faults.once(ACT[state], Died())
        raise Died

    at(rig, state, strike)


def kill_after(rig: Rig, state: S) -> None:
    """The act was done, and nobody has written that down."""
    acts = {S.TRIAL: "commit"}
    at(rig, state, lambda: rig.faults.once(acts.get(state, ACT.get(state, "tend")), Died(), after=True))


def hang(rig: Rig, state: S) -> None:
    """The act does not come back: whoever oversees the engine ends the process, as often as it takes."""

    def hangs() -> None:
        for _ in range(200):
            rig.clock.advance(PASS_S)
            if rig.engine.oversee():
                raise Died
            if state is S.FETCHING and rig.hub.closed:
                raise LinkDown("the download was cut")
        raise AssertionError("nobody noticed that it hangs")

    def strike() -> None:
        if state in ACT:
            rig.faults.before["download" if state is S.FETCHING else ACT[state]] = hangs
        else:
            rig.let_time_pass(0)  # there is nothing that could hang

    at(rig, state, strike)
    rig.faults.before.clear()


def disk_full(rig: Rig, state: S) -> None:
    """Nothing can be written for a while; what runs runs on."""

    def strike() -> None:
        rig.faults.full = True

    rig.entered = lambda now: strike() if now is state else None
    _towards(rig, state)
    rig.want(WANTED)
    rig.run_until(lambda: rig.faults.full)
    assert rig.faults.full
    rig.let_time_pass(LONG_S)
    assert rig.running() in (OLD, WANTED)
    rig.entered = lambda _: None
    rig.faults.full = False
    rig.settle()


def corrupt(rig: Rig, state: S) -> None:
    """The bytes of it are others: as they come, or as they lie on the disk when the process begins again."""
    if state in (S.OFFERED, S.FETCHING):
        rig.faults.damaging = True
        at(rig, state, lambda: None)
        rig.faults.damaging = False
        return

    def strike() -> None:
        file = rig.file_of(WANTED)
        if file is not None:
            file.write_bytes(DAMAGE)
        if state is not S.STAGED:
            raise Died

    at(rig, state, strike)


def superseded(rig: Rig, state: S) -> None:
    at(rig, state, lambda: rig.want(NEWER))


def cancelled(rig: Rig, state: S) -> None:
    at(rig, state, lambda: rig.want(None))


# -- the table --------------------------------------------------------------------------------------------------------


def ends_of(fault: Fault, state: S) -> tuple[S, int]:
    """How WANTED ends, and what runs then. Raises KeyError where nobody has thought of it."""
    kept = (state, WANTED if state is S.COMMITTED else OLD)
    if state in FINAL:
        return {**dict.fromkeys(Fault, kept), Fault.SUPERSEDED: (state, NEWER)}[fault]
    failed, back, good, gone = (S.FAILED, OLD), (S.ROLLED_BACK, OLD), (S.COMMITTED, WANTED), (S.SUPERSEDED, OLD)
    return {
        S.OFFERED: {
            Fault.ERROR: failed, Fault.KILL: good, Fault.HANG: failed, Fault.DISK_FULL: good, Fault.CORRUPT: failed,
            Fault.SUPERSEDED: (S.SUPERSEDED, NEWER), Fault.CANCELLED: gone,
        },
        S.FETCHING: {
            Fault.ERROR: failed, Fault.KILL: good, Fault.HANG: failed, Fault.DISK_FULL: good, Fault.CORRUPT: failed,
            Fault.SUPERSEDED: (S.SUPERSEDED, NEWER), Fault.CANCELLED: gone,
        },
        S.STAGED: {
            Fault.ERROR: failed, Fault.KILL: good, Fault.HANG: failed, Fault.DISK_FULL: good, Fault.CORRUPT: failed,
            Fault.SUPERSEDED: (S.SUPERSEDED, NEWER), Fault.CANCELLED: gone,
        },
        S.TRIAL: {
            Fault.ERROR: back, Fault.KILL: good, Fault.HANG: back, Fault.DISK_FULL: good, Fault.CORRUPT: back,
            Fault.SUPERSEDED: (S.ROLLED_BACK, NEWER), Fault.CANCELLED: back,
        },
    }[state][fault]  # fmt: skip


ACTS = {
    Fault.ERROR: error,
    Fault.KILL: kill,
    Fault.HANG: hang,
    Fault.DISK_FULL: disk_full,
    Fault.CORRUPT: corrupt,
    Fault.SUPERSEDED: superseded,
    Fault.CANCELLED: cancelled,
}
CELLS = {(fault, state): Cell(ACTS[fault], *ends_of(fault, state)) for fault, state in product(Fault, TRANSITIONS)}


@pytest.fixture(params=RIGS, ids=lambda component: component.value)
def rig(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Rig]:
    made = RIGS[request.param](tmp_path)
    yield made
    made.close()


@pytest.mark.parametrize(("fault", "state"), CELLS, ids=[f"{fault.value} while {state.name}" for fault, state in CELLS])
def test_a_fault_in_a_state_ends_as_it_should_and_the_device_takes_the_next_version(rig: Rig, fault: Fault, state: S) -> None:
    cell = CELLS[fault, state]
    if (rig.component, fault, state) == (Component.FIRMWARE, Fault.CORRUPT, S.TRIAL):
        cell = replace(cell, ends=S.COMMITTED, runs=WANTED)  # it is in its slot: the file that brought it is needed no more
    cell.act(rig, state)
    stays_as_expected(rig, cell)
    rig.entered = lambda _: None
    rig.restart()
    rig.settle()
    stays_as_expected(rig, cell)
    rig.install(AFTERWARDS)


@pytest.mark.parametrize("state", [state for state in TRANSITIONS if state not in FINAL], ids=lambda state: state.name)
def test_a_kill_between_an_act_and_its_note_changes_nothing(rig: Rig, state: S) -> None:
    kill_after(rig, state)
    stays_as_expected(rig, Cell(kill_after, S.COMMITTED, WANTED))
    rig.install(AFTERWARDS)


def stays_as_expected(rig: Rig, cell: Cell) -> None:
    assert (rig.state(WANTED), rig.running(), rig.started_from()) == (cell.ends, cell.runs, cell.runs), rig.standing(WANTED)


def test_every_component_of_this_device_is_in_the_matrix() -> None:
    assert set(RIGS) == set(Component)


def test_a_disk_that_is_full_at_the_start_leaves_what_runs_running(rig: Rig) -> None:
    rig.faults.once("tend", DiskFull("no room"), times=2)
    rig.settle()
    assert rig.running() == OLD
    assert CONFIG.max_attempts > 1


@pytest.mark.parametrize("component", RIGS, ids=lambda component: component.value)
def test_one_attempt_is_enough_for_what_is_good(component: Component, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes with a new start was not tried in the attempt that asked for it."""
    monkeypatch.setattr("tests.agent.update.rigs.CONFIG", replace(CONFIG, max_attempts=1))
    with contextlib.closing(RIGS[component](tmp_path)) as rig:
        rig.install(WANTED)
