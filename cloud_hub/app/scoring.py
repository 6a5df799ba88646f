"""A version's answers about a whole data set, into a Parquet file, and as labels where it is sure enough."""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq

from cloud_hub.app import setup
from cloud_hub.core.config import HubConfig
from cloud_hub.core.datasets import LabelOrigin
from cloud_hub.core.errors import Invalid, NotReady
from cloud_hub.core.model import ModelVersion, Principal, Role, Variant
from cloud_hub.core.pages import Page
from cloud_hub.pipeline import scoring
from cloud_hub.pipeline.clean import RawSample
from cloud_hub.pipeline.scoring import Scored
from cloud_hub.services.datasets import DatasetService
from cloud_hub.services.labelling import NewLabel
from cloud_hub.services.registry import RegistryService
from cloud_hub.store.artifacts import ArtifactStore
from edge_agent.core.clock import SystemClock
from protos.contract.ids import ModelName, TenantId, model_name

PAGE = 500
LABELS_AT_ONCE = 5000


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    model: str
    version: int
    dataset: str
    tenant: TenantId
    target: str = ""  # variant; "": the first
    only_unlabelled: bool = False
    workers: int = 0  # of a Ray cluster; 0: this process
    floor: float | None = None  # label what is unlabelled where the model is so sure; None: label nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    scored: Scored
    labelled: int


def score(config: HubConfig, asked: Asked, out: Path) -> Done:
    """Raises NotFound, Invalid, NotReady, Unavailable; ``out`` is then not written."""
    clock = SystemClock()
    database = setup.open_database(config)
    try:
        artifacts = ArtifactStore(config.data_dir / "artifacts")
        registry, datasets = RegistryService(database, artifacts, clock), DatasetService(database, artifacts, clock)
        who = Principal(role=Role.ADMIN, name="score", tenant=asked.tenant)
        version = registry.get(who, model_name(asked.model), version=asked.version)
        variant = _variant(version, asked.target)
        files = artifacts.read(variant.manifest_digest), artifacts.read(variant.artifact_digest)
        with tempfile.TemporaryDirectory(prefix="score-", dir=config.data_dir) as made:
            source, scores = Path(made) / "samples", Path(made) / "scores.parquet"
            if not scoring.export(_samples(datasets, who, asked), source):
                raise NotReady(f"data set {asked.dataset!r} has no sample to score")
            if asked.workers:
                from cloud_hub.pipeline.cluster import score as cluster

                address = config.training.ray_address
                scored = cluster.score(source, scores, *files, workers=asked.workers, address=address)
            else:
                scored = scoring.score(source, scores, *files)
            labelled = _label(datasets, who, asked, version.name, scores)
            out.write_bytes(scores.read_bytes())
        return Done(scored=scored, labelled=labelled)
    finally:
        database.close()


def _variant(version: ModelVersion, target: str) -> Variant:
    found = [each for each in version.variants if target in ("", each.target)]
    if not found:
        raise Invalid(f"{version.name} version {version.version} has {', '.join(each.target for each in version.variants)}")
    return found[0]


def _samples(datasets: DatasetService, who: Principal, asked: Asked) -> Iterator[RawSample]:
    token = ""
    while True:
        labelled = False if asked.only_unlabelled else None
        page, token = datasets.list_samples(who, asked.dataset, labelled, None, Page(size=PAGE, token=token))
        for sample in page:
            content = datasets.get_sample(who, sample.id)[1]
            yield RawSample(id=sample.id, digest=sample.digest, content=content, label=sample.label or "", name=sample.name)
        if not token:
            return


def _label(datasets: DatasetService, who: Principal, asked: Asked, model: ModelName, scores: Path) -> int:
    """What a model says never replaces what another said, nor goes where the split is pinned to judge."""
    if asked.floor is None:
        return 0
    labelled = 0
    for batch in pq.ParquetFile(scores).iter_batches(LABELS_AT_ONCE):
        sure = [
            NewLabel(sample=row["id"], label=row["label"], confidence=row["confidence"])
            for row in batch.to_pylist()
            if row["label"] is not None and row["confidence"] >= asked.floor
        ]
        teacher = f"{model}:{asked.version}"
        done = datasets.labelling.label(who, sure, LabelOrigin.TEACHER, teacher=teacher, floor=asked.floor)
        labelled += done.labelled
    return labelled
