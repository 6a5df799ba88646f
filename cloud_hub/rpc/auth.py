"""Who calls: the subject of the peer's certificate, which TLS has already checked against our authority."""

import hashlib
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.x509.oid import NameOID, ObjectIdentifier

from cloud_hub.core.model import Principal, Role
from cloud_hub.rpc.errors import Unauthenticated
from protos.contract import ids
from protos.contract.errors import InvalidId

_USER_PREFIX = "user:"  # a colon cannot occur in a device id
_CACHED_PEERS = 4096
_ROLES = {role.value: role for role in (Role.DEVICE, Role.ADMIN)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    principal: Principal
    serial: int = 0
    expires_at: datetime | None = None  # None: no certificate, nothing to expire


ANONYMOUS = Peer(principal=Principal(role=Role.ANONYMOUS, name=""))


class Peers:
    """Parses a certificate once and remembers it by its digest."""

    def __init__(self) -> None:
        self._known: OrderedDict[bytes, Peer] = OrderedDict()

    def of(self, auth_context: Mapping[str, Iterable[bytes]]) -> Peer:
        """Raises Unauthenticated for a certificate that names nobody."""
        pem = next(iter(auth_context.get("x509_pem_cert", ())), None)
        if pem is None:
            return ANONYMOUS
        key = hashlib.sha256(pem).digest()
        peer = self._known.get(key)
        if peer is None:
            peer = self._known[key] = peer_of(pem)
            if len(self._known) > _CACHED_PEERS:
                self._known.popitem(last=False)
        return peer


def peer_of(pem: bytes) -> Peer:
    """CN names the caller, O the tenant, OU the role. Raises Unauthenticated."""
    try:
        certificate = x509.load_pem_x509_certificate(pem)
        subject = certificate.subject
        name, role = _one(subject, NameOID.COMMON_NAME), _one(subject, NameOID.ORGANIZATIONAL_UNIT_NAME)
        principal = Principal(
            role=_ROLES[role],
            name=_user(name) if role == Role.ADMIN else ids.device_id(name),
            tenant=ids.tenant_id(_one(subject, NameOID.ORGANIZATION_NAME)),
        )
    except (ValueError, KeyError) as error:  # InvalidId is a ValueError
        raise Unauthenticated("the client certificate names no user or device: use one that this hub issued") from error
    return Peer(principal=principal, serial=certificate.serial_number, expires_at=certificate.not_valid_after_utc)


def _one(subject: x509.Name, kind: ObjectIdentifier) -> str:
    (attribute,) = subject.get_attributes_for_oid(kind)
    return str(attribute.value)


def _user(common_name: str) -> str:
    if not common_name.startswith(_USER_PREFIX):
        raise InvalidId(f"a user's common name starts with {_USER_PREFIX!r}, got {common_name[:80]!r}")
    return common_name.removeprefix(_USER_PREFIX)
