"""Use cases about rollouts: a version to devices, in waves. Everything is in the database; a restart loses nothing."""

import builtins
import logging
import secrets
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime

from cloud_hub.core import pages, rollout_plan
from cloud_hub.core.errors import Conflict, Invalid, NotFound
from cloud_hub.core.gates import GateVerdict
from cloud_hub.core.model import ROLLOUT_UNDER_WAY, Principal, Rollout, RolloutDevice, RolloutState
from cloud_hub.core.pages import FIRST, Page
from cloud_hub.core.rollout_plan import Component, OnBreach, RolloutPlan
from cloud_hub.services import releases
from cloud_hub.services.cargo import Hold
from cloud_hub.services.dispatch import Dispatcher
from cloud_hub.services.fleet import FleetService
from cloud_hub.services.gates import GateKeeper
from cloud_hub.services.packages import PackageService
from cloud_hub.services.registry import CHAMPION, RegistryService, find_version
from cloud_hub.services.rollout_course import BY_GATE, Course, found, unknown
from cloud_hub.services.rollout_rounds import Rounds
from cloud_hub.store import registry as registry_store
from cloud_hub.store import rollout_devices, rollout_waves
from cloud_hub.store import rollouts as store
from cloud_hub.store.database import Database, Tx
from edge_agent.core.clock import Clock
from protos.contract.ids import DeviceId, ModelName, TenantId
from protos.contract.twin import ReportedTwin
from protos.contract.update import FINAL, UpdateState

log = logging.getLogger(__name__)

SHOWN = 1000  # devices of a rollout that come with it; the rest in pages


