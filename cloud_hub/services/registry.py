"""Use cases about models: publishing immutable versions, naming them, choosing the file for a device."""

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime

import firmware_images
from cloud_hub.core.errors import Conflict, Invalid, NotFound
from cloud_hub.core.model import DEFAULT_TENANT, Baseline, Model, ModelVersion, Principal, Role, Variant
from cloud_hub.core.variants import Standing, choose, standings
from cloud_hub.services import packages, releases
from cloud_hub.store import fits, fleet
from cloud_hub.store import registry as store
from cloud_hub.store.artifacts import ArtifactStore
from cloud_hub.store.database import Database, Tx
from edge_agent.core.clock import Clock
from protos.contract import codec, ids
from protos.contract.boards import Board
from protos.contract.errors import ContractError
from protos.contract.ids import DeviceId, Digest, ModelName, TenantId
from protos.contract.twin import MAX_MANIFEST_BYTES, ModelAssignment

log = logging.getLogger(__name__)

CHAMPION = "champion"
CHALLENGER = "challenger"
MAX_VARIANTS = 16

_ALIAS = re.compile(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?")  # never a number, which would read as a version


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedVersion:
    """What a pipeline hands over. ``version`` is reserved; every variant's manifest names it and is in the artifact store."""

    name: ModelName
    version: int
    task: str
    variants: tuple[Variant, ...]
    baseline: Baseline
    report: Mapping[str, object]  # JSON
    job_id: str = ""
    tenant: TenantId = DEFAULT_TENANT


class RegistryService:
    """Versions never change once published; only aliases move."""

    def __init__(self, db: Database, artifacts: ArtifactStore, clock: Clock) -> None:
        self._db = db
        self._artifacts = artifacts
        self._clock = clock

    def models(self, who: Principal) -> list[Model]:
        """By name."""
        with self._db.read() as tx:
            return store.list_models(tx, who.tenant)

    def versions(self, who: Principal, name: ModelName) -> list[ModelVersion]:
        """Newest first. Raises NotFound where the model has none."""
        with self._db.read() as tx:
            versions = store.list_versions(tx, who.tenant, name)
        if not versions:
            raise NotFound(f"no model {name}")
        return versions

    def get(self, who: Principal, name: ModelName, version: int | None = None, alias: str | None = None) -> ModelVersion:
        """By number or else by alias. Raises NotFound, Invalid."""
        if version is None and alias is None:
            raise Invalid(f"say which version of {name}: a number or an alias")
        with self._db.read() as tx:
            if version is None:
                version = store.aliased(tx, who.tenant, name, alias or "")
                if version is None and store.find_model(tx, who.tenant, name) is None:
                    raise NotFound(f"no model {name}")
                if version is None:
                    raise NotFound(f"model {name} has no alias {(alias or '')[:64]!r}")
            return find_version(tx, who.tenant, name, version)

    def on_boards(self, version: ModelVersion) -> list[tuple[str, list[Standing]]]:
        """By board that this hub knows: how each target that it could run stands there."""
        return [(board.name, standings(version, board)) for _, board in sorted(firmware_images.boards().items())]

    def set_alias(self, who: Principal, name: ModelName, alias: str, version: int) -> Model:
        """Raises NotFound where there is no such version, Invalid for an alias that is not a name."""
        if not _ALIAS.fullmatch(alias):
            raise Invalid(f"an alias must be 1 to 63 of a-z, 0-9 and inner '-', starting with a letter, got {alias[:64]!r}")
        with self._db.write() as tx:
            find_version(tx, who.tenant, name, version)
            store.put_alias(tx, who.tenant, name, alias, version)
            model = store.find_model(tx, who.tenant, name)
        assert model is not None  # one of its versions was found in this transaction
        log.info("alias set", extra={"model": name, "alias": alias, "version": version, "by": who.name})
        return model

    def reserve(self, name: ModelName, tx: Tx | None = None, tenant: TenantId = DEFAULT_TENANT) -> int:
        """The next version number: handed out once, never again, used or not."""
        now = self._clock.now()
        if tx is not None:
            return store.reserve(tx, tenant, name, now)
        with self._db.write() as own:
            return store.reserve(own, tenant, name, now)

    def publish(self, published: PublishedVersion) -> ModelVersion:
        """Make a version visible, with alias ``challenger``; all or nothing. A job publishes once: again gives what it gave.

        Raises:
            Invalid: a manifest does not describe its variant, or two variants share a target.
            NotFound: a blob is not in the artifact store.
            Conflict: the number was not reserved or is taken, or the model is for another task.
        """
        self._check_variants(published)
        with self._db.write() as tx:
            earlier = store.published_by(tx, published.tenant, published.job_id)
            if earlier is not None:
                return earlier
            _check_free(tx, published)
            new = _new_version(published, self._clock.now())
            store.add_version(tx, published.tenant, new)
            releases.queue(tx, published.tenant, new, self._artifacts, new.created_at)
            store.put_alias(tx, published.tenant, published.name, CHALLENGER, published.version)
            version = find_version(tx, published.tenant, published.name, published.version)
        log.info("version published", extra={"model": version.name, "version": version.version, "job": version.job_id})
        return version

    def published_by(self, who: Principal, job_id: str) -> ModelVersion | None:
        """What a training job gave."""
        with self._db.read() as tx:
            return store.published_by(tx, who.tenant, job_id)

    def assignment(
        self, version: ModelVersion, board: Board, runtimes: tuple[str, ...] = ()
    ) -> tuple[Variant, ModelAssignment]:
        """The file of a version for a board; ``runtimes`` as the device reports them, empty where it never did.

        Raises:
            NotReady: no variant runs there; the message says why for each.
        """
        variant = choose(version, board, runtimes)
        assignment = ModelAssignment(
            name=version.name,
            version=version.version,
            manifest_digest=variant.manifest_digest,
            manifest_size_bytes=variant.manifest_size_bytes,
        )
        return variant, assignment

    def offer(self, tx: Tx, tenant: TenantId, name: ModelName, version: int) -> bool:
        """Make it what devices may go to, the newest release of its model; whether they can verify it already.

        Raises NotFound, Invalid.
        """
        now = self._clock.now()
        if not releases.promote(tx, tenant, name, version, now):
            releases.queue(tx, tenant, find_version(tx, tenant, name, version), self._artifacts, now)
        return releases.released(tx, tenant, name, version)

    def readable_by(self, who: Principal, digest: Digest) -> bool:
        """Users read every published blob of their tenant; a device those of the manifests it should run or says it runs."""
        if who.role is Role.ANONYMOUS:
            return False
        with self._db.read() as tx:
            if who.role is not Role.DEVICE:
                return store.names_blob(tx, who.tenant, None, digest) or packages.readable_by(tx, who, None, digest)
            device = fleet.find(tx, DeviceId(who.name))
            if device is None or device.tenant != who.tenant:
                return False
            manifests = tuple(fleet.manifests_of(tx, device.id))
            return store.names_blob(tx, who.tenant, manifests, digest) or packages.readable_by(tx, who, device, digest)

    def _check_variants(self, published: PublishedVersion) -> None:
        targets = [variant.target for variant in published.variants]
        if not 1 <= len(targets) <= MAX_VARIANTS or len(set(targets)) != len(targets):
            raise Invalid(
                f"{published.name}:{published.version} needs 1..{MAX_VARIANTS} variants, each for a target of its own"
            )
        for variant in published.variants:
            self._check_manifest(published, variant)

    def _check_manifest(self, published: PublishedVersion, variant: Variant) -> None:
        where = f"{published.name}:{published.version} {variant.target}"
        if variant.manifest_size_bytes > MAX_MANIFEST_BYTES:
            raise Invalid(f"{where}: manifest is larger than {MAX_MANIFEST_BYTES} bytes")
        data = self._artifacts.read(variant.manifest_digest)
        try:
            manifest = codec.decode_manifest(data)
        except ContractError as error:
            raise Invalid(f"{where}: {error}") from error
        said = (manifest.name, manifest.version, manifest.task, manifest.artifact.digest, manifest.artifact.size_bytes)
        meant = (published.name, published.version, published.task, variant.artifact_digest, variant.artifact_size_bytes)
        if said != meant or manifest.golden.blob.digest != variant.golden_digest or len(data) != variant.manifest_size_bytes:
            raise Invalid(f"{where}: the manifest describes something else: {said} instead of {meant}")
        if manifest.output.labels != published.baseline.labels:
            raise Invalid(f"{where}: the manifest's labels are not those of the baseline")
        for blob in (manifest.artifact, manifest.golden.blob):
            if self._artifacts.size(blob.digest) != blob.size_bytes:
                raise Invalid(f"{where}: blob {blob.digest} has another size than the manifest says")


def find_version(tx: Tx, tenant: TenantId, name: ModelName, version: int) -> ModelVersion:
    """With what devices measured of it. Raises NotFound."""
    found = store.find_version(tx, tenant, name, version)
    if found is None:
        raise NotFound(f"no version {version} of model {name}")
    return replace(found, fits=fits.of_variants(tx, tenant, found.variants))


def _check_free(tx: Tx, published: PublishedVersion) -> None:
    name, version = published.name, published.version
    if not 1 <= version <= store.reserved(tx, published.tenant, name):
        raise Conflict(f"version {version} of {name} was not reserved")
    if store.find_version(tx, published.tenant, name, version) is not None:
        raise Conflict(f"version {version} of {name} is published already: versions never change")
    model = store.find_model(tx, published.tenant, name)
    if model is not None and model.task != published.task:
        raise Conflict(f"model {name} is for {model.task}, not {published.task}")


def _new_version(published: PublishedVersion, at: datetime) -> ModelVersion:
    return ModelVersion(
        name=ids.model_name(published.name),
        version=published.version,
        task=published.task,
        variants=published.variants,
        baseline=published.baseline,
        report=published.report,
        job_id=published.job_id,
        created_at=at,
    )
