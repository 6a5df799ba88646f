"""What the gate let through -> the blobs, variants and baseline of one version."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cloud_hub.core.drift import baseline_of
from cloud_hub.core.model import Baseline, Variant
from cloud_hub.core.spec import TrainingSpec
from cloud_hub.pipeline.data import Splits
from cloud_hub.pipeline.evaluate import fit_temperature, probabilities, uncertain_below
from cloud_hub.pipeline.verify import Verified
from protos.contract import codec, ids
from protos.contract.ids import Digest, ModelName
from protos.contract.manifest import MIN_CHUNK_BYTES, Blob, Chunks, ClassificationSpec, GoldenRef, Manifest


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """A whole version in memory: store every blob, then publish the rest."""

    name: ModelName
    version: int
    task: str
    variants: tuple[Variant, ...]
    baseline: Baseline
    temperature: float
    min_confidence: float
    blobs: Mapping[Digest, bytes]


def package(spec: TrainingSpec, version: int, kept: Sequence[Verified], splits: Splits) -> Package:
    """Confidence is calibrated on what the kept files themselves said on the validation split."""
    logits = np.concatenate([item.val_logits for item in kept])
    temperature = fit_temperature(logits, np.tile(splits.val.labels, len(kept)))
    threshold = uncertain_below(logits, temperature)
    certain = probabilities(logits, temperature)
    classification = ClassificationSpec(labels=splits.labels, min_confidence=threshold, temperature=temperature)
    blobs: dict[Digest, bytes] = {}
    variants = tuple(_variant(spec, version, item, classification, blobs) for item in kept)
    return Package(
        name=ids.model_name(spec.name),
        version=version,
        task=spec.task,
        variants=variants,
        baseline=baseline_of(splits.labels, certain.argmax(1), np.minimum(certain.max(1), 1), files=len(kept)),
        temperature=temperature,
        min_confidence=threshold,
        blobs=blobs,
    )


def _variant(
    spec: TrainingSpec, version: int, item: Verified, classification: ClassificationSpec, blobs: dict[Digest, bytes]
) -> Variant:
    artifact = item.artifact
    model = _add(blobs, artifact.data)
    golden = _add(blobs, codec.encode_golden(item.golden))
    manifest = _add(
        blobs,
        codec.encode_manifest(
            Manifest(
                name=ids.model_name(spec.name),
                version=version,
                task=spec.task,
                artifact=model,
                format=artifact.format,
                precision=artifact.precision,
                preprocess=item.preprocess,
                classification=classification,
                golden=GoldenRef(blob=golden, tolerance=item.tolerance),
                chunks=Chunks.of(artifact.data, MIN_CHUNK_BYTES),  # 32 bytes for each: a bad one costs no more than itself
            )
        ),
    )
    return Variant(
        target=artifact.target,
        manifest_digest=manifest.digest,
        manifest_size_bytes=manifest.size_bytes,
        artifact_digest=model.digest,
        artifact_size_bytes=model.size_bytes,
        golden_digest=golden.digest,
        accuracy=item.score.accuracy,
        latency_p50_ms=item.latency_p50_ms,
        output_error=item.output_error,
    )  # boards stay empty: any board with the runtime and the room, those described later included


def _add(blobs: dict[Digest, bytes], data: bytes) -> Blob:
    digest = ids.digest_of(data)
    blobs[digest] = data
    return Blob(digest=digest, size_bytes=len(data))
