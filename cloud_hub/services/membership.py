"""Which devices come to concern a rollout that is under way, and which no longer do: by what changed, never by scans."""

import logging
from collections.abc import Sequence
from datetime import datetime

from cloud_hub.core.errors import Unavailable
from cloud_hub.core.model import ROLLOUT_ENDED, RolloutState
from cloud_hub.services.rollout_course import Course, found
from cloud_hub.store import device_changes, rollout_devices
from cloud_hub.store import fleet as fleet_store
from cloud_hub.store import rollouts as store
from cloud_hub.store.database import Database, Tx
from protos.contract.ids import DeviceId, TenantId

log = logging.getLogger(__name__)

BATCH = 500  # devices looked at in one transaction


class Membership:
    def __init__(self, db: Database, course: Course) -> None:
        self._db = db
        self._course = course

    def tick(self, now: datetime) -> None:
        """Look at every device that has changed, a batch in a transaction."""
        with self._db.read() as tx:
            waiting = bool(device_changes.oldest(tx, 1))
        while waiting:
            with self._db.write() as tx:
                waiting = self._look(tx, now)

    def _look(self, tx: Tx, now: datetime) -> bool:
        changed = device_changes.oldest(tx, BATCH)
        device_changes.forget(tx, changed)
        by_tenant: dict[TenantId, list[DeviceId]] = {}
        for device, tenant in fleet_store.tenants(tx, changed).items():
            by_tenant.setdefault(tenant, []).append(device)
        for tenant, devices in by_tenant.items():
            for id in store.joinable(tx, tenant):
                try:
                    with tx.begin_nested():
                        self._fit(tx, tenant, id, devices, now)
                except Unavailable:
                    raise
                except Exception:  # outermost edge for one rollout: it must not hold up the others
                    log.exception("rollout cannot look at what changed", extra={"rollout": id})
        return len(changed) == BATCH

    def _fit(self, tx: Tx, tenant: TenantId, id: str, devices: Sequence[DeviceId], now: datetime) -> None:
        """A device that came to match waits with the last wave, which has what is left; one that matches no more waits no more.
        Once it has been asked, a device stays.
        """
        _, rollout = found(tx, id)
        if rollout.state in ROLLOUT_ENDED - {RolloutState.SUCCEEDED}:
            return  # a newer one has just taken its last device
        matching = fleet_store.matching_among(tx, tenant, rollout.plan.selector, devices)
        rows = rollout_devices.find(tx, id, devices)
        left = [row for row in rows.values() if row.state is None and row.device not in matching]
        had_its_turn = rollout_devices.taken(tx, id, devices)
        joined = sorted(matching - had_its_turn)
        if left:
            rollout_devices.leave(tx, id, left)
        if joined:
            rollout_devices.add(tx, id, rollout.waves - 1, joined)
            self._course.take_over(tx, id, now, joined)
        if left or joined:
            log.info("rollout membership changed", extra={"rollout": id, "joined": len(joined), "left": len(left)})
