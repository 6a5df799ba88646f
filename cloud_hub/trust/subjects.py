"""Who a certificate is for. The common name says who, O the tenant, OU the role.

Devices carry their id as common name. Every other name holds a colon, which no device id can: ``user:<name>``, ``tl:hub``,
``tl:ingest-<number>``.
"""

import ipaddress
import os

from cryptography import x509
from cryptography.x509.oid import NameOID

from cloud_hub.core.errors import Invalid
from protos.contract import ids
from protos.contract.ids import TenantId

HUB_NAME = "tl:hub"
SERVER_NAME = "tl:server"
HUB_ROLE = "hub"  # no caller's: gRPC takes nobody by it
USER_PREFIX = "user:"
_MAX_NAME = 64  # X.520 ub-common-name


def ingest_name(number: int) -> str:
    """Common name of the ``number``-th process that ingests; the hub itself is the first."""
    return f"tl:ingest-{number}"


def of_user(name: str) -> str:
    """A user's common name. Raises Invalid for a name that is empty, too long or not printable."""
    common_name = USER_PREFIX + name
    if not name or not name.isprintable() or len(common_name) > _MAX_NAME:
        raise Invalid(f"user name must be 1..{_MAX_NAME - len(USER_PREFIX)} printable characters, got {name[:80]!r}")
    return common_name


def subject_of(common_name: str, tenant: TenantId, role: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, ids.tenant_id(tenant)),
            x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, str(role)),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
        ]
    )


def authority_name(kind: str) -> x509.Name:
    """``kind``: "root" or "issuing"."""
    # two authorities must differ by name, or a verifier that holds both tries the wrong one
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Tideline"),
            x509.NameAttribute(NameOID.COMMON_NAME, f"Tideline hub {kind} CA {os.urandom(4).hex()}"),
        ]
    )


def alternative(name: str) -> x509.GeneralName:
    """An IP address or DNS name. Raises Invalid."""
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        pass
    try:
        return x509.DNSName(name)
    except ValueError as error:
        raise Invalid(f"{name[:253]!r} is neither an IP address nor a DNS name") from error
