"""Use cases about trust in a device: a one-time token and the certificate it is traded for, renewal, and the end of both.

A device may hold several good certificates: it was given a new one and does not have it yet, or does not use it yet. When it
shows one for the first time (``services.access`` notes that), those before it are superseded: an answer that was lost cuts
nobody off, and an old key is of no use to anybody once the new one is at work. A new enrolment ends all before it at once:
whoever made the token meant that.
"""

import logging
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import firmware_images
from cloud_hub.core.config import HubConfig
from cloud_hub.core.errors import Conflict, Denied, Invalid, NotReady
from cloud_hub.core.labels import checked_labels
from cloud_hub.core.model import Device, Principal
from cloud_hub.services import issuance, redemption
from cloud_hub.services.fleet import owned, with_credentials
from cloud_hub.services.issuance import Issuer
from cloud_hub.store import certificates, fleet
from cloud_hub.store import enrollment as store
from cloud_hub.store.certificates import DEVICE
from cloud_hub.store.database import Database, Tx
from cloud_hub.trust.authority import Authority
from cloud_hub.trust.csr import checked_csr, fingerprint
from edge_agent.core.clock import Clock
from protos.contract import ids
from protos.contract.errors import ContractError
from protos.contract.ids import DeviceId, TenantId
from protos.contract.twin import ModelAssignment
from protos.contract.update import UpdateState

log = logging.getLogger(__name__)

MAX_TOKEN_TTL_S = 30 * 24 * 3600
MAX_REASON = 200  # characters
_KEEP_REPLACED = timedelta(days=30)  # certificates that expired
_GAVE_UP = frozenset({UpdateState.FAILED, UpdateState.ROLLED_BACK})


@dataclass(frozen=True, slots=True, kw_only=True)
class Enrolled:
    device_id: DeviceId
    tenant: TenantId
    certificate_pem: str = field(repr=False)  # the device's own, then the issuing authority's
    ca_pem: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Renewed:
    certificate_pem: str = field(repr=False)
    ca_pem: str = field(repr=False)


