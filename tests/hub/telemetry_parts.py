"""Batches as a device cuts them, and a published version whose readings they hold."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cloud_hub.core.drift import baseline_of
from cloud_hub.core.model import Baseline, ModelVersion, Variant
from cloud_hub.store import registry
from cloud_hub.store.database import Database
from protos.contract import ids
from protos.contract.ids import DeviceId, Digest, ModelName, TenantId
from protos.contract.telemetry import Batch, Event, InferenceTable, Lane, to_ms

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
TENANT = TenantId("default")
CAM = DeviceId("cam-1")
DIGITS = ModelName("digits")
LABELS = tuple("0123456789")


def manifest(model: str, version: int) -> Digest:
    return ids.digest_of(f"manifest {model} {version}".encode())


def clean(rng: np.random.Generator, readings: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Labels and confidences of a good digit classifier on what it was trained for."""
    return rng.integers(0, len(LABELS), readings), 1.0 - rng.beta(1.2, 14.0, readings)


def dark(rng: np.random.Generator, readings: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """The same when the light goes: it sees ones and sevens, and is not sure of it."""
    return rng.choice([1, 7, 4], readings, p=[0.6, 0.3, 0.1]), rng.beta(6.0, 5.0, readings)


def baseline(samples: int = 400, seed: int = 7) -> Baseline:
    return baseline_of(LABELS, *clean(np.random.default_rng(seed), samples))


def publish(db: Database, version: int, name: ModelName = DIGITS, tenant: TenantId = TENANT) -> ModelVersion:
    """A version row as a job leaves it; its files do not matter here."""
    variant = Variant(
        target="onnx-int8",
        manifest_digest=manifest(name, version),
        manifest_size_bytes=100,
        artifact_digest=ids.digest_of(b"artifact"),
        artifact_size_bytes=8,
        golden_digest=ids.digest_of(b"golden"),
        score=0.98,
        metric="accuracy",
        latency_p50_ms=1.0,
        output_error=0.01,
    )
    made = ModelVersion(
        name=name,
        version=version,
        task="image-classification",
        variants=(variant,),
        baseline=baseline(),
        report={},
        job_id=f"job-{name}-{version}",
        created_at=START,
    )
    with db.write() as tx:
        registry.reserve(tx, tenant, name, START)
        registry.add_version(tx, tenant, made)
    return made


def batch(
    first: int,
    count: int = 10,
    *,
    at: datetime | None = None,
    step_ms: int = 100,
    version: int = 1,
    model: str = DIGITS,
    labels: Sequence[int] | NDArray[Any] | None = None,
    confidence: Sequence[float] | NDArray[Any] | None = None,
    epoch: str = "e1",
    lane: Lane = Lane.NORMAL,
    events: int = 0,
) -> Batch:
    """``count`` readings from ``at`` (by default where the sequence is) on, ``step_ms`` apart, and ``events`` behind them."""
    at = at or START + timedelta(milliseconds=step_ms * first)
    table = InferenceTable(
        sequence=np.arange(first, first + count, dtype="<u8"),
        captured_at_ms=to_ms(at) + step_ms * np.arange(count, dtype="<i8"),
        label=np.asarray(labels if labels is not None else np.arange(count) % 10, dtype="<u2"),
        confidence=np.asarray(confidence if confidence is not None else np.full(count, 0.95), dtype="<f4"),
        latency_ms=np.full(count, 2.0, dtype="<f4"),
        flags=np.zeros(count, dtype="u1"),
        frame_key=np.zeros(count, dtype="<u8"),
        model=np.zeros(count, dtype="u1"),
        models=(manifest(model, version),),
    )
    last = first + count + events - 1
    told = tuple(
        Event(sequence=sequence, at=at + timedelta(seconds=1), kind="camera.moved", detail=str(sequence))
        for sequence in range(first + count, last + 1)
    )
    return Batch(epoch=epoch, lane=lane, first_sequence=first, last_sequence=last, inferences=table, events=told)
