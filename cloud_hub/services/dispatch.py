"""What a rollout does to single devices: ask, listen, call off, send back."""

import logging
from datetime import datetime

from cloud_hub.core.errors import Invalid, NotFound, NotReady
from cloud_hub.core.model import Device, ModelVersion, Rollout
from cloud_hub.services.fleet import FleetService, board_named
from cloud_hub.services.registry import RegistryService, find_version
from cloud_hub.store import fleet as fleet_store
from cloud_hub.store import rollout_devices
from cloud_hub.store.database import Tx
from cloud_hub.store.rollout_devices import Touched
from protos.contract.errors import InvalidValue
from protos.contract.ids import DeviceId, ModelName, TenantId
from protos.contract.twin import DesiredTwin, ModelAssignment, ReportedTwin
from protos.contract.update import FINAL, UpdateState

log = logging.getLogger(__name__)

BATCH = 200  # devices dispatched in one transaction: ingest waits for the same database
_MAX_REASON = 1000
_REFUSED = (UpdateState.FAILED, UpdateState.ROLLED_BACK)


class Dispatcher:
    """Works inside the caller's transaction; knows nothing of waves."""

    def __init__(self, registry: RegistryService, fleet: FleetService) -> None:
        self._registry = registry
        self._fleet = fleet

    def dispatch(self, tx: Tx, tenant: TenantId, rollout: Rollout, now: datetime) -> int:
        """Ask up to BATCH waiting devices of the waves so far; how many were asked or need not be.

        Devices wait until what they are to run is signed: a device could not verify it before.
        """
        waiting = rollout_devices.waiting(tx, rollout.id, rollout.wave, BATCH)
        devices = list(fleet_store.find_many(tx, waiting).values())
        if not devices:
            return 0
        version = find_version(tx, tenant, rollout.model, rollout.version)
        others = [device for device in devices if not _runs(device, version)]
        for device in devices:
            if _runs(device, version):
                rollout_devices.put_state(tx, rollout.id, device.id, UpdateState.COMMITTED, "it ran this version already", now)
        if others and not self._registry.offer(tx, tenant, rollout.model, rollout.version):
            return len(devices) - len(others)
        for device in others:
            self._ask(tx, rollout.id, version, device, now)
        return len(devices)

    def record(self, tx: Tx, id: str, device: DeviceId, twin: ReportedTwin, now: datetime) -> bool:
        """What a dispatched device says about this rollout's update; False where nothing changed."""
        row, asked = rollout_devices.get(tx, id, device), fleet_store.find(tx, device)
        if asked is None or row.state is UpdateState.SUPERSEDED:
            return False
        state: UpdateState | None
        if asked.desired.rollout_id != id:
            state, reason = UpdateState.SUPERSEDED, "it was asked for something else"
        else:
            state, reason = _progress(asked.desired, twin)
        if state is None or (state, reason) == (row.state, row.reason) or not _may_follow(row.state, state):
            return False
        generation = max(row.generation, asked.desired.generation)
        rollout_devices.put_state(tx, id, device, state, reason[:_MAX_REASON], now, generation)
        log.info("rollout device", extra={"rollout": id, "device": device, "state": state.name, "reason": reason[:_MAX_REASON]})
        return True

    def call_off(self, tx: Tx, id: str, now: datetime) -> None:
        """Stop updates on the way; a device on trial ends its trial, and what is committed stays."""
        for touched, device in _following(tx, id):
            if touched.state not in FINAL and touched.state is not UpdateState.TRIAL:
                self._fleet.ask(tx, device, None)
                rollout_devices.put_state(tx, id, device.id, UpdateState.SUPERSEDED, "called off", now)

    def send_back(self, tx: Tx, id: str, now: datetime) -> None:
        """Every dispatched device that still follows the rollout is asked for what it ran before, as a new generation."""
        following = _following(tx, id)
        # each version once: offered device by device, two of them would overtake one another every time
        for tenant, name, version in dict.fromkeys(
            (device.tenant, touched.previous.name, touched.previous.version)
            for touched, device in following
            if touched.previous
        ):
            self._take_back(tx, tenant, name, version)
        for touched, device in following:
            before = touched.previous
            self._fleet.ask(tx, device, before, id)
            if touched.state in _REFUSED:
                continue  # it went back by itself; its reason is worth more than ours
            if before is not None:
                state, reason = UpdateState.ROLLED_BACK, f"sent back to {before.name}:{before.version}"
            elif touched.state is UpdateState.COMMITTED:
                state, reason = UpdateState.COMMITTED, "it ran nothing before: there is nothing to send it back to"
            else:
                state, reason = UpdateState.SUPERSEDED, "called off"
            rollout_devices.put_state(tx, id, device.id, state, reason, now)

    def _take_back(self, tx: Tx, tenant: TenantId, name: ModelName, version: int) -> None:
        """A device goes back to an older version only where the hub has released that anew."""
        try:
            self._registry.offer(tx, tenant, name, version)
        except (NotFound, Invalid) as error:  # devices run what this hub never published: then they stay where they are
            log.warning("cannot be released anew", extra={"model": name, "version": version, "reason": str(error)})

    def _ask(self, tx: Tx, id: str, version: ModelVersion, device: Device, now: datetime) -> None:
        runtimes = device.reported.runtimes if device.reported else ()
        try:
            variant, assignment = self._registry.assignment(version, board_named(device.board), runtimes)
        except (NotReady, InvalidValue) as error:
            rollout_devices.put_state(tx, id, device.id, UpdateState.FAILED, str(error)[:_MAX_REASON], now)
            return
        twin = self._fleet.ask(tx, device, assignment, id)
        previous = _settled(device)
        rollout_devices.dispatched(tx, id, device.id, generation=twin.generation, target=variant.target, previous=previous)


