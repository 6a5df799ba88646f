"""What a job trains on: one version of a data set, so that it can be said later and done again."""

import json
import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from cloud_hub.core import spec as specs
from cloud_hub.core.datasets import DatasetVersion, VersionSample, source_of
from cloud_hub.core.errors import HubError, Invalid
from cloud_hub.core.spec import TrainingSpec
from cloud_hub.core.tasks import Annotation
from cloud_hub.services.dataset_versions import VersionService
from cloud_hub.store.artifacts import ArtifactStore
from edge_agent.core.files import write_atomic
from protos.contract.ids import TenantId

if TYPE_CHECKING:
    from cloud_hub.pipeline.clean import RawSample
    from cloud_hub.pipeline.stored import Stored

log = logging.getLogger(__name__)

_BEGUN = "data.json"  # in a job's folder: the specification, and the version of the data set that it was begun on
_PROGRAMS_BYTES = 1 << 30  # what a job takes that has no data: torch, the exporters and the runtimes
_TIMES = 3  # of the samples: as they are decoded (1), as networks take them (1), and what is made of them on the way


class JobData:
    """One version, named by the specification or frozen now.

    Raises:
        NotFound: no such data set or version.
        Invalid: the task needs samples of another kind, or other labels.
    """

    def __init__(
        self, versions: VersionService, artifacts: ArtifactStore, spec: TrainingSpec, tenant: TenantId, by: str
    ) -> None:
        dataset = spec.data.dataset
        self.version: DatasetVersion
        if spec.data.version:
            self.version = versions.get(tenant, dataset, spec.data.version)
        else:
            self.version = versions.freeze(tenant, dataset, by=by, reason=f"for {spec.name}")
        self._holding = versions.holding_of(self.version)
        self._versions = versions
        self._artifacts = artifacts
        self._take_s, self._most, self._tenant = spec.data.take_s, spec.data.max_samples, tenant
        task = spec.declared
        if self._holding.kind is not task.kind:
            raise Invalid(
                f"data set {dataset} holds samples of the kind {self._holding.kind.name.lower()}, "
                f"the task {spec.task} needs {task.kind.name.lower()}"
            )
        if task.annotation not in (Annotation.NONE, self._holding.annotation):
            raise Invalid(
                f"data set {dataset} is annotated with {self._holding.annotation.name.lower()}, "
                f"the task {spec.task} needs {task.annotation.name.lower()}"
            )

    @property
    def labels(self) -> tuple[str, ...]:
        """In index order."""
        return self._holding.labels

    def devices(self) -> set[str]:
        """That samples came from."""
        return {sample.group for sample in self._versions.samples_of(self.version) if sample.group}

    def samples(self) -> "Stored":
        """Oldest first, each read when its turn comes."""
        listed = sorted(self._versions.samples_of(self.version), key=lambda sample: (sample.added_ms, sample.id))
        return self._stored(listed)

    def unlabelled(self) -> "Iterator[RawSample]":
        """As ``samples``; looked for only where somebody begins to read them."""
        yield from self._stored(self._versions.unlabelled(self._tenant, self.version.dataset, self._most))

    def _stored(self, listed: Iterable[VersionSample]) -> "Stored":
        from cloud_hub.pipeline.clean import RawSample
        from cloud_hub.pipeline.stored import Stored

        known = [
            RawSample(
                id=sample.id,
                digest=sample.digest,
                content=b"",
                label=sample.label,
                source=source_of(sample, self._take_s),
                split=sample.split,
                name=sample.name,
                group=sample.group or "imported",
                at_ms=sample.at_ms,
                origin=sample.origin,
            )
            for sample in listed
        ]
        return Stored(known, self._content)

    def _content(self, sample: "RawSample") -> bytes:
        try:
            return self._artifacts.read(sample.digest)
        except HubError as error:  # counted by the cleaning report as unreadable
            log.warning("sample cannot be read", extra={"sample": sample.id, "reason": str(error)})
            return b""

    def lineage(self) -> Mapping[str, object]:
        """JSON, for the report of what is trained on it."""
        version = self.version
        return {
            "name": version.dataset,
            "version": version.number,
            "digest": version.digest,
            "manifest": version.manifest,
            "samples": version.samples,
        }


def as_begun(spec: TrainingSpec, folder: Path) -> TrainingSpec:
    """On the data of the attempt before, if it had the same specification: with what was labelled since none could go on."""
    try:
        asked, number = json.loads((folder / _BEGUN).read_bytes())
    except FileNotFoundError:
        return spec
    return replace(spec, data=replace(spec.data, version=number)) if asked == specs.dump(spec) else spec


def within(spec: TrainingSpec, memory_mb: int) -> TrainingSpec:
    """Holding no more samples than a job with so much memory can: what is beyond is left out, and said, as at any bound."""
    memory = memory_mb << 20
    most = max((memory - _PROGRAMS_BYTES) // _TIMES, memory // 8, 1 << 20)
    return replace(spec, data=replace(spec.data, max_bytes=min(spec.data.max_bytes, most)))


def begin(spec: TrainingSpec, version: DatasetVersion, folder: Path) -> None:
    """For the attempts that may follow."""
    write_atomic(folder / _BEGUN, json.dumps([specs.dump(spec), version.number]).encode())
