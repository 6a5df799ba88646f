"""What a rollout does to devices: ask, listen, call off, send back."""

import logging
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import datetime

from cloud_hub.core.errors import Invalid, NotFound, NotReady
from cloud_hub.core.model import Device, Rollout, RolloutDevice
from cloud_hub.core.update_lines import Assignment, Line, When, line_of, may_follow, progress, same, settled, timed
from cloud_hub.services.cargo import Cargo, Hold
from cloud_hub.services.fleet import FleetService
from cloud_hub.store import fleet as fleet_store
from cloud_hub.store import rollout_devices, rollout_unwinds
from cloud_hub.store.database import Tx
from cloud_hub.store.rollout_devices import Asked, Open
from cloud_hub.store.rollout_unwinds import How, Unwind
from protos.contract.errors import InvalidValue
from protos.contract.ids import DeviceId, TenantId
from protos.contract.twin import DesiredTwin, PackageAssignment, ReportedTwin
from protos.contract.update import FINAL, UpdateState

log = logging.getLogger(__name__)

BATCH = 200  # devices asked in one transaction: ingest waits for the same database
_MAX_REASON = 1000
_REFUSED = (UpdateState.FAILED, UpdateState.ROLLED_BACK)
_RAN_IT = "it ran this version already"

Change = tuple[RolloutDevice, UpdateState, str]


class Dispatcher:
    """Works inside the caller's transaction, a batch at a time; knows nothing of waves."""

    def __init__(self, hold: Hold, fleet: FleetService) -> None:
        self._hold = hold
        self._fleet = fleet

    def offer(self, tx: Tx, tenant: TenantId, rollout: Rollout) -> None:
        """As a rollout starts: from here on its version is what devices may go to. Raises NotFound, Invalid."""
        self._hold.cargo(tenant, rollout.plan).offer(tx)

    def dispatch(self, tx: Tx, tenant: TenantId, rollout: Rollout, now: datetime, *, limit: int) -> int:
        """Ask up to ``limit`` (and BATCH) waiting devices of the waves so far; how many were asked or need not be.

        Devices wait until what they are to run is signed: a device could not verify it before.
        """
        waiting = {row.device: row for row in rollout_devices.waiting(tx, rollout.id, rollout.wave, min(limit, BATCH))}
        devices = list(fleet_store.find_many(tx, list(waiting)).values())
        if not devices:
            return 0
        cargo, line = self._hold.cargo(tenant, rollout.plan), line_of(rollout.plan.component)
        there = [device for device in devices if _runs(line, device, rollout)]
        done: list[Change] = [(waiting[device.id], UpdateState.COMMITTED, _RAN_IT) for device in there]
        running = {device.id for device in there}
        others = [device for device in devices if device.id not in running]
        ready = bool(others) and cargo.ready(tx)
        if ready:
            done += self._ask(tx, rollout, cargo, [(waiting[device.id], device) for device in others], now)
        rollout_devices.put_states(tx, rollout.id, done, now)
        return len(there) + (len(others) if ready else 0)

    def record(self, tx: Tx, place: Open, twin: ReportedTwin, now: datetime) -> UpdateState | None:
        """What a device says about the update that a rollout asked it for: its new state; None where nothing changed."""
        row, line = place.row, line_of(place.component)
        if row.state is UpdateState.COMMITTED and not _takes_back(line, twin):
            return None
        asked = fleet_store.desired(tx, row.device)
        if asked is None:
            return None
        state: UpdateState | None = UpdateState.SUPERSEDED
        reason = "it was asked for something else"
        if line.follows(asked) == place.rollout:
            state, reason = progress(line, asked, row.generation, twin)
        reason = reason[:_MAX_REASON]
        if state is None or (state, reason) == (row.state, row.reason) or not may_follow(row.state, state):
            return None
        rollout_devices.put_states(tx, place.rollout, [(row, state, reason)], now)
        log.info(
            "rollout device", extra={"rollout": place.rollout, "device": row.device, "state": state.name, "reason": reason}
        )
        return state

    def begin_unwinding(self, tx: Tx, tenant: TenantId, rollout: Rollout, how: How, wave: int | None, now: datetime) -> bool:
        """Tell the devices that the rollout (or one wave of it) is over, the first batch of them now; True where some are left.

        CALL_OFF: updates on the way stop; a device on trial ends its trial, and what is committed stays. SEND_BACK: every asked
        device that still follows the rollout is asked for what it ran before.
        """
        if how is How.SEND_BACK:
            # each version once: offered device by device, two of them would overtake one another every time
            known = rollout_devices.previous_of(tx, rollout.id, wave)
            for previous in {(one.name, one.version): one for one in known}.values():
                self._take_back(tx, tenant, previous)
        rollout_unwinds.begin(tx, rollout.id, how, wave)
        return self.unwind(tx, rollout, now)

    def unwind(self, tx: Tx, rollout: Rollout, now: datetime) -> bool:
        """The next batch; False: none is left."""
        unwind = rollout_unwinds.find(tx, rollout.id)
        if unwind is None:
            return False
        rows = rollout_devices.touched(tx, rollout.id, unwind.wave, after=unwind.after, limit=BATCH)
        devices = fleet_store.find_many(tx, [row.device for row in rows])
        line = line_of(rollout.plan.component)
        pairs = [(row, devices[row.device]) for row in rows if row.device in devices]
        following = [(row, device) for row, device in pairs if line.follows(device.desired) == rollout.id]
        busy = rollout_devices.busy_elsewhere(tx, rollout.id, [row.device for row, _ in following])
        twins, changes = _unwound(line, rollout.id, unwind, following, busy)
        self._fleet.ask_many(tx, twins)
        rollout_devices.put_states(tx, rollout.id, changes, now)
        if len(rows) < BATCH:
            rollout_unwinds.end(tx, rollout.id)
            return False
        rollout_unwinds.put_after(tx, rollout.id, rows[-1].device)
        return True

    def _ask(
        self, tx: Tx, rollout: Rollout, cargo: Cargo, pairs: Sequence[tuple[RolloutDevice, Device]], now: datetime
    ) -> list[Change]:
        """Those for which there is nothing."""
        line, plan = line_of(rollout.plan.component), rollout.plan
        busy = rollout_devices.busy_elsewhere(tx, rollout.id, [row.device for row, _ in pairs])
        before = _ran_before(tx, line, [device for _, device in pairs])
        asked, twins, failed = [], [], []
        for row, device in pairs:
            try:
                target, what = cargo.chosen(tx, device)
            except (NotFound, NotReady, InvalidValue) as error:
                failed.append((row, UpdateState.FAILED, str(error)[:_MAX_REASON]))
                continue
            when = When(windows=plan.windows, not_before=plan.not_before)
            twin = timed(line.asking(device.desired, what, rollout.id), when, others_wait=device.id in busy)
            twins.append((device.id, _next(twin)))
            previous = before.get(device.id) or settled(line, device.reported)
            asked.append(Asked(row=row, generation=twin.generation + 1, target=target, previous=previous))
        self._fleet.ask_many(tx, twins)
        rollout_devices.put_asked(tx, rollout.id, asked, now)
        return failed

    def _take_back(self, tx: Tx, tenant: TenantId, previous: Assignment) -> None:
        """A device goes back to an older version only where the hub has released that anew."""
        try:
            self._hold.cargo_of(tenant, previous).offer(tx)
        except (NotFound, Invalid) as error:  # devices run what this hub never published: then they stay where they are
            fields = {"what": previous.name, "version": previous.version, "reason": str(error)}
            log.warning("cannot be released anew", extra=fields)


