"""What the gate let through -> the blobs, variants and baseline of one version."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from cloud_hub.core.drift import baseline_of
from cloud_hub.core.model import Baseline, Variant
from cloud_hub.pipeline import fitting
from cloud_hub.pipeline.data import Splits
from cloud_hub.pipeline.task import Task
from cloud_hub.pipeline.verify import Verified
from protos.contract import codec, ids
from protos.contract.ids import Digest, ModelName
from protos.contract.manifest import MIN_CHUNK_BYTES, Blob, Chunks, GoldenRef, Manifest
from protos.contract.outputs import Output


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """A whole version in memory: store every blob, then publish the rest."""

    name: ModelName
    version: int
    task: str
    variants: tuple[Variant, ...]
    baseline: Baseline
    about: Mapping[str, object]  # JSON: how devices read the outputs
    weights: Blob  # safetensors, float32: what the next version may go on from; devices never load it
    blobs: Mapping[Digest, bytes]


def package(task: Task, version: int, kept: Sequence[Verified], splits: Splits, weights: bytes) -> Package:
    """Confidence is calibrated on what the kept files themselves said on the validation split.

    ``weights``: of the network that the files were made from, as ``finetune.weights_of`` writes them.
    """
    spec = task.spec
    output = task.output(splits, np.concatenate([item.val_outputs for item in kept]))
    said = [each for item in kept for each in task.predictions(item.val_outputs, splits.val, splits, output)]
    labels, confidence = np.array([each.label for each in said]), np.array([each.confidence for each in said])
    blobs: dict[Digest, bytes] = {}
    variants = tuple(_variant(task, version, item, output, blobs) for item in kept)
    return Package(
        name=ids.model_name(spec.name),
        version=version,
        task=spec.task,
        variants=variants,
        baseline=baseline_of(output.labels, labels, np.minimum(confidence, 1), files=len(kept)),
        about={name: value for name, value in asdict(output).items() if isinstance(value, int | float | str)},
        weights=_add(blobs, weights),
        blobs=blobs,
    )


def _variant(task: Task, version: int, item: Verified, output: Output, blobs: dict[Digest, bytes]) -> Variant:
    artifact, spec = item.artifact, task.spec
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
                input=item.input,
                output=output,
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
        score=item.score.value,
        metric=task.metric.name,
        latency_p50_ms=item.latency_p50_ms,
        output_error=item.output_error,
        boards=fitting.names(item),
    )


def _add(blobs: dict[Digest, bytes], data: bytes) -> Blob:
    digest = ids.digest_of(data)
    blobs[digest] = data
    return Blob(digest=digest, size_bytes=len(data))
