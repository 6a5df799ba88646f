"""Devices, as the hub knows them."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from protos.contract.ids import DeviceId, TenantId
from protos.contract.twin import DesiredTwin, Presence, ReportedTwin


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """The newest certificate of a device."""

    serial: str  # hexadecimal
    issued_at: datetime
    expires_at: datetime
    revoked_at: datetime | None = None
    reason: str = ""  # of the revocation


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    id: DeviceId
    tenant: TenantId
    board: str
    labels: Mapping[str, str]
    enrolled: bool
    presence: Presence | None  # None: never seen
    last_seen: datetime | None
    desired: DesiredTwin  # generation 0: nothing asked yet
    reported: ReportedTwin | None
    created_at: datetime
    credential: Credential | None = None  # None: never enrolled, or not asked for
    pending_fingerprint: str = ""  # of a key that waits for approval
