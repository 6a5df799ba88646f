"""Batches per second through the fold: drift and one user stream, durable with how far it is folded.

The reference is decoding alone, batch by batch as ingest's slow way does it, in the same run and of the same batches. Devices
send batches of a hundred readings; a second figure has one batch of each device on a page, which is how a large fleet looks.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from cloud_hub.core.config import DriftConfig
from cloud_hub.core.drift import baseline_of
from cloud_hub.core.model import DEFAULT_TENANT, ModelVersion, Principal, Role, Variant
from cloud_hub.services.folding import Fold
from cloud_hub.services.streams import StreamService
from cloud_hub.store import landing, registry
from cloud_hub.store.database import Database
from edge_agent.core.clock import SystemClock
from protos.contract import codec, ids
from protos.contract.telemetry import Batch, InferenceTable, Lane, to_ms
from scripts.benches._figures import figure

ROWS = 100
AIM_MS = 0.3
MANIFEST = ids.digest_of(b"manifest")
LABELS = tuple("0123456789")
ADMIN = Principal(role=Role.ADMIN, name="bench")
STREAM = """
streams:
  quality:
    window: {kind: tumbling, size_s: 60}
    aggregates: {mean: mean(confidence), p95: p95(latency_ms), unsure: share(uncertain)}
    condition: mean < 0.5
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a few seconds instead of a minute: rougher figures")
    quick = parser.parse_args().quick
    rounds, batches = (2, 3_000) if quick else (5, 15_000)
    for name, devices in (("backlog of 60 devices", 60), ("a batch each of 500 devices", 500)):
        folded, decoded = zip(*(measure(devices, batches) for _ in range(rounds)), strict=True)
        value, reference = statistics.median(folded), statistics.median(decoded)
        ratio = statistics.median(a / b for a, b in zip(folded, decoded, strict=True))
        aim = f"{AIM_MS} ms a batch: {1000 / AIM_MS:.0f} batches/s"
        figure("fold", name, value, "batches/s", reference=reference, ratio=ratio, aim=aim)


def measure(devices: int, batches: int) -> tuple[float, float]:
    """Batches per second, folded and decoded only."""
    clock = SystemClock()
    with tempfile.TemporaryDirectory(prefix="bench-fold-") as folder:
        db = Database(f"sqlite:///{Path(folder) / 'hub.db'}")
        db.migrate()
        publish(db)
        StreamService(db, clock).put(ADMIN, STREAM)
        fold = Fold(db, DriftConfig(), clock)
        each = batches // devices
        # landed in turns, as a fleet of that size does: a page holds what came meanwhile
        turns, per_turn = (1, each) if devices <= 100 else (each, 1)
        started = to_ms(clock.now()) - 3_600_000
        seconds = 0.0
        payloads: list[bytes] = []
        for turn in range(turns):
            payloads += land(db, devices, turn * per_turn, per_turn, started)
            before = time.perf_counter()
            while waits(db):
                fold.tick()
            seconds += time.perf_counter() - before
        before = time.perf_counter()
        for payload in payloads:
            codec.decode_batch(payload)
        decoding = time.perf_counter() - before
        db.close()
    return len(payloads) / seconds, len(payloads) / decoding


def waits(db: Database) -> bool:
    with db.read() as tx:
        return bool(landing.unfolded(tx, 1))


def land(db: Database, devices: int, first: int, count: int, started_ms: int) -> list[bytes]:
    rows, payloads = [], []
    for device in range(devices):
        for number in range(first, first + count):
            batch = make(number * ROWS, started_ms)
            payload = codec.encode_batch(batch, compress=False)
            payloads.append(payload)
            head = batch.head
            rows.append(
                landing.Batch(
                    tenant=DEFAULT_TENANT,
                    device=ids.device_id(f"cam-{device:05d}"),
                    epoch=batch.epoch,
                    lane=batch.lane,
                    first_sequence=batch.first_sequence,
                    last_sequence=batch.last_sequence,
                    digest=ids.digest_of(payload),
                    records=head.records,
                    dropped=0,
                    first_captured_ms=head.first_captured_ms,
                    last_captured_ms=head.last_captured_ms,
                    received_ms=to_ms(SystemClock().now()),
                    payload=payload,
                )
            )
    with db.write() as tx:
        landing.land_many(tx, rows)
    return payloads


def make(first: int, started_ms: int) -> Batch:
    random = np.random.default_rng(first)
    steps = np.arange(ROWS)
    table = InferenceTable(
        sequence=(first + steps).astype("<u8"),
        captured_at_ms=(started_ms + 100 * (first + steps)).astype("<i8"),
        label=random.integers(0, len(LABELS), ROWS).astype("<u2"),
        confidence=random.random(ROWS).astype("<f4"),
        latency_ms=(random.random(ROWS) * 5).astype("<f4"),
        flags=(random.random(ROWS) < 0.1).astype("u1"),
        frame_key=random.integers(0, 1 << 63, ROWS).astype("<u8"),
        model=np.zeros(ROWS, "u1"),
        models=(MANIFEST,),
    )
    return Batch(epoch="bench", lane=Lane.NORMAL, first_sequence=first, last_sequence=first + ROWS - 1, inferences=table)


def publish(db: Database) -> None:
    random, now = np.random.default_rng(7), SystemClock().now()
    name = ids.model_name("digits")
    variant = Variant(
        target="onnx-int8",
        manifest_digest=MANIFEST,
        manifest_size_bytes=100,
        artifact_digest=ids.digest_of(b"artifact"),
        artifact_size_bytes=8,
        golden_digest=ids.digest_of(b"golden"),
        score=0.98,
        metric="accuracy",
        latency_p50_ms=1.0,
        output_error=0.01,
    )
    version = ModelVersion(
        name=name,
        version=1,
        task="image-classification",
        variants=(variant,),
        baseline=baseline_of(LABELS, random.integers(0, len(LABELS), 400), random.random(400)),
        report={},
        job_id="bench",
        created_at=now,
    )
    with db.write() as tx:
        registry.reserve(tx, DEFAULT_TENANT, name, now)
        registry.add_version(tx, DEFAULT_TENANT, version)


if __name__ == "__main__":
    main()