def _following(tx: Tx, id: str) -> list[tuple[Touched, Device]]:
    """Dispatched devices of a rollout that have not been asked for anything else since."""
    touched = rollout_devices.touched(tx, id)
    devices = fleet_store.find_many(tx, [one.device for one in touched])
    pairs = [(one, devices[one.device]) for one in touched if one.device in devices]
    return [(one, device) for one, device in pairs if device.desired.rollout_id == id]


def _progress(desired: DesiredTwin, twin: ReportedTwin) -> tuple[UpdateState | None, str]:
    """What a report says about this desired twin; None: nothing."""
    update = twin.update
    if desired.model is None:
        return None, ""
    runs_it = twin.model is not None and _same(twin.model, desired.model)
    if update is not None and update.generation == desired.generation:
        if update.state is UpdateState.COMMITTED and not runs_it:
            return None, ""  # the two parts of a report contradict each other: wait for one that does not
        return update.state, update.reason
    if twin.generation == desired.generation and runs_it:
        return UpdateState.COMMITTED, ""  # it ran it already and had nothing to update
    return None, ""


def _may_follow(state: UpdateState | None, following: UpdateState) -> bool:
    if state in FINAL:  # a report that came late; but what was committed may still be taken back
        return state is UpdateState.COMMITTED and following is UpdateState.ROLLED_BACK
    return True


def _settled(device: Device) -> ModelAssignment | None:
    """What it runs, unless that is on trial itself."""
    twin = device.reported
    if twin is None or twin.model is None:
        return None
    update = twin.update
    on_trial = update is not None and update.state is UpdateState.TRIAL and _same(update.model, twin.model)
    return None if on_trial else twin.model


def _runs(device: Device, version: ModelVersion) -> bool:
    """And nothing else has been asked of it."""
    running, asked = _settled(device), device.desired.model
    wanted = (version.name, version.version)
    return (
        running is not None
        and (running.name, running.version) == wanted
        and (asked is None or (asked.name, asked.version) == wanted)
    )


def _same(one: ModelAssignment, other: ModelAssignment) -> bool:
    return (one.name, one.version) == (other.name, other.version)
