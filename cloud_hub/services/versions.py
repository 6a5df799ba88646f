"""Versions by the manifest that devices name in their readings, remembered: published versions never change."""

from cloud_hub.core.model import ModelVersion
from cloud_hub.store import registry
from cloud_hub.store.database import Tx
from protos.contract.ids import Digest, TenantId

_REMEMBERED = 256


class Versions:
    """Thread-safe. A version's aliases may be old."""

    def __init__(self) -> None:
        self._known: dict[tuple[TenantId, Digest], ModelVersion] = {}

    def find(self, tx: Tx, tenant: TenantId, manifest: Digest) -> ModelVersion | None:
        """None where no published version has this manifest."""
        version = self._known.get((tenant, manifest))
        if version is None:
            version = registry.of_manifest(tx, tenant, manifest)
            if version is not None:
                if len(self._known) >= _REMEMBERED:
                    self._known.clear()
                self._known[tenant, manifest] = version
        return version

    def labels(self, tx: Tx, tenant: TenantId, manifest: Digest) -> tuple[str, ...]:
        """Class names in index order; empty where the manifest is not known here."""
        version = self.find(tx, tenant, manifest)
        return version.baseline.labels if version else ()
