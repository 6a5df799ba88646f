"""Who calls, and what he may."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from protos.contract.ids import TenantId

DEFAULT_TENANT = TenantId("default")


class Role(StrEnum):
    """Who may call what: ``cloud_hub.rpc.policy``."""

    ANONYMOUS = "anonymous"  # no certificate and no token: enrolment and health only
    DEVICE = "device"
    VIEWER = "viewer"  # reads
    LABELLER = "labeller"  # reads, and works on data sets
    OPERATOR = "operator"  # reads, and runs devices, streams, alerts and training
    RELEASER = "releaser"  # reads, and decides what devices run
    ADMIN = "admin"  # everything, users and trust included


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """Who calls, as certificate or token prove and the database confirms."""

    role: Role
    name: str  # device id or user name
    tenant: TenantId = DEFAULT_TENANT
    token_until: datetime | None = field(default=None, compare=False)  # None: no token; it is no part of who this is