class EnrollmentService:
    """A token is known here by its digest only, and gives one certificate. Names come from the hub's rows, never from a CSR.

    ``on_revoked`` is called after each commit that made a certificate void.
    """

    def __init__(
        self,
        db: Database,
        authority: Authority,
        clock: Clock,
        config: HubConfig,
        *,
        on_revoked: Callable[[], None] = lambda: None,
    ) -> None:
        self._db = db
        self._authority = authority
        self._clock = clock
        self._config = config
        self._issuer = Issuer(authority, config.certificate_days)
        self._on_revoked = on_revoked
        self._grace = timedelta(days=config.renew_grace_days)

    @property
    def ca_pem(self) -> str:
        """What a device trusts the hub by on first contact."""
        return self._authority.ca_pem

    # -- admins -----------------------------------------------------------------------------------------------------------

    def create_device(
        self,
        who: Principal,
        id: str,
        board: str,
        labels: Mapping[str, str],
        token_ttl_s: int | None = None,
        *,
        needs_approval: bool = False,
    ) -> tuple[Device, str]:
        """Register a device; the token is never shown again. ``token_ttl_s`` None or 0: the hub's default.

        Args:
            needs_approval: the token alone is not enough, see ``approve``.
        Raises:
            Invalid: id, board, labels or lifetime cannot be used.
            Conflict: the id is taken.
        """
        ttl = self._ttl(token_ttl_s)
        try:
            device_id, board = ids.device_id(id), firmware_images.board(board).name
        except ContractError as error:
            raise Invalid(str(error)) from error
        labels, now = checked_labels(labels), self._clock.now()
        with self._db.write() as tx:
            if not fleet.add(tx, device_id, who.tenant, board, labels, now):
                raise Conflict(f"there is a device {device_id} already: choose another id, or delete it first")
            token = _new_token(tx, device_id, now + ttl, needs_approval=needs_approval)
            device = owned(tx, who, device_id)
        log.info("device created", extra={"device": device_id, "board": board, "by": who.name})
        return device, token

    def enroll_device(
        self, who: Principal, id: DeviceId, token_ttl_s: int | None = None, *, needs_approval: bool = False
    ) -> tuple[Device, str]:
        """A new token for a device there is; an older one that was not used is void. What the device has stays good until
        the token is used.

        Raises:
            NotFound; Invalid: the lifetime cannot be used.
        """
        ttl, now = self._ttl(token_ttl_s), self._clock.now()
        with self._db.write() as tx:
            owned(tx, who, id)
            store.drop(tx, id, used=False)
            token = _new_token(tx, id, now + ttl, needs_approval=needs_approval)
            device = self._viewed(tx, who, id, now)
        log.info("enrolment token made", extra={"device": id, "by": who.name})
        return device, token

    def approve(self, who: Principal, id: DeviceId, key: str) -> Device:
        """Let the key with this fingerprint have its certificate: the device asks again by itself.

        Raises:
            NotFound.
            NotReady: no key waits.
            Conflict: another key waits.
        """
        now = self._clock.now()
        with self._db.write() as tx:
            owned(tx, who, id)
            waiting = store.waiting(tx, [id], now).get(id)
            if waiting is None:
                raise NotReady(f"no key of {id} waits for approval: start `edge-agent enroll` on the device first")
            token, pending = waiting
            if key.strip().lower() != pending:
                raise Conflict(
                    f"the key that waits for {id} is another one ({pending}): approve only what the device itself shows; if it "
                    "shows another fingerprint, somebody else has its token: revoke the device, and enrol it anew"
                )
            store.approve(tx, token, now)
            device = self._viewed(tx, who, id, now)
        log.info("key approved", extra={"device": id, "fingerprint": pending, "by": who.name})
        return device

    def revoke(self, who: Principal, id: DeviceId, reason: str = "") -> Device:
        """End every certificate and token of a device at once. It stays registered; the keys it had are never certified again.

        Raises:
            NotFound; Invalid: the reason is too long.
        """
        if len(reason) > MAX_REASON:
            raise Invalid(f"a reason has {MAX_REASON} characters at most, got {len(reason)}")
        now = self._clock.now()
        with self._db.write() as tx:
            owned(tx, who, id)
            store.drop(tx, id, used=True)
            # never the word for a certificate that was merely replaced
            count = certificates.revoke(tx, DEVICE, id, now, f"{who.name}: {reason or 'no reason given'}")
            device = self._viewed(tx, who, id, now)
        log.info("device revoked", extra={"device": id, "certificates": count, "by": who.name})
        self._on_revoked()
        return device

    def rotate(self, who: Principal, id: DeviceId) -> Device:
        """Ask a device to renew its certificate with a new key now, as a new generation of its desired twin.

        Raises:
            NotFound.
            NotReady: it has no certificate to renew.
        """
        now = self._clock.now()
        with self._db.write() as tx:
            device = self._viewed(tx, who, id, now)
            if device.credential is None or device.credential.revoked_at is not None:
                raise NotReady(f"{id} has no certificate to renew: enrol it with `hubctl device enroll`")
            model = _still_wanted(device)
            twin = replace(device.desired, generation=device.desired.generation + 1, model=model, renew_before=now)
            fleet.put_desired(tx, id, twin)
        log.info("device asked to renew", extra={"device": id, "generation": twin.generation, "by": who.name})
        return replace(device, desired=twin)

    # -- devices, on the port for strangers ----------------------------------------------------------------------------------

    def enroll(self, token: str, csr_pem: str, board: str) -> Enrolled:
        """Trade a token and a CSR for a certificate. Nothing is used up by an error.

        The same key may ask again with its token while that lives and until it has shown the certificate: the answer may have
        been lost, and is the same.

        Raises:
            Denied: the token is unknown, used or expired, for another board, or the key was revoked; in the same words.
            Invalid: the CSR cannot be used.
            NotReady: an admin must approve the key first; the same call succeeds afterwards.
        """
        now, digest = self._clock.now(), ids.digest_of(token.encode("utf-8", "replace"))
        with self._db.read() as tx:  # strangers come this far: they must not stand in line with those who write
            known = redemption.presented(tx, digest, board, now)
        key = fingerprint(checked_csr(csr_pem).public_key)
        redemption.check_key(known, key)
        if known.waits and known.key_digest == key:
            raise redemption.unapproved(key)  # it asks again and again: there is nothing to write
        with self._db.write() as tx:
            traded = redemption.trade(tx, self._issuer, digest, board, csr_pem, key, now)
        if traded.replaced:
            self._on_revoked()
        if traded.chain is None:
            log.info("a key waits for approval", extra={"device": known.device, "fingerprint": key})
            raise redemption.unapproved(key)
        log.info("device enrolled", extra={"device": known.device, "board": board, "fingerprint": key})
        return Enrolled(
            device_id=known.device, tenant=known.tenant, certificate_pem=traded.chain, ca_pem=self._authority.ca_pem
        )

    def renew(self, certificate_pem: str, csr_pem: str, signature: bytes) -> Renewed:
        """Trade a certificate, even one that expired within the grace, for a new one. No name is taken from either; the old key
        must have signed the CSR. The old certificate stays good until the new one is shown, or until it expires.

        Raises:
            Denied: it is unknown, revoked or too old, or somebody else asks; in the same words.
            Invalid: the CSR cannot be used.
            Exhausted: the device was given too many of late.
        """
        now, shown = self._clock.now(), issuance.presented(certificate_pem)
        with self._db.read() as tx:
            issuance.renewable(tx, shown, now, self._grace)
        request = checked_csr(csr_pem)
        shown.check_signature(signature, request)
        key = fingerprint(request.public_key)
        with self._db.write() as tx:
            row = issuance.renewable(tx, shown, now, self._grace)
            device = DeviceId(row.subject)
            if certificates.banned(tx, device, key):
                raise Denied(issuance.NOT_RENEWABLE)
            answered = certificates.unclaimed(tx, device, key, now)
            if answered is not None and answered[0].issued_at > row.issued_at:
                return Renewed(certificate_pem=answered[1], ca_pem=self.ca_pem)
            issuance.check_rate(tx, device, now)
            chain = self._issuer.issue(tx, row.tenant, device, csr_pem, key, now)
        log.info("device certificate renewed", extra={"device": device, "fingerprint": key})
        return Renewed(certificate_pem=chain, ca_pem=self.ca_pem)

    # -- upkeep -----------------------------------------------------------------------------------------------------------

    def tidy(self) -> None:
        """Forget tokens and certificates that are of no use to anybody any more; call it now and then."""
        now = self._clock.now()
        with self._db.write() as tx:
            store.forget(tx, now)
            certificates.forget(tx, now - self._grace, superseded_before=now - _KEEP_REPLACED)

    def _ttl(self, token_ttl_s: int | None) -> timedelta:
        ttl_s = token_ttl_s or self._config.token_ttl_s
        if not 1 <= ttl_s <= MAX_TOKEN_TTL_S:
            raise Invalid(f"a token must live 1..{MAX_TOKEN_TTL_S} seconds, got {ttl_s}")
        return timedelta(seconds=ttl_s)

    def _viewed(self, tx: Tx, who: Principal, id: DeviceId, now: datetime) -> Device:
        return with_credentials(tx, [owned(tx, who, id)], now)[0]


def _new_token(tx: Tx, device: DeviceId, expires_at: datetime, *, needs_approval: bool) -> str:
    token = secrets.token_urlsafe(32)
    store.add(tx, device, ids.digest_of(token.encode()), expires_at, needs_approval=needs_approval)
    return token


def _still_wanted(device: Device) -> ModelAssignment | None:
    """What it is asked to run, unless it tried that and gave up: a new generation would make it try again."""
    update = device.reported.update if device.reported else None
    tried = update is not None and update.generation == device.desired.generation and update.state in _GAVE_UP
    return None if tried else device.desired.model
