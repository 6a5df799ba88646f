"""Use cases about rollouts: a version to devices, in waves. Everything is in the database; a restart loses nothing."""

import builtins
import logging
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from cloud_hub.core import pages
from cloud_hub.core.errors import Conflict, Invalid, NotFound, NotReady
from cloud_hub.core.labels import checked_selector
from cloud_hub.core.model import (
    ROLLOUT_ENDED,
    Device,
    Principal,
    Rollout,
    RolloutState,
)
from cloud_hub.core.pages import FIRST, Page
from cloud_hub.core.waves import Step, Verdict, judge
from cloud_hub.services import releases
from cloud_hub.services.dispatch import Dispatcher
from cloud_hub.services.fleet import FleetService
from cloud_hub.services.registry import CHAMPION, RegistryService, find_version
from cloud_hub.store import fleet as fleet_store
from cloud_hub.store import registry as registry_store
from cloud_hub.store import rollout_devices
from cloud_hub.store import rollouts as store
from cloud_hub.store.database import Database, Tx
from edge_agent.core.clock import Clock
from protos.contract.ids import DeviceId, ModelName, TenantId
from protos.contract.twin import Presence, ReportedTwin

log = logging.getLogger(__name__)

MAX_SOAK_S = 30 * 24 * 3600
MAX_DEVICES = 1_000_000
_ACTIVE = (RolloutState.RUNNING, RolloutState.PAUSED)


