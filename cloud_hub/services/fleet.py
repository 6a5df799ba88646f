"""Use cases about devices: who there is, what each should run, what each says."""

import builtins
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import cache

import firmware_images
from cloud_hub.core import pages
from cloud_hub.core.errors import Invalid, NotFound
from cloud_hub.core.labels import checked_labels, checked_selector
from cloud_hub.core.model import Credential, Device, Principal
from cloud_hub.core.pages import Page
from cloud_hub.services import fits
from cloud_hub.store import certificates, device_changes, enrollment, episodes, events, outbox, rollout_devices
from cloud_hub.store import fleet as store
from cloud_hub.store.certificates import Certificate
from cloud_hub.store.database import Database, Tx
from edge_agent.core.clock import Clock
from protos.contract.boards import Board
from protos.contract.ids import DeviceId, TenantId
from protos.contract.telemetry import Event
from protos.contract.twin import DesiredTwin, ModelAssignment, Presence, ReportedTwin, Status

log = logging.getLogger(__name__)

RESTARTED = "agent.restarted"  # the event of an agent that begins again without having stopped: a crash, or a power cut
MAX_GENERATION = 1 << 53  # no hub counts so far; a device that says so is broken


class FleetService:
    """Users see their own tenant's devices only; another tenant's are NotFound."""

    def __init__(self, db: Database, clock: Clock, *, on_revoked: Callable[[], None] = lambda: None) -> None:
        """``on_revoked`` is called after a device was deleted, and its certificates with it."""
        self._db = db
        self._clock = clock
        self._on_revoked = on_revoked

    def get(self, who: Principal, id: DeviceId) -> Device:
        """Raises NotFound."""
        with self._db.read() as tx:
            return with_credentials(tx, [owned(tx, who, id)], self._clock.now())[0]

    def list(self, who: Principal, selector: Mapping[str, str], page: Page) -> tuple[builtins.list[Device], str]:
        """Devices in the order of their ids, and the token of the next page: empty at the end. Raises Invalid."""
        pages.checked(page)
        selector = checked_selector(selector)
        with self._db.read() as tx:
            devices = store.matching(tx, who.tenant, selector, after=page.token, limit=page.size + 1)
            devices = with_credentials(tx, devices, self._clock.now())
        following = devices[page.size - 1].id if len(devices) > page.size else ""
        return devices[: page.size], following

    def groups(self, who: Principal, devices: Collection[str]) -> dict[str, dict[str, str]]:
        """The labels of each, with its board for one more; those that are gone are left out."""
        with self._db.read() as tx:
            found = store.find_many(tx, [DeviceId(id) for id in sorted(devices)])
        return {id: {"board": one.board, **one.labels} for id, one in found.items() if one.tenant == who.tenant}

    def set_labels(self, who: Principal, id: DeviceId, labels: Mapping[str, str]) -> Device:
        """Replaces all labels. Raises NotFound, Invalid."""
        labels = checked_labels(labels)
        with self._db.write() as tx:
            device = with_credentials(tx, [owned(tx, who, id)], self._clock.now())[0]
            store.put_labels(tx, id, labels)
        log.info("labels set", extra={"device": id, "by": who.name})
        return replace(device, labels=labels)

    def delete(self, who: Principal, id: DeviceId) -> None:
        """Its certificates, its token and its place in running rollouts are void, its drift is over; its telemetry stays.

        Raises NotFound.
        """
        now = self._clock.now()
        with self._db.write() as tx:
            owned(tx, who, id)
            rollout_devices.forget(tx, id)
            episodes.close_all(tx, id, now, "the device was deleted")
            certificates.revoke(tx, certificates.DEVICE, id, now, f"{who.name}: the device was deleted")
            store.remove(tx, id)
        log.info("device deleted", extra={"device": id, "by": who.name})
        self._on_revoked()

    def tenants(self, tx: Tx, devices: Sequence[DeviceId]) -> dict[DeviceId, TenantId]:
        """Whose each device is; one that is not known is left out."""
        return store.tenants(tx, devices)

    def on_status(self, tx: Tx, tenant: TenantId, device: DeviceId, status: Status) -> None:
        """Raises NotFound for a device that is not this tenant's."""
        last = store.last_word(tx, device)
        if last is None or last.tenant != tenant:
            raise _unknown(device)
        if (last.presence, last.boot_id, last.status_at) == (status.presence, status.boot_id, status.at):
            return  # the broker's retained copy, again
        gone = status.presence is Presence.OFFLINE
        if gone and last.boot_id == status.boot_id and last.status_at is not None and last.status_at > status.at:
            return  # the will of a connection that the device has replaced already
        store.put_status(tx, device, status, None if gone else self._clock.now())
        begun = status.presence is Presence.ONLINE and last.boot_id not in (None, status.boot_id)
        if begun and last.presence is not Presence.STOPPED:
            detail = f"start {status.boot_id[:64]}, and no goodbye before it"
            event = Event(sequence=0, at=status.at, kind=RESTARTED, detail=detail)
            events.add_once(tx, tenant, device, event, self._clock.now())

    def on_reported(self, tx: Tx, tenant: TenantId, device: DeviceId, twin: ReportedTwin) -> None:
        """Raises NotFound for a device that is not this tenant's, Invalid for a generation no hub can have given."""
        last = store.last_word(tx, device)
        if last is None or last.tenant != tenant:
            raise _unknown(device)
        if twin.generation > MAX_GENERATION:
            raise Invalid(f"device {device} reports generation {twin.generation}, more than {MAX_GENERATION}")
        store.put_reported(tx, device, twin, self._clock.now())
        fits.heard(tx, tenant, device, twin, self._clock.now())
        if last.model != ((twin.model.name, twin.model.version) if twin.model is not None else None):
            device_changes.note(tx, device)
        if twin.generation > last.desired_generation:
            # it saw more than this database holds, which was restored from a backup: what we ask must count on from there
            desired = known(tx, tenant, device).desired
            store.put_desired(tx, device, replace(desired, generation=twin.generation + 1))
            log.warning("device is ahead of the hub", extra={"device": device, "generation": twin.generation})

    def set_desired(self, tx: Tx, device: DeviceId, model: ModelAssignment | None, rollout_id: str = "") -> DesiredTwin:
        """Ask a device for a model (None: to keep what it runs) as a new generation; the outbox delivers it.

        Raises:
            NotFound: no such device.
        """
        row = store.find(tx, device)
        if row is None:
            raise _unknown(device)
        return self.ask(tx, row, model, rollout_id)

    def ask(self, tx: Tx, device: Device, model: ModelAssignment | None, rollout_id: str = "") -> DesiredTwin:
        """``set_desired`` of a device that was read in this transaction."""
        generation = device.desired.generation + 1
        twin = replace(device.desired, generation=generation, model=model, rollout_id=rollout_id)
        store.put_desired(tx, device.id, twin)
        return twin

    def ask_many(self, tx: Tx, twins: Sequence[tuple[DeviceId, DesiredTwin]]) -> None:
        """New generations of desired twins that were read in this transaction; the outbox delivers them."""
        store.put_desired_many(tx, twins)

    def undelivered(self, limit: int = 500) -> builtins.list[tuple[TenantId, DeviceId, DesiredTwin]]:
        """Desired twins the broker does not hold yet: publish each retained, then say ``delivered``."""
        with self._db.read() as tx:
            return outbox.undelivered(tx, limit)

    def delivered(self, device: DeviceId, generation: int) -> None:
        """The broker holds this generation or a newer one."""
        with self._db.write() as tx:
            outbox.delivered(tx, device, generation)

    def delivered_many(self, generations: Mapping[DeviceId, int]) -> None:
        """``delivered`` for each, in one transaction."""
        with self._db.write() as tx:
            for device, generation in generations.items():
                outbox.delivered(tx, device, generation)

    def redeliver(self) -> None:
        """Every desired twin is undelivered again: for a broker that may have lost its retained messages."""
        with self._db.write() as tx:
            outbox.redeliver(tx)


