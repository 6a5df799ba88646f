"""A version's file over many samples at once: what it says of each, by the device's own code."""

import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from cloud_hub.pipeline.clean import RawSample
from cloud_hub.pipeline.images import pixels_of
from edge_agent.core.errors import AgentError
from edge_agent.infer.answers import answer
from edge_agent.infer.inputs import Content, decode_content, tensor_of
from edge_agent.infer.runtimes import load
from protos.contract import codec
from protos.contract.errors import ContractError
from protos.contract.inputs import SampleKind

SAMPLES = pa.schema([("id", pa.string()), ("name", pa.string()), ("content", pa.binary())])
SCORES = pa.schema(
    [
        ("id", pa.string()),
        ("name", pa.string()),
        ("label", pa.string()),  # null where the sample cannot be used
        ("confidence", pa.float32()),
        ("value", pa.float64()),  # null where the model gives no number
        ("problem", pa.string()),
    ]
)
ROWS = 512  # of a row group, and of a batch
FILE_BYTES = 64 << 20  # of samples, about: what is held while a file is made, and what a worker of a cluster reads at once


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    samples: int
    problems: int  # samples that cannot be used
    seconds: float


class Scorer:
    """One model file, loaded once; for one thread."""

    def __init__(self, manifest: bytes, model: bytes) -> None:
        """Raises InvalidMessage, BadModel."""
        self._manifest = codec.decode_manifest(manifest)
        self._runtime = load(self._manifest.format, model)

    def __call__(self, batch: Mapping[str, NDArray[Any]]) -> dict[str, list[Any]]:
        """Columns of SAMPLES -> columns of SCORES."""
        rows = [self._score(bytes(content)) for content in batch["content"]]
        label, confidence, value, problem = (list(column) for column in zip(*rows, strict=True))
        return {
            "id": list(batch["id"]),
            "name": list(batch["name"]),
            "label": label,
            "confidence": confidence,
            "value": value,
            "problem": problem,
        }

    def _score(self, data: bytes) -> tuple[str | None, float | None, float | None, str]:
        manifest = self._manifest
        try:
            tensor = tensor_of(_content(data, manifest.input.kind), manifest.input)
            said = answer(self._runtime.run(tensor), tensor, manifest.output)
        except (AgentError, ContractError) as error:
            return None, None, None, str(error)
        return manifest.output.labels[said.label], said.confidence, said.value, ""


def export(
    samples: Iterable[RawSample], folder: Path, *, rows_per_file: int = 20 * ROWS, bytes_per_file: int = FILE_BYTES
) -> int:
    """Parquet files of SAMPLES in ``folder``; returns how many samples they hold."""
    folder.mkdir(parents=True, exist_ok=True)
    count = 0
    for number, part in enumerate(_parts(samples, rows_per_file, bytes_per_file)):
        table = pa.table(
            {"id": [s.id for s in part], "name": [s.name for s in part], "content": [s.content for s in part]}, SAMPLES
        )
        pq.write_table(table, folder / f"part-{number:05}.parquet", row_group_size=ROWS)
        count += len(part)
    return count


def score(source: Path, target: Path, manifest: bytes, model: bytes) -> Scored:
    """Every sample of the Parquet files in ``source``, into one file of SCORES, here. Raises InvalidMessage, BadModel."""
    started, scorer, problems, count = time.monotonic(), Scorer(manifest, model), 0, 0
    with pq.ParquetWriter(target, SCORES) as writer:
        for path in sorted(source.glob("*.parquet")):
            for batch in pq.ParquetFile(path).iter_batches(ROWS):
                columns = {name: np.array(batch.column(name).to_pylist(), dtype=object) for name in SAMPLES.names}
                scores = scorer(columns)
                writer.write_table(pa.table(scores, SCORES))
                problems += sum(bool(each) for each in scores["problem"])
                count += len(scores["id"])
    return Scored(samples=count, problems=problems, seconds=time.monotonic() - started)


def _content(data: bytes, kind: SampleKind) -> Content:
    return pixels_of(data) if kind is SampleKind.IMAGE else decode_content(data, kind)


def _parts(samples: Iterable[RawSample], rows: int, size: int) -> Iterator[list[RawSample]]:
    part: list[RawSample] = []
    held = 0
    for sample in samples:
        part.append(sample)
        held += len(sample.content)
        if len(part) == rows or held >= size:
            yield part
            part, held = [], 0
    if part:
        yield part