class RolloutService:
    """Of each component, a device follows the newest rollout that names it."""

    def __init__(
        self, db: Database, registry: RegistryService, fleet: FleetService, clock: Clock, packages: PackageService
    ) -> None:
        self._db = db
        self._clock = clock
        self._packages = packages
        self._gates = GateKeeper()
        self._dispatch = Dispatcher(Hold(registry, packages), fleet)
        self._course = Course(self._dispatch, self._gates)
        self._rounds = Rounds(db, self._course, self._dispatch)

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
        """``launch`` in short: ``canary`` devices first (0: all at once), then the rest."""
        plan = rollout_plan.of_model(model, version, selector, canary=canary, soak_s=soak_s, max_failures=max_failures)
        return self.launch(who, plan)

    def launch(self, who: Principal, plan: RolloutPlan) -> Rollout:
        """Start one, or schedule it as its plan says.

        Raises:
            NotFound: no such version.
            NotReady: the selector matches no device, or nothing can be signed for devices yet.
            Invalid: the plan cannot be used.
        """
        now = self._clock.now()
        with self._db.write() as tx:
            plan = self._resolved(tx, who.tenant, plan)
            rollout = _new(plan, who, now)
            store.add(tx, who.tenant, rollout)
            rollout_waves.add(tx, rollout.id, rollout.waves)
            if not plan.manual and (plan.start is None or plan.start <= now):
                self._course.begin(tx, who.tenant, rollout, now)
            else:
                releases.check_ready(tx)
            rollout = _whole(tx, who.tenant, rollout.id)
        log.info("rollout created", extra={"rollout": rollout.id, "what": plan.what, "by": who.name})
        return rollout

    def get(self, who: Principal, id: str) -> Rollout:
        """With its first SHOWN devices. Raises NotFound."""
        with self._db.read() as tx:
            return _whole(tx, who.tenant, id)

    def view(self, who: Principal, id: str) -> tuple[Rollout, GateVerdict]:
        """``get``, and what its gates judged last. Raises NotFound."""
        with self._db.read() as tx:
            return _whole(tx, who.tenant, id), self._gates.look(tx, id, self._clock.now())

    def devices(
        self, who: Principal, id: str, state: UpdateState | None = None, page: Page = FIRST
    ) -> tuple[builtins.list[RolloutDevice], str]:
        """By wave and id, and the token of the next page: empty at the end. Raises NotFound, Invalid."""
        after = _place(pages.checked(page))
        with self._db.read() as tx:
            _owned(tx, who, id)
            rows = rollout_devices.of_rollout(tx, id, after=after, limit=page.size + 1, state=state)
        shown = list(rows[: page.size])
        return shown, f"{shown[-1].wave} {shown[-1].device}" if len(rows) > page.size else ""

    def list(self, who: Principal, active_only: bool = False, page: Page = FIRST) -> tuple[builtins.list[Rollout], str]:
        """Newest first, without waves and devices, and the token of the next page: empty at the end. Raises Invalid."""
        before = pages.number(pages.checked(page))
        with self._db.read() as tx:
            rows = store.newest(tx, who.tenant, active_only=active_only, before=before, limit=page.size + 1)
        return pages.cut(rows, page)

    def began(self, who: Principal, model: ModelName, version: int) -> bool:
        """Whether there ever was a rollout of this version."""
        with self._db.read() as tx:
            return store.any_of(tx, who.tenant, model, version)

    # -- what people do -------------------------------------------------------------------------------------------------

    def start(self, who: Principal, id: str) -> Rollout:
        """A scheduled one now, whatever its time. Raises NotFound, Conflict, NotReady."""
        with self._db.write() as tx:
            rollout = _expect(tx, who, id, RolloutState.SCHEDULED)
            self._course.begin(tx, who.tenant, rollout, self._clock.now())
            return _logged(tx, who, id)

    def approve(self, who: Principal, id: str) -> Rollout:
        """Let the next wave begin. Raises NotFound, Conflict."""
        now = self._clock.now()
        with self._db.write() as tx:
            rollout = _expect(tx, who, id, RolloutState.AWAITING_APPROVAL)
            rollout_waves.put_approved(tx, id, rollout.wave, who.name)
            rollout_waves.put_started(tx, id, rollout.wave, now)
            store.put_state(tx, id, RolloutState.RUNNING, "", now)
            self._course.advance(tx, id, now)
            return _logged(tx, who, id)

    def pause(self, who: Principal, id: str) -> Rollout:
        """No device is asked until it is resumed; failures still stop it. Raises NotFound, Conflict."""
        with self._db.write() as tx:
            _expect(tx, who, id, RolloutState.RUNNING)
            store.put_state(tx, id, RolloutState.PAUSED, f"paused by {who.name}", self._clock.now())
            return _logged(tx, who, id)

    def resume(self, who: Principal, id: str) -> Rollout:
        """Where it paused by itself, what it saw is forgiven: it goes on in spite of it. Raises NotFound, Conflict."""
        now = self._clock.now()
        with self._db.write() as tx:
            rollout = _expect(tx, who, id, RolloutState.PAUSED)
            self._make_up(tx, rollout, now)
            self._course.resume(tx, rollout, now)
            return _logged(tx, who, id)

    def abort(self, who: Principal, id: str) -> Rollout:
        """Devices keep what they run, updates on the way are called off; one that is kept open is closed.

        Raises NotFound, Conflict.
        """
        with self._db.write() as tx:
            kept_open = {RolloutState.SUCCEEDED} if _owned(tx, who, id).plan.keep_open else set()
            rollout = _expect(tx, who, id, *ROLLOUT_UNDER_WAY, RolloutState.SCHEDULED, *kept_open)
            self._course.stop(tx, who.tenant, rollout, RolloutState.ABORTED, f"aborted by {who.name}", self._clock.now())
            return _logged(tx, who, id)

    def rollback(self, who: Principal, id: str) -> Rollout:
        """Every device it touched, and that still follows it, is sent back to what it ran before. Raises NotFound, Conflict."""
        now = self._clock.now()
        with self._db.write() as tx:
            some_have_it = _owned(tx, who, id).plan.on_breach is OnBreach.ROLLBACK_WAVE
            failed = {RolloutState.FAILED} if some_have_it else set()
            rollout = _expect(tx, who, id, *ROLLOUT_UNDER_WAY, RolloutState.SUCCEEDED, RolloutState.ABORTED, *failed)
            _restore_champion(tx, who.tenant, rollout)
            self._course.stop(tx, who.tenant, rollout, RolloutState.ROLLED_BACK, f"rolled back by {who.name}", now)
            return _logged(tx, who, id)

    # -- what happens ---------------------------------------------------------------------------------------------------

    def on_reported(self, tx: Tx, device: DeviceId, twin: ReportedTwin) -> None:
        """Record how updates go and advance; after ``FleetService.on_reported``, in the same transaction."""
        now = self._clock.now()
        for place in rollout_devices.open_for(tx, device):
            if self._dispatch.record(tx, place, twin, now) in FINAL:  # on the way, it moves no wave
                self._course.advance(tx, place.rollout, now)

    def tick(self, now: datetime) -> None:
        """What no report brings about: times that come, devices that join, waves too large for one transaction."""
        self._rounds.tick(now)

    def _make_up(self, tx: Tx, rollout: Rollout, now: datetime) -> None:
        """The pause counts for nothing; what it paused for is forgiven."""
        since, asked_at = store.paused_at(tx, rollout.id), rollout.standings[rollout.wave].asked_at
        if since is not None and asked_at is not None:
            rollout_waves.put_asked(tx, rollout.id, rollout.wave, now if rollout.breached else asked_at + (now - since))
        if rollout.breached:
            store.put_forgiven(tx, rollout.id, sum(wave.failed for wave in rollout.standings))
        if rollout.breached and rollout.reason.startswith(BY_GATE):
            self._gates.waive(tx, rollout.id)

    def _resolved(self, tx: Tx, tenant: TenantId, plan: RolloutPlan) -> RolloutPlan:
        """With the version's number in place of an alias. Raises NotFound."""
        if plan.component is not Component.MODEL:
            self._packages.check(tx, tenant, plan.component.kind, plan.name, plan.version)
            return plan
        name = ModelName(plan.name)
        numbered = plan.version.isascii() and plan.version.isdigit()
        number = int(plan.version) if numbered else registry_store.aliased(tx, tenant, name, plan.version)
        if number is None:
            raise NotFound(f"model {name} has no alias {plan.version[:64]!r}")
        find_version(tx, tenant, name, number)
        return replace(plan, version=str(number))