class RolloutService:
    """A device follows the newest rollout that names it."""

    def __init__(self, db: Database, registry: RegistryService, fleet: FleetService, clock: Clock) -> None:
        self._db = db
        self._clock = clock
        self._dispatch = Dispatcher(registry, fleet)

    def create(
        self,
        who: Principal,
        model: ModelName,
        version: int,
        selector: Mapping[str, str],
        canary: int = 0,
        soak_s: int = 0,
        max_failures: int = 0,
    ) -> Rollout:
        """Start one: ``canary`` devices first (0: all at once), online ones preferred. An older one of the model is aborted.

        Raises:
            NotFound: no such version.
            NotReady: the selector matches no device, or nothing can be signed for devices yet.
            Invalid: selector or numbers cannot be used.
        """
        selector = checked_selector(selector)
        _check_bounds(canary=(canary, MAX_DEVICES), soak_s=(soak_s, MAX_SOAK_S), max_failures=(max_failures, MAX_DEVICES))
        rollout = Rollout(
            id=f"r-{secrets.token_hex(5)}",
            model=model,
            version=version,
            selector=selector,
            canary=canary,
            soak_s=soak_s,
            max_failures=max_failures,
            state=RolloutState.RUNNING,
            wave=0,
            waves=1,
            reason="",
            devices=(),
            created_by=who.name,
            created_at=self._clock.now(),
        )
        with self._db.write() as tx:
            self._start(tx, who.tenant, rollout)
            rollout = _whole(tx, who.tenant, rollout.id)
        log.info("rollout created", extra={"rollout": rollout.id, "model": model, "version": version, "by": who.name})
        return rollout

    def get(self, who: Principal, id: str) -> Rollout:
        """Raises NotFound."""
        with self._db.read() as tx:
            return _whole(tx, who.tenant, id)

    def list(self, who: Principal, active_only: bool = False, page: Page = FIRST) -> tuple[builtins.list[Rollout], str]:
        """Newest first, without their devices, and the token of the next page: empty at the end. Raises Invalid."""
        before = pages.number(pages.checked(page))
        with self._db.read() as tx:
            rows = store.newest(tx, who.tenant, active_only=active_only, before=before, limit=page.size + 1)
        return pages.cut(rows, page)

    def began(self, who: Principal, model: ModelName, version: int) -> bool:
        """Whether there ever was a rollout of this version."""
        with self._db.read() as tx:
            return store.any_of(tx, who.tenant, model, version)

    def pause(self, who: Principal, id: str) -> Rollout:
        """No device is dispatched until it is resumed; failures still stop it. Raises NotFound, Conflict."""
        with self._db.write() as tx:
            self._expect(tx, who, id, RolloutState.RUNNING)
            store.put_state(tx, id, RolloutState.PAUSED, f"paused by {who.name}", self._clock.now())
            return self._logged(tx, who, id)

    def resume(self, who: Principal, id: str) -> Rollout:
        """Raises NotFound, Conflict."""
        now = self._clock.now()
        with self._db.write() as tx:
            self._expect(tx, who, id, RolloutState.PAUSED)
            store.put_state(tx, id, RolloutState.RUNNING, "", now)
            self._advance(tx, id, now)
            return self._logged(tx, who, id)

    def abort(self, who: Principal, id: str) -> Rollout:
        """Devices keep what they run; updates on the way are called off. Raises NotFound, Conflict."""
        with self._db.write() as tx:
            self._expect(tx, who, id, *_ACTIVE)
            self._abort(tx, id, f"aborted by {who.name}", self._clock.now())
            return self._logged(tx, who, id)

    def rollback(self, who: Principal, id: str) -> Rollout:
        """Every device it touched, and that still follows it, is sent back to what it ran before. Raises NotFound, Conflict."""
        now = self._clock.now()
        with self._db.write() as tx:
            rollout = self._expect(tx, who, id, *_ACTIVE, RolloutState.SUCCEEDED, RolloutState.ABORTED)
            self._dispatch.send_back(tx, id, now)
            _restore_champion(tx, who.tenant, rollout)
            store.put_state(tx, id, RolloutState.ROLLED_BACK, f"rolled back by {who.name}", now)
            return self._logged(tx, who, id)

    def on_reported(self, tx: Tx, device: DeviceId, twin: ReportedTwin) -> None:
        """Record how an update goes and advance; after ``FleetService.on_reported``, in the same transaction."""
        now = self._clock.now()
        for id in rollout_devices.open_for(tx, device):
            if self._dispatch.record(tx, id, device, twin, now):
                self._advance(tx, id, now)

    def tick(self, now: datetime) -> None:
        """What no report brings about: soak times that end, devices that join, waves too large for one transaction."""
        with self._db.read() as tx:
            active = store.active_ids(tx)
        for id in active:
            try:
                self._go_on(id, now)
            except Exception:  # outermost edge for one rollout: it must not hold up the others
                log.exception("rollout cannot go on", extra={"rollout": id})

    def _go_on(self, id: str, now: datetime) -> None:
        more = True
        while more:
            with self._db.write() as tx:
                self._join(tx, id, now)
                more = self._advance(tx, id, now)

    def _start(self, tx: Tx, tenant: TenantId, rollout: Rollout) -> None:
        id, now = rollout.id, rollout.created_at
        find_version(tx, tenant, rollout.model, rollout.version)
        releases.check_ready(tx)
        planned = _planned(fleet_store.matching(tx, tenant, rollout.selector), rollout.canary)
        if not planned:
            terms = ", ".join(f"{key}={value}" for key, value in rollout.selector.items())
            raise NotReady(f"no device matches [{terms}]: register one or change the selector")
        for older in store.active_of_model(tx, tenant, rollout.model):
            self._abort(tx, older, f"rollout {id} took over", now)
        store.add(tx, tenant, replace(rollout, waves=len(planned)))
        for wave, devices in enumerate(planned):
            rollout_devices.add(tx, id, wave, devices)
            self._take_over(tx, id, devices, now)
        self._advance(tx, id, now)

    def _advance(self, tx: Tx, id: str, now: datetime) -> bool:
        """As far as it goes now; True where devices of the wave are left to dispatch in another transaction."""
        dispatched = False
        while True:
            tenant, rollout = _found(tx, id)
            if rollout.state in ROLLOUT_ENDED:
                return False
            verdict = _judged(tx, rollout, now)
            if verdict.step is Step.FAIL:
                self._fail(tx, id, verdict.reason, now)
            elif rollout.state is RolloutState.PAUSED:
                return False
            elif verdict.step is Step.WAIT and dispatched:
                return bool(rollout_devices.waiting(tx, id, rollout.wave, 1))
            elif verdict.step is Step.WAIT:
                dispatched = True
                if not self._dispatch.dispatch(tx, tenant, rollout, now):
                    return False
            elif verdict.step is Step.NEXT:
                dispatched = False
                store.put_wave(tx, id, rollout.wave + 1)
                log.info("rollout wave passed", extra={"rollout": id, "wave": rollout.wave})
            elif verdict.step is Step.SUCCEED:
                self._succeed(tx, tenant, rollout, now)
            else:
                self._abort(tx, id, verdict.reason, now)

    def _join(self, tx: Tx, id: str, now: datetime) -> None:
        """Devices that came to match the selector, once the last wave is reached."""
        tenant, rollout = _found(tx, id)
        if rollout.state is not RolloutState.RUNNING or rollout.wave + 1 < rollout.waves:
            return
        taken = rollout_devices.taken(tx, id)
        joined = [device for device in fleet_store.matching_ids(tx, tenant, rollout.selector) if device not in taken]
        if joined:
            rollout_devices.add(tx, id, rollout.wave, joined)
            self._take_over(tx, id, joined, now)
            log.info("devices joined rollout", extra={"rollout": id, "devices": len(joined)})

    def _take_over(self, tx: Tx, id: str, devices: Sequence[DeviceId], now: datetime) -> None:
        for other in rollout_devices.take_over(tx, id, devices, now):
            self._advance(tx, other, now)

    def _succeed(self, tx: Tx, tenant: TenantId, rollout: Rollout, now: datetime) -> None:
        before = registry_store.aliased(tx, tenant, rollout.model, CHAMPION)
        store.put_champion_before(tx, rollout.id, before)
        registry_store.put_alias(tx, tenant, rollout.model, CHAMPION, rollout.version)
        store.put_state(tx, rollout.id, RolloutState.SUCCEEDED, "", now)
        log.info("rollout succeeded", extra={"rollout": rollout.id, "model": rollout.model, "version": rollout.version})

    def _fail(self, tx: Tx, id: str, reason: str, now: datetime) -> None:
        failure = rollout_devices.first_failure(tx, id)
        if failure is not None:
            reason = f"{reason}; first {failure[0]}: {failure[1] or 'no reason given'}"
        self._dispatch.send_back(tx, id, now)
        store.put_state(tx, id, RolloutState.FAILED, reason, now)
        log.warning("rollout failed", extra={"rollout": id, "reason": reason})

    def _abort(self, tx: Tx, id: str, reason: str, now: datetime) -> None:
        self._dispatch.call_off(tx, id, now)
        store.put_state(tx, id, RolloutState.ABORTED, reason, now)
        log.info("rollout aborted", extra={"rollout": id, "reason": reason})

    def _expect(self, tx: Tx, who: Principal, id: str, *states: RolloutState) -> Rollout:
        tenant, rollout = _found(tx, id)
        if tenant != who.tenant:
            raise _unknown(id)
        if rollout.state not in states:
            raise Conflict(f"rollout {id} is {rollout.state.name}: this takes one that is {_names(states)}")
        return rollout

    def _logged(self, tx: Tx, who: Principal, id: str) -> Rollout:
        rollout = _whole(tx, who.tenant, id)
        log.info("rollout changed", extra={"rollout": id, "state": rollout.state.name, "by": who.name})
        return rollout


