"""Carries revocations from the database to the broker, and keeps both sides' lists and certificates from expiring."""

import logging
from datetime import datetime, timedelta

from cloud_hub.core.ports import Broker, Refusals
from cloud_hub.store import certificates
from cloud_hub.store.certificates import Certificate
from cloud_hub.store.database import Database
from cloud_hub.trust.authority import Authority
from protos.contract.ids import DeviceId

log = logging.getLogger(__name__)

VALID_FOR = timedelta(days=7)  # of a list: past that the broker would let nobody in
_SIGN_AFTER = timedelta(hours=1)
_RENEW_AFTER = timedelta(days=60)


class Revocation:
    """``tick`` every second or so; from one thread at a time. gRPC asks the database itself (``services.access``)."""

    def __init__(self, db: Database, authority: Authority, broker: Broker, started_at: datetime) -> None:
        """``started_at``: when the broker's certificates were made."""
        self._db = db
        self._authority = authority
        self._broker = broker
        self._renewed_at = started_at
        self._issuing = authority.standing.issuing
        self._signed_at: datetime | None = None
        self._count = -1  # of revocations there ever were
        self._refused: frozenset[str] = frozenset()

    def figures(self, now: datetime) -> dict[str, float]:
        """By the source of alert rules."""
        ends = {"hub.issuing_days": self._authority.expires_at}
        if self._signed_at is not None:
            ends["hub.revocation_list_days"] = self._signed_at + VALID_FOR
        return {source: (at - now).total_seconds() / 86_400 for source, at in ends.items()}

    def tick(self, now: datetime) -> None:
        """Raises OSError where the broker could not be told; the next call tries again."""
        with self._db.read() as tx:
            count = certificates.revocations(tx)
            if count == self._count and not self._aged(now):
                return
            void = certificates.revoked(tx, now)
        self._tell(void, now)
        self._count = count

    def renew(self, now: datetime) -> None:
        """Give the broker new certificates once its own are old, or after `cloud-hub ca renew`.

        A clock that went back makes them old too. Raises OSError, Invalid.
        """
        self._authority.refresh()
        issuing = self._authority.standing.issuing
        if issuing == self._issuing and timedelta(0) <= now - self._renewed_at < _RENEW_AFTER:
            return
        self._broker.renew()
        self._renewed_at, self._issuing = now, issuing
        self._count = -1  # the list of a new authority is missing: sign them all
        log.info("broker certificates renewed", extra={"issuing": issuing})

    def _aged(self, now: datetime) -> bool:
        return self._signed_at is None or not timedelta(0) <= now - self._signed_at < _SIGN_AFTER

    def _tell(self, void: list[Certificate], now: datetime) -> None:
        first = self._signed_at is None  # the broker is not running yet, or nobody is connected that has been refused before
        serials = frozenset(one.serial for one in void)
        newly = [one for one in void if one.serial not in self._refused and _ends_a_session(one)]
        refusals = Refusals(
            crl_pem=self._authority.crl(
                [(one.serial, one.revoked_at or now, one.reason) for one in void],
                number=int(now.timestamp() * 1000),
                now=now,
                valid_for=VALID_FOR,
            ),
            serials=frozenset(int(serial, 16) for serial in serials),
            newly=() if first else sorted({(one.tenant, DeviceId(one.subject)) for one in newly}),
        )
        self._broker.refuse(refusals)
        self._refused, self._signed_at = serials, now
        if newly and not first:
            log.info("certificates refused", extra={"devices": len(refusals.newly), "listed": len(serials)})


def _ends_a_session(void: Certificate) -> bool:
    """A device that shows a newer certificate of its own is not to be disconnected for it."""
    return void.role == certificates.DEVICE and void.reason != certificates.SUPERSEDED
