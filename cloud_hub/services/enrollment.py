"""Use cases about trust in a device: a one-time token, and the certificate it is traded for."""

import logging
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from cryptography import x509

import firmware_images
from cloud_hub.core.config import HubConfig
from cloud_hub.core.errors import Conflict, Denied, Invalid
from cloud_hub.core.labels import checked_labels
from cloud_hub.core.model import Device, Principal
from cloud_hub.store import enrollment as store
from cloud_hub.store import fleet
from cloud_hub.store.database import Database, Tx
from cloud_hub.trust.authority import Authority
from edge_agent.core.clock import Clock
from protos.contract import ids
from protos.contract.errors import ContractError
from protos.contract.ids import DeviceId, Digest, TenantId

log = logging.getLogger(__name__)

MAX_TOKEN_TTL_S = 30 * 24 * 3600
_REFUSED = "the enrolment token is not valid: ask your admin for a new one"


@dataclass(frozen=True, slots=True, kw_only=True)
class Enrolled:
    device_id: DeviceId
    tenant: TenantId
    certificate_pem: str = field(repr=False)
    ca_pem: str = field(repr=False)


class EnrollmentService:
    """A token is known here by its digest only, and works once."""

    def __init__(self, db: Database, authority: Authority, clock: Clock, config: HubConfig) -> None:
        self._db = db
        self._authority = authority
        self._clock = clock
        self._config = config

    @property
    def ca_pem(self) -> str:
        """What a device trusts the hub by on first contact."""
        return self._authority.ca_pem

    def create_device(
        self, who: Principal, id: str, board: str, labels: Mapping[str, str], token_ttl_s: int | None = None
    ) -> tuple[Device, str]:
        """Register a device; the token is never shown again. ``token_ttl_s`` None or 0: the hub's default.

        Raises:
            Invalid: id, board, labels or lifetime cannot be used.
            Conflict: the id is taken.
        """
        ttl_s = token_ttl_s or self._config.token_ttl_s
        if not 1 <= ttl_s <= MAX_TOKEN_TTL_S:
            raise Invalid(f"a token must live 1..{MAX_TOKEN_TTL_S} seconds, got {ttl_s}")
        try:
            device_id, board = ids.device_id(id), firmware_images.board(board).name
        except ContractError as error:
            raise Invalid(str(error)) from error
        labels, token, now = checked_labels(labels), secrets.token_urlsafe(32), self._clock.now()
        with self._db.write() as tx:
            if not fleet.add(tx, device_id, who.tenant, board, labels, now):
                raise Conflict(f"there is a device {device_id} already: choose another id, or delete it first")
            store.add(tx, device_id, _digest(token), now + timedelta(seconds=ttl_s))
            device = fleet.find(tx, device_id)
        assert device is not None  # added above, in this transaction
        log.info("device created", extra={"device": device_id, "board": board, "by": who.name})
        return device, token

    def enroll(self, token: str, csr_pem: str, board: str) -> Enrolled:
        """Trade a token and a CSR for a certificate; every name in it is the token's. Nothing is used up by an error.

        Raises:
            Denied: the token is unknown, used or expired; the message does not say which.
            Invalid: the CSR cannot be used, or the token is for another board.
        """
        now = self._clock.now()
        digest = _digest(token)
        with self._db.read() as tx:  # strangers come this far: they must not stand in line with those who write
            _redeemed(tx, digest, now)
        with self._db.write() as tx:
            device = _redeemed(tx, digest, now)
            if board != device.board:
                raise Invalid(f"the token is for a {device.board}, this device is a {board[:64]!r}: check the agent's board")
            certificate = self._authority.sign_device(
                csr_pem, tenant=device.tenant, device_id=device.id, days=self._config.certificate_days
            )
            serial = x509.load_pem_x509_certificate(certificate.encode()).serial_number
            store.use(tx, digest, now)
            fleet.enrolled(tx, device.id, f"{serial:x}", now)
        log.info("device enrolled", extra={"device": device.id, "board": board})
        return Enrolled(device_id=device.id, tenant=device.tenant, certificate_pem=certificate, ca_pem=self._authority.ca_pem)


def _redeemed(tx: Tx, digest: Digest, now: datetime) -> Device:
    """The device that the token is for. Raises Denied."""
    device_id = store.find_usable(tx, digest, now)
    device = fleet.find(tx, device_id) if device_id is not None else None
    if device is None:
        log.warning("enrolment refused")
        raise Denied(_REFUSED)
    return device


def _digest(token: str) -> Digest:
    return ids.digest_of(token.encode())