def _judged(tx: Tx, rollout: Rollout, now: datetime) -> Verdict:
    tallies = rollout_devices.tallies(tx, rollout.id, rollout.waves)
    return judge(tallies, rollout.wave, max_failures=rollout.max_failures, soak_s=rollout.soak_s, now=now)


def _planned(devices: Sequence[Device], canary: int) -> builtins.list[builtins.list[DeviceId]]:
    """The devices of each wave; as canary, one that is online can answer for the others sooner."""
    ordered = [d.id for d in sorted(devices, key=lambda device: (device.presence is not Presence.ONLINE, device.id))]
    first = canary or len(ordered)
    return [wave for wave in (ordered[:first], ordered[first:]) if wave]


def _restore_champion(tx: Tx, tenant: TenantId, rollout: Rollout) -> None:
    if rollout.state is not RolloutState.SUCCEEDED:
        return
    if registry_store.aliased(tx, tenant, rollout.model, CHAMPION) == rollout.version:
        registry_store.put_alias(tx, tenant, rollout.model, CHAMPION, store.champion_before(tx, rollout.id))


def _found(tx: Tx, id: str) -> tuple[TenantId, Rollout]:
    """Without its devices. Raises NotFound."""
    found = store.find(tx, id)
    if found is None:
        raise _unknown(id)
    return found


def _whole(tx: Tx, tenant: TenantId, id: str) -> Rollout:
    owner, rollout = _found(tx, id)
    if owner != tenant:
        raise _unknown(id)
    return replace(rollout, devices=rollout_devices.of_rollout(tx, id))


def _unknown(id: str) -> NotFound:
    return NotFound(f"no rollout {id[:64]!r}")


def _names(states: Sequence[RolloutState]) -> str:
    return " or ".join(state.name for state in states)


def _check_bounds(**values: tuple[int, int]) -> None:
    for name, (value, most) in values.items():
        if not 0 <= value <= most:
            raise Invalid(f"{name} must be in 0..{most}, got {value}")