def _new(plan: RolloutPlan, who: Principal, now: datetime) -> Rollout:
    return Rollout(
        id=f"r-{secrets.token_hex(5)}",
        plan=plan,
        state=RolloutState.SCHEDULED,
        wave=0,
        standings=(),
        reason="",
        devices=(),
        created_by=who.name,
        created_at=now,
    )


def _restore_champion(tx: Tx, tenant: TenantId, rollout: Rollout) -> None:
    if rollout.state is not RolloutState.SUCCEEDED or rollout.plan.component is not Component.MODEL:
        return
    if registry_store.aliased(tx, tenant, rollout.model, CHAMPION) == rollout.version:
        registry_store.put_alias(tx, tenant, rollout.model, CHAMPION, store.champion_before(tx, rollout.id))


def _owned(tx: Tx, who: Principal, id: str) -> Rollout:
    """Raises NotFound, also for another tenant's."""
    tenant, rollout = found(tx, id)
    if tenant != who.tenant:
        raise unknown(id)
    return rollout


def _expect(tx: Tx, who: Principal, id: str, *states: RolloutState) -> Rollout:
    rollout = _owned(tx, who, id)
    if rollout.state not in states:
        names = " or ".join(state.name for state in sorted(states))
        raise Conflict(f"rollout {id} is {rollout.state.name}: this takes one that is {names}")
    return rollout


def _whole(tx: Tx, tenant: TenantId, id: str) -> Rollout:
    owner, rollout = found(tx, id)
    if owner != tenant:
        raise unknown(id)
    return replace(rollout, devices=rollout_devices.of_rollout(tx, id, limit=SHOWN))


def _logged(tx: Tx, who: Principal, id: str) -> Rollout:
    rollout = _whole(tx, who.tenant, id)
    log.info("rollout changed", extra={"rollout": id, "state": rollout.state.name, "by": who.name})
    return rollout


def _place(page: Page) -> tuple[int, str]:
    """Behind which a page begins. Raises Invalid."""
    wave, _, device = page.token.partition(" ")
    if not page.token:
        return -1, ""
    if not (wave.isascii() and wave.isdigit() and len(wave) < 4):
        raise Invalid(f"page token {page.token[:32]!r} is not one that a listing gave")
    return int(wave), device
