"""Samples scored by all of a Ray cluster: each worker loads the model once and takes batch after batch."""

import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import ray
from ray.data import ActorPoolStrategy

from cloud_hub.pipeline.cluster.session import cluster
from cloud_hub.pipeline.scoring import ROWS, SCORES, Scored, Scorer


def score(source: Path, target: Path, manifest: bytes, model: bytes, *, workers: int, address: str) -> Scored:
    """As ``scoring.score``; the cluster must see ``source``. Raises Unavailable besides."""
    started, problems, count = time.monotonic(), 0, 0
    with cluster(address, workers + 1):
        data = ray.data.read_parquet(str(source)).map_batches(
            Scorer,
            fn_constructor_args=(manifest, model),
            batch_size=ROWS,
            compute=ActorPoolStrategy(size=workers),
        )
        with pq.ParquetWriter(target, SCORES) as writer:
            for batch in data.iter_batches(batch_size=ROWS, batch_format="pyarrow"):
                table = pa.table({name: batch.column(name) for name in SCORES.names}).cast(SCORES)
                writer.write_table(table)
                problems += sum(bool(each) for each in table.column("problem").to_pylist())
                count += len(table)
    return Scored(samples=count, problems=problems, seconds=time.monotonic() - started)
