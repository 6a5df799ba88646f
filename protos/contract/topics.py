"""The MQTT topic tree: ``tl/v1/<tenant>/<device>/(up|down)/...``."""

from dataclasses import dataclass

from protos.contract.errors import InvalidId, InvalidTopic
from protos.contract.ids import DeviceId, TenantId, device_id, tenant_id
from protos.contract.telemetry import Lane

ROOT = "tl/v1"
STATUS = "up/status"
REPORTED = "up/reported"
TELEMETRY = "up/telemetry"
DESIRED = "down/desired"
WATERMARK = "down/watermark"

HUB_SUBSCRIPTION = f"{ROOT}/+/+/up/#"  # all of it, where the broker cannot share it out
TWIN_SUBSCRIPTION = f"{ROOT}/+/+/up/+"  # and what is none; they need their order, so one subscriber has them all
TELEMETRY_SUBSCRIPTION = f"$share/ingest/{ROOT}/+/+/{TELEMETRY}/+/#"  # each message goes to one of its subscribers


@dataclass(frozen=True, slots=True)
class UpTopic:
    """A parsed ``up`` topic. ``lane`` is set for telemetry only."""

    tenant: TenantId
    device: DeviceId
    kind: str  # STATUS, REPORTED or TELEMETRY
    lane: Lane | None = None


def of(tenant: TenantId, device: DeviceId, kind: str) -> str:
    return f"{ROOT}/{tenant}/{device}/{kind}"


def telemetry(tenant: TenantId, device: DeviceId, lane: Lane) -> str:
    return of(tenant, device, f"{TELEMETRY}/{lane.name.lower()}")


def parse_up(topic: str) -> UpTopic:
    """Raises InvalidTopic for anything a device has no business publishing."""
    parts = topic.split("/")
    if len(parts) < 6 or parts[0] != "tl" or parts[1] != "v1" or parts[4] != "up":
        raise InvalidTopic(f"not a device's topic: {topic[:200]!r}")
    try:
        tenant, device = tenant_id(parts[2]), device_id(parts[3])
    except InvalidId as error:
        raise InvalidTopic(f"{error} in topic {topic[:200]!r}") from error
    kind = "/".join(parts[4:6])
    if kind in (STATUS, REPORTED) and len(parts) == 6:
        return UpTopic(tenant, device, kind)
    if kind == TELEMETRY and len(parts) == 7 and parts[6].upper() in Lane.__members__ and parts[6].islower():
        return UpTopic(tenant, device, kind, Lane[parts[6].upper()])
    raise InvalidTopic(f"unknown topic {topic[:200]!r}")
