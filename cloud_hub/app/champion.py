"""The version that a job's has to beat, with its files."""

from typing import TYPE_CHECKING

from cloud_hub.core.errors import BadArtifact, NotFound, NotReady
from cloud_hub.core.model import ModelVersion, Principal
from cloud_hub.core.spec import TrainingSpec
from cloud_hub.services.registry import CHAMPION, RegistryService
from cloud_hub.store.artifacts import ArtifactStore
from protos.contract import codec
from protos.contract.ids import Digest, model_name

if TYPE_CHECKING:  # importing it loads torch: the environment must be set first
    from cloud_hub.pipeline.gate import Champion


def find(registry: RegistryService, artifacts: ArtifactStore, who: Principal, spec: TrainingSpec) -> "Champion | None":
    """With the file most devices run; None: there is no champion.

    Raises NotReady where the hub has lost one of its files: nothing could be compared with it after the training.
    """
    try:
        version = registry.get(who, model_name(spec.name), alias=CHAMPION)
    except NotFound:
        return None
    try:
        return _read(artifacts, version, spec)
    except (NotFound, BadArtifact) as error:
        lost = f"the champion, version {version.version}, cannot be compared: {error}"
        raise NotReady(f"{lost}; restore it, or make another version the champion (hubctl model promote)") from error


def _read(artifacts: ArtifactStore, version: ModelVersion, spec: TrainingSpec) -> "Champion":
    from cloud_hub.pipeline.gate import Champion

    rank = {target: i for i, target in enumerate(spec.targets)}
    variant = min(version.variants, key=lambda variant: rank.get(variant.target, len(rank)))
    further = spec.train.finetune.mode != "off"
    return Champion(
        version=version.version,
        target=variant.target,
        manifest=codec.decode_manifest(artifacts.read(variant.manifest_digest)),
        model=artifacts.read(variant.artifact_digest),
        weights=_weights(artifacts, version) if further else b"",
        files={each.target: artifacts.read(each.artifact_digest) for each in version.variants},
    )


def _weights(artifacts: ArtifactStore, version: ModelVersion) -> bytes:
    """Empty where they were not kept: versions of old have none."""
    kept = version.report.get("weights")
    if not isinstance(kept, dict) or "digest" not in kept:
        return b""
    try:
        return artifacts.read(Digest(kept["digest"]))
    except NotFound:
        return b""
