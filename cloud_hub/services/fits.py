"""What devices say about the models that they try: how variants fit their boards, and what challengers do."""

from datetime import datetime

from cloud_hub.store import fits as store
from cloud_hub.store import fleet, registry, shadows
from cloud_hub.store.database import Tx
from protos.contract.ids import DeviceId, Digest, TenantId
from protos.contract.twin import Fit, ReportedTwin

MOST_DEVICES = 25  # of one board, for each variant: their medians do not move any more


def heard(tx: Tx, tenant: TenantId, device: DeviceId, twin: ReportedTwin, now: datetime) -> None:
    """A device has reported; it costs one look by key where nothing is new."""
    if twin.update is not None and twin.update.fit is not None:
        _measured(tx, tenant, device, twin.update.model.manifest_digest, twin.update.fit, now)
    if twin.shadow is not None:
        shadows.report(tx, tenant, device, twin.shadow, now)
        if twin.shadow.fit is not None:
            _measured(tx, tenant, device, twin.shadow.model.manifest_digest, twin.shadow.fit, now)


def _measured(tx: Tx, tenant: TenantId, device: DeviceId, manifest: Digest, fit: Fit, now: datetime) -> None:
    """The board is the one that the device was made for here, not what it calls itself; what this hub never published is not
    kept."""
    if store.find(tx, tenant, manifest, device) == fit or registry.of_manifest(tx, tenant, manifest) is None:
        return
    known = fleet.find(tx, device)
    if known is not None:
        store.put(tx, tenant, manifest, device, known.board, fit, now, most=MOST_DEVICES)