def owned(tx: Tx, who: Principal, id: DeviceId) -> Device:
    """Raises NotFound, also for another tenant's."""
    return known(tx, who.tenant, id)


def known(tx: Tx, tenant: TenantId, id: DeviceId) -> Device:
    """Raises NotFound, also for another tenant's."""
    device = store.find(tx, id)
    if device is None or device.tenant != tenant:
        raise _unknown(id)
    return device


def with_credentials(tx: Tx, devices: Sequence[Device], now: datetime) -> list[Device]:
    """The same with the newest certificate of each, and the key that waits for approval."""
    found = [device.id for device in devices]
    newest, waiting = certificates.newest(tx, found), enrollment.waiting(tx, found, now)
    return [
        replace(
            device,
            credential=_credential(newest.get(device.id), device),
            pending_fingerprint=waiting[device.id][1] if device.id in waiting else "",
        )
        for device in devices
    ]


def _credential(newest: Certificate | None, device: Device) -> Credential | None:
    if newest is None or newest.tenant != device.tenant or newest.issued_at < device.created_at:
        return None  # of a device that had this id before
    return Credential(
        serial=newest.serial,
        issued_at=newest.issued_at,
        expires_at=newest.expires_at,
        revoked_at=newest.revoked_at,
        reason=newest.reason,
    )


@cache
def board_named(name: str) -> Board:
    """Raises ``protos.contract.errors.InvalidValue`` where this hub has no description of it."""
    return firmware_images.board(name)


def _unknown(id: DeviceId) -> NotFound:
    return NotFound(f"no device {id}")
