"""What a device ran before, as columns of ``rollout_devices``: a model in four, a package as a document in one."""

from typing import Any

from cloud_hub.store import schema
from cloud_hub.store.database import Tx
from protos.contract.ids import Digest, ModelName
from protos.contract.twin import ModelAssignment, PackageAssignment, PackageKind

Previous = ModelAssignment | PackageAssignment


def columns(tx: Tx, previous: Previous | None) -> tuple[Any, ...]:
    """Name, version, manifest, its size; or a package."""
    if isinstance(previous, ModelAssignment):
        return previous.name, previous.version, previous.manifest_digest, previous.manifest_size_bytes, None
    if previous is None:
        return None, None, None, None, None
    values = {"kind": previous.kind.name, "name": previous.name, "version": previous.version}
    stored = {**values, "digest": previous.digest, "size_bytes": previous.size_bytes}
    return None, None, None, None, schema.Json().process_bind_param(stored, tx.dialect)


def read(row: Any) -> Previous | None:
    """Of a row with these columns."""
    if row.previous_package is not None:
        values = dict(row.previous_package)
        return PackageAssignment(kind=PackageKind[values.pop("kind")], **values)
    if row.previous_name is None:
        return None
    return ModelAssignment(
        name=ModelName(row.previous_name),
        version=row.previous_version,
        manifest_digest=Digest(row.previous_manifest),
        manifest_size_bytes=row.previous_manifest_bytes,
    )