def _ran_before(tx: Tx, line: Line, devices: Sequence[Device]) -> dict[DeviceId, Assignment]:
    """What the rollout that they follow knows of those that run what does not stay: on trial, or on the way back from it."""
    passing: dict[str, dict[DeviceId, Assignment | None]] = defaultdict(dict)  # by rollout: None, or what is to come back
    for device in devices:
        has, wanted = line.has(device.reported) if device.reported is not None else None, line.wanted(device.desired)
        if has is not None and settled(line, device.reported) is None:
            passing[line.follows(device.desired)][device.id] = None
        elif has is not None and wanted is not None and not same(has, wanted):
            passing[line.follows(device.desired)][device.id] = wanted
    found: dict[DeviceId, Assignment] = {}
    for rollout, back in passing.items():
        for id, row in rollout_devices.find(tx, rollout, list(back)).items():
            wanted = back[id]
            if row.previous is not None and (wanted is None or same(row.previous, wanted)):
                found[id] = row.previous
    return found


def _unwound(
    line: Line, id: str, unwind: Unwind, following: Sequence[tuple[RolloutDevice, Device]], busy: Collection[DeviceId]
) -> tuple[list[tuple[DeviceId, DesiredTwin]], list[Change]]:
    """Whoever goes back does so at once, in no window; unless another rollout's update waits for that window (``busy``)."""
    twins, changes = [], []
    for row, device in following:
        if unwind.how is How.CALL_OFF:
            if row.state not in FINAL and row.state is not UpdateState.TRIAL:
                twins.append((device.id, _next(line.asking(device.desired, None, ""))))
                changes.append((row, UpdateState.SUPERSEDED, "called off"))
            continue
        back = line.asking(device.desired, row.previous, id)
        twins.append((device.id, _next(timed(back, When(), others_wait=device.id in busy))))
        if row.state not in _REFUSED:  # it went back by itself; its reason is worth more than ours
            changes.append((row, *_sent_back(row)))
    return twins, changes


def _sent_back(row: RolloutDevice) -> tuple[UpdateState, str]:
    before = row.previous
    if before is not None:
        return UpdateState.ROLLED_BACK, f"sent back to {_named(before)}"
    if row.state is UpdateState.COMMITTED:
        return UpdateState.COMMITTED, "it ran nothing before: there is nothing to send it back to"
    return UpdateState.SUPERSEDED, "called off"


def _named(what: Assignment) -> str:
    return f"{what.name} {what.version}" if isinstance(what, PackageAssignment) else f"{what.name}:{what.version}"


def _next(twin: DesiredTwin) -> DesiredTwin:
    return replace(twin, generation=twin.generation + 1)


def _takes_back(line: Line, twin: ReportedTwin) -> bool:
    news = line.news(twin)
    return news is not None and news.state is UpdateState.ROLLED_BACK


def _runs(line: Line, device: Device, rollout: Rollout) -> bool:
    """The very version, and nothing else has been asked of it."""
    running, asked = settled(line, device.reported), line.wanted(device.desired)
    if running is None or (running.name, str(running.version)) != (rollout.plan.name, rollout.plan.version):
        return False
    return asked is None or same(running, asked)
