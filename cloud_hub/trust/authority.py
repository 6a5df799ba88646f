"""The hub's certificate authority: EC P-256, a root that peers trust and an issuing authority that signs all they show."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from cloud_hub.core.errors import Invalid, NotReady
from cloud_hub.core.model import DEFAULT_TENANT, Role
from cloud_hub.trust import subjects
from cloud_hub.trust.csr import checked_csr
from cloud_hub.trust.folder import Folder
from cloud_hub.trust.issuing import Issued, Issuing, pem
from cloud_hub.trust.root import make_issuing, make_root
from cloud_hub.trust.subjects import HUB_NAME, USER_PREFIX, ingest_name
from edge_agent.core.clock import Clock, SystemClock
from protos.contract import ids
from protos.contract.ids import DeviceId, TenantId

__all__ = ["HUB_NAME", "MAX_INGEST", "USER_PREFIX", "Authority", "Issued", "Standing", "ingest_name"]

MAX_INGEST = 16  # processes that may share the telemetry of one broker

_SERVER_DAYS = 397
_USER_DAYS = 365
_TAKEOVER = timedelta(minutes=5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """For whoever looks after the authority."""

    root_expires_at: datetime
    root_key_here: bool  # it is needed to renew only, and is safer elsewhere
    issuing: str  # serial of the certificate that signs now, hexadecimal
    expires_at: datetime  # of that one
    older: int  # issuing authorities that sign nothing any more but the list of what is void


class Authority:
    """Issues every certificate of one hub; each comes with that of the issuing authority behind it. Thread-safe."""

    def __init__(self, folder: Folder, clock: Clock) -> None:
        """Of what is in ``folder``: see ``create`` and ``load``."""
        self._folder = folder
        self._clock = clock
        self._root = folder.root()
        self._issuing = self._read()

    @classmethod
    def create(cls, folder: Path, *, clock: Clock | None = None) -> "Authority":
        """Make a new authority in ``folder``. Raises Conflict where one is there already."""
        clock, files = clock or SystemClock(), Folder(folder)
        with files.locked():
            files.check_free()
            root, key = make_root(clock.now())
            files.write(root, key, make_issuing(root, key, clock.now()))
        return cls(files, clock)

    @classmethod
    def load(cls, folder: Path, *, clock: Clock | None = None) -> "Authority":
        """Needs no root key. Raises NotFound where there is none, Invalid where its files do not belong together."""
        return cls(Folder(folder), clock or SystemClock())

    @property
    def ca_pem(self) -> str:
        """What a peer trusts this hub by: the root."""
        return pem(self._root)

    @property
    def chain(self) -> str:
        """What stands behind every certificate that is issued now."""
        return pem(self._now.certificate)

    @property
    def expires_at(self) -> datetime:
        """Of the issuing authority, and so of everything it signs: renew it a certificate's life before."""
        return self._now.expires_at

    @property
    def standing(self) -> Standing:
        return Standing(
            root_expires_at=self._root.not_valid_after_utc,
            root_key_here=self._folder.has_root_key(),
            issuing=f"{self._now.certificate.serial_number:x}",
            expires_at=self.expires_at,
            older=len(self._issuing) - 1,
        )

    def renew_issuing(self, *, distrust: bool = False) -> None:
        """Sign with a new key from now on. What the older ones signed stays good until it expires.

        Args:
            distrust: an issuing key is in foreign hands: the older ones are forgotten, and since there is no revocation list
                of theirs any more, mosquitto refuses whatever they signed, but for sessions that are open until it is started
                again. Devices come back by renewing.
        Raises:
            NotReady: the root key is kept elsewhere.
            Invalid: the root key is another root's.
        """
        with self._folder.locked():
            older = self._folder.numbers()
            self._folder.add(make_issuing(self._root, self._folder.root_key(self._root), self._clock.now()))
            now = self._clock.now()
            gone = [n for n in older if distrust or self._folder.issuing(n, self._root).expires_at <= now]
            self._folder.drop(gone)
            self._issuing = self._read()

    def refresh(self) -> None:
        """Take note of what another process has renewed. Raises Invalid."""
        if self._folder.numbers() != tuple(self._issuing):
            with self._folder.locked():
                self._issuing = self._read()

    def sign_device(self, csr_pem: str, *, tenant: TenantId, device_id: DeviceId, days: int) -> str:
        """A client certificate for the key that signed ``csr_pem``; no name is taken from the CSR. Raises Invalid."""
        subject = subjects.subject_of(ids.device_id(device_id), tenant, Role.DEVICE)
        return self._sign(csr_pem, subject, days)

    def sign_user(
        self, name: str, *, tenant: TenantId = DEFAULT_TENANT, role: Role = Role.ADMIN, days: int = _USER_DAYS
    ) -> Issued:
        """A user's identity. Raises Invalid for a name that is empty, too long or not printable."""
        return self._client(subjects.subject_of(subjects.of_user(name), tenant, role), timedelta(days=days))

    def sign_user_csr(
        self, csr_pem: str, name: str, *, tenant: TenantId = DEFAULT_TENANT, role: Role = Role.ADMIN, days: int = _USER_DAYS
    ) -> str:
        """``sign_user`` for the key that signed ``csr_pem``; no name is taken from the CSR. Raises Invalid."""
        return self._sign(csr_pem, subjects.subject_of(subjects.of_user(name), tenant, role), days)

    def issue_hub_client(self, name: str = HUB_NAME, *, days: int = _SERVER_DAYS) -> Issued:
        """The identity with which the hub itself connects to its broker, or with ``ingest_name`` one of those that ingest."""
        return self._client(subjects.subject_of(name, DEFAULT_TENANT, subjects.HUB_ROLE), timedelta(days=days))

    def takeover(self, device_id: DeviceId, tenant: TenantId) -> Issued:
        """For five minutes the name of a device, to end its session at the broker; gRPC takes nobody by it."""
        return self._client(subjects.subject_of(ids.device_id(device_id), tenant, subjects.HUB_ROLE), _TAKEOVER)

    def issue_server(self, names: Sequence[str], *, days: int = _SERVER_DAYS) -> Issued:
        """A server certificate for DNS names and IP addresses. Raises Invalid."""
        if not names:
            raise Invalid("a server certificate needs at least one name")
        return self._now.issue_pair(
            subjects.subject_of(subjects.SERVER_NAME, DEFAULT_TENANT, subjects.HUB_ROLE),
            usage=ExtendedKeyUsageOID.SERVER_AUTH,
            now=self._clock.now(),
            life=timedelta(days=days),
            alternatives=x509.SubjectAlternativeName([subjects.alternative(name) for name in names]),
        )

    def crl(self, revoked: Sequence[tuple[str, datetime, str]], *, number: int, now: datetime, valid_for: timedelta) -> str:
        """Revocation lists, PEM: one of every issuing authority that has not expired, all with the same entries, since a
        verifier looks for the list of whoever signed the certificate before it.

        Args:
            revoked: serial in hexadecimal, since when it is void, and why; the reason stays here.
            number: grows with every list.
        """
        entries = [(serial, at) for serial, at, _ in revoked]
        lists = (one for one in self._issuing.values() if one.expires_at > now)
        return "".join(one.crl(entries, number=number, now=now, valid_for=valid_for) for one in lists)

    @property
    def _now(self) -> Issuing:
        issuing = self._issuing  # another thread may renew
        if not issuing:
            raise NotReady("the hub's issuing authority is gone: make a new one with the root key (`cloud-hub ca renew`)")
        return issuing[max(issuing)]

    def _read(self) -> dict[int, Issuing]:
        return {number: self._folder.issuing(number, self._root) for number in self._folder.numbers()}

    def _sign(self, csr_pem: str, subject: x509.Name, days: int) -> str:
        public_key = checked_csr(csr_pem).public_key
        usage, life = ExtendedKeyUsageOID.CLIENT_AUTH, timedelta(days=days)
        return self._now.issue(subject, public_key, usage=usage, now=self._clock.now(), life=life)

    def _client(self, subject: x509.Name, life: timedelta) -> Issued:
        return self._now.issue_pair(subject, usage=ExtendedKeyUsageOID.CLIENT_AUTH, now=self._clock.now(), life=life)
