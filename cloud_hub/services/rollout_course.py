"""How a rollout goes on: it starts, passes from wave to wave, and ends or stops by itself. Everything is in the database."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from cloud_hub.core.errors import NotFound, NotReady
from cloud_hub.core.gates import Outcome
from cloud_hub.core.model import ROLLOUT_UNDER_WAY, Rollout, RolloutState
from cloud_hub.core.rollout_plan import Component, OnBreach, Wave
from cloud_hub.core.waves import Step, Verdict, judge, share_out, too_many
from cloud_hub.services import releases
from cloud_hub.services.dispatch import BATCH, Dispatcher
from cloud_hub.services.gates import GateKeeper
from cloud_hub.services.registry import CHAMPION
from cloud_hub.store import fleet as fleet_store
from cloud_hub.store import registry as registry_store
from cloud_hub.store import rollout_devices, rollout_waves
from cloud_hub.store import rollouts as store
from cloud_hub.store.database import Tx
from cloud_hub.store.rollout_unwinds import How
from protos.contract.ids import DeviceId, TenantId

log = logging.getLogger(__name__)

BY_GATE = "gate "  # how the reason begins where a gate stopped it
_CATCH_UP_S = 2.0  # a rate counts no more idle time than this: a hub that was away must not ask everyone at once


class Course:
    """Works inside the caller's transaction."""

    def __init__(self, dispatcher: Dispatcher, gates: GateKeeper) -> None:
        self._dispatch = dispatcher
        self._gates = gates

    def begin(self, tx: Tx, tenant: TenantId, rollout: Rollout, now: datetime) -> None:
        """Share its devices out over the waves, take them over from older rollouts, and start the first wave.

        Raises:
            NotReady: the selector matches no device, or nothing can be signed for devices yet.
            NotFound, Invalid: there is no such version any more, or it cannot be signed.
        """
        id, plan = rollout.id, rollout.plan
        releases.check_ready(tx)
        devices = fleet_store.ordered_ids(tx, tenant, plan.selector)
        if not devices:
            terms = ", ".join(f"{key}={value}" for key, value in plan.selector.items())
            raise NotReady(f"no device matches [{terms}]: register one or change the selector")
        self._dispatch.offer(tx, tenant, rollout)
        for wave, share in enumerate(share_out(plan, devices, [_chosen(tx, tenant, wave) for wave in plan.waves])):
            rollout_devices.add(tx, id, wave, share)
        store.put_started(tx, id, now)
        self._gates.watch(tx, tenant, rollout, now)
        self.take_over(tx, id, now)
        self._enter(tx, rollout, 0, now)
        self.advance(tx, id, now)

    def advance(self, tx: Tx, id: str, now: datetime, *, look: bool = False) -> bool:
        """As far as it goes now; True where devices are left that another transaction can ask, or tell, at once.

        ``look`` at the gates even where nothing else is due: seldom enough, and often enough.
        """
        asked = False
        while True:
            tenant, rollout = found(tx, id)
            if rollout.state not in ROLLOUT_UNDER_WAY:
                return False
            verdict = self._judged(tx, rollout, now, look=look)
            if verdict.step is Step.BREACH:
                if rollout.state is RolloutState.PAUSED and rollout.breached:
                    return False  # it has been told, and waits for a person
                return self._breach(tx, tenant, rollout, verdict.reason, now)
            if _needs_nobody(rollout):
                store.put_state(tx, id, RolloutState.RUNNING, "", now)
                self._enter(tx, rollout, rollout.wave, now)
                continue
            if rollout.state is not RolloutState.RUNNING:
                return False
            self._mark_soak(tx, rollout, verdict.step, now)
            if verdict.step is Step.SOAK:
                return False
            if verdict.step is Step.WAIT:
                limit = 0 if asked else self._limit(tx, rollout, now)
                if not limit:
                    return asked and bool(rollout.standings[rollout.wave].waiting) and not rollout.plan.rate_per_minute
                asked = True
                if not self._ask(tx, tenant, rollout, limit, now):
                    return False
                continue
            if not self._pass(tx, tenant, rollout, verdict, now):
                return False
            asked = False

    def follow_up(self, tx: Tx, tenant: TenantId, rollout: Rollout, now: datetime) -> bool:
        """Ask those that joined after it had succeeded; True where others can be asked at once. Too many failures close it, and
        leave those that have it alone."""
        if reason := too_many(rollout.plan, rollout.standings, forgiven=rollout.forgiven):
            return self.stop(tx, tenant, rollout, RolloutState.ABORTED, f"closed: {reason}", now)
        limit = self._limit(tx, rollout, now)
        asked = self._ask(tx, tenant, rollout, limit, now) if limit else 0
        return asked == BATCH and not rollout.plan.rate_per_minute

    def idle(self, tx: Tx, id: str, now: datetime) -> bool:
        """Whether ``advance`` would change nothing: what a reader can tell spares a writer, every second."""
        _, rollout = found(tx, id)
        if rollout.state is RolloutState.SUCCEEDED:
            failures = too_many(rollout.plan, rollout.standings, forgiven=rollout.forgiven)
            return not failures and not self._limit(tx, rollout, now)
        verdict, since = self._judged(tx, rollout, now, look=True), rollout.standings[rollout.wave].soaking_since
        if verdict.step is Step.BREACH:
            return rollout.state is RolloutState.PAUSED and rollout.breached
        if rollout.state is not RolloutState.RUNNING:
            return not _needs_nobody(rollout)
        if verdict.step is Step.WAIT:
            return since is None and not self._limit(tx, rollout, now)
        return verdict.step is Step.SOAK and since is not None

    def resume(self, tx: Tx, rollout: Rollout, now: datetime) -> None:
        """After a pause; a wave that waited for approval still does."""
        store.put_state(tx, rollout.id, RolloutState.RUNNING, "", now)
        if rollout.standings[rollout.wave].started_at is not None or self._enter(tx, rollout, rollout.wave, now):
            self.advance(tx, rollout.id, now)

    def take_over(self, tx: Tx, id: str, now: datetime, devices: Sequence[DeviceId] | None = None) -> None:
        """Its devices (None: all of them) are no longer those of older rollouts, which go on with the rest."""
        for other in rollout_devices.take_over(tx, id, now, devices):
            self.advance(tx, other, now)

    def stop(
        self,
        tx: Tx,
        tenant: TenantId,
        rollout: Rollout,
        state: RolloutState,
        reason: str,
        now: datetime,
        *,
        wave: int | None = None,
    ) -> bool:
        """End it: FAILED and ROLLED_BACK send its devices (or those of one wave) back, ABORTED calls off what is on the way.

        True where devices are left to be told, in other transactions.
        """
        how = How.CALL_OFF if state is RolloutState.ABORTED else How.SEND_BACK
        more = self._dispatch.begin_unwinding(tx, tenant, rollout, how, wave, now)
        store.put_state(tx, rollout.id, state, reason, now)
        log.info("rollout stopped", extra={"rollout": rollout.id, "state": state.name, "reason": reason})
        return more

    def _judged(self, tx: Tx, rollout: Rollout, now: datetime, *, look: bool) -> Verdict:
        """With what the gates say: they may breach at any time, and must pass before a wave does."""
        paused_at = store.paused_at(tx, rollout.id) if rollout.state is RolloutState.PAUSED else None  # time stands still then
        verdict = judge(rollout.plan, rollout.standings, rollout.wave, paused_at or now, forgiven=rollout.forgiven)
        passes = verdict.step in (Step.NEXT, Step.SUCCEED)
        if not rollout.plan.gates or verdict.step is Step.BREACH or not (look or passes):
            return verdict
        seen = self._gates.look(tx, rollout.id, now)
        if seen.outcome is Outcome.BREACH:
            return Verdict(step=Step.BREACH, reason=f"{BY_GATE}{seen.reason}")
        if seen.outcome is Outcome.WAIT and passes:
            return Verdict(step=Step.SOAK, reason=f"{BY_GATE}{seen.reason}")
        return verdict

    def _mark_soak(self, tx: Tx, rollout: Rollout, step: Step, now: datetime) -> None:
        since = rollout.standings[rollout.wave].soaking_since
        if step is Step.SOAK and since is None:
            rollout_waves.put_soaking(tx, rollout.id, rollout.wave, now)
        elif step is Step.WAIT and since is not None:
            rollout_waves.put_soaking(tx, rollout.id, rollout.wave, None)

    def _limit(self, tx: Tx, rollout: Rollout, now: datetime) -> int:
        """Devices that may be asked now."""
        if not rollout.standings[rollout.wave].waiting:
            return 0
        rate = rollout.plan.rate_per_minute
        if not rate:
            return BATCH
        first = store.next_ask(tx, rollout.id)
        if first is None:
            return 1
        idle_s = min((now - first).total_seconds(), _CATCH_UP_S)
        return 0 if idle_s < 0 else int(idle_s * rate / 60) + 1

    def _ask(self, tx: Tx, tenant: TenantId, rollout: Rollout, limit: int, now: datetime) -> int:
        asked = self._dispatch.dispatch(tx, tenant, rollout, now, limit=limit)
        if asked and rollout.plan.rate_per_minute:
            first = store.next_ask(tx, rollout.id) or now
            start = max(first, now - timedelta(seconds=_CATCH_UP_S))
            store.put_next_ask(tx, rollout.id, start + timedelta(seconds=60 * asked / rollout.plan.rate_per_minute))
        if asked and not rollout_waves.of_rollout(tx, rollout.id)[rollout.wave].waiting:
            rollout_waves.put_asked(tx, rollout.id, rollout.wave, now)
        return asked

    def _pass(self, tx: Tx, tenant: TenantId, rollout: Rollout, verdict: Verdict, now: datetime) -> bool:
        """The wave is over; whether there is more to do."""
        if verdict.step is Step.NEXT:
            log.info("rollout wave passed", extra={"rollout": rollout.id, "wave": rollout.wave})
            return self._enter(tx, rollout, rollout.wave + 1, now)
        if verdict.step is Step.SUCCEED:
            self._succeed(tx, tenant, rollout, now)
        else:
            self.stop(tx, tenant, rollout, RolloutState.ABORTED, verdict.reason, now)
        return False

    def _enter(self, tx: Tx, rollout: Rollout, wave: int, now: datetime) -> bool:
        """False where a person must let it begin first. A wave without devices needs nobody's word."""
        store.put_wave(tx, rollout.id, wave)
        standing = rollout_waves.of_rollout(tx, rollout.id)[wave]
        if rollout.plan.waves[wave].approval and standing.devices and not standing.approved_by:
            store.put_state(tx, rollout.id, RolloutState.AWAITING_APPROVAL, f"wave {wave + 1} waits for approval", now)
            log.info("rollout waits for approval", extra={"rollout": rollout.id, "wave": wave})
            return False
        rollout_waves.put_started(tx, rollout.id, wave, now)
        return True

    def _breach(self, tx: Tx, tenant: TenantId, rollout: Rollout, reason: str, now: datetime) -> bool:
        failure = rollout_devices.first_failure(tx, rollout.id)
        if failure is not None:
            reason = f"{reason}; first {failure[0]}: {failure[1] or 'no reason given'}"
        log.warning("rollout went wrong", extra={"rollout": rollout.id, "reason": reason, "then": rollout.plan.on_breach})
        action = rollout.plan.on_breach
        if action is OnBreach.PAUSE:
            store.put_state(tx, rollout.id, RolloutState.PAUSED, reason, now, breached=True)
            return False
        if action is OnBreach.ABORT:
            return self.stop(tx, tenant, rollout, RolloutState.ABORTED, reason, now)
        wave = rollout.wave if action is OnBreach.ROLLBACK_WAVE else None
        return self.stop(tx, tenant, rollout, RolloutState.FAILED, reason, now, wave=wave)

    def _succeed(self, tx: Tx, tenant: TenantId, rollout: Rollout, now: datetime) -> None:
        if rollout.plan.component is Component.MODEL and not store.newer_holds(tx, rollout, tenant):
            before = registry_store.aliased(tx, tenant, rollout.model, CHAMPION)
            store.put_champion_before(tx, rollout.id, before)
            registry_store.put_alias(tx, tenant, rollout.model, CHAMPION, rollout.version)
        store.put_state(tx, rollout.id, RolloutState.SUCCEEDED, "", now)
        log.info("rollout succeeded", extra={"rollout": rollout.id, "what": rollout.plan.what})


def _chosen(tx: Tx, tenant: TenantId, wave: Wave) -> frozenset[DeviceId]:
    """Whom its selector names; empty where it has none."""
    return frozenset(fleet_store.matching_ids(tx, tenant, wave.selector)) if wave.selector is not None else frozenset()


def _needs_nobody(rollout: Rollout) -> bool:
    """It waits for approval of a wave that all devices have left."""
    return rollout.state is RolloutState.AWAITING_APPROVAL and not rollout.standings[rollout.wave].devices


def found(tx: Tx, id: str) -> tuple[TenantId, Rollout]:
    """With its waves, without its devices. Raises NotFound."""
    there = store.find(tx, id)
    if there is None:
        raise unknown(id)
    tenant, rollout = there
    return tenant, replace(rollout, standings=rollout_waves.of_rollout(tx, id))


def unknown(id: str) -> NotFound:
    return NotFound(f"no rollout {id[:64]!r}")
