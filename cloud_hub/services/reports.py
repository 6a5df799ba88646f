"""Use cases about reports: what a job found out about its model, kept whether the model was published or refused."""

from collections.abc import Iterator

from cloud_hub.core.errors import Invalid, NotFound
from cloud_hub.core.model import Principal
from cloud_hub.store import registry, reports, training
from cloud_hub.store.artifacts import ArtifactStore
from cloud_hub.store.database import Database
from protos.contract.ids import ModelName

MAX_BYTES = 16 << 20  # of a page or a document: what a browser still opens at once


class ReportService:
    def __init__(self, db: Database, artifacts: ArtifactStore) -> None:
        self._db = db
        self._artifacts = artifacts

    def put(self, job_id: str, page: bytes, document: bytes) -> None:
        """``page``: HTML that stands alone; ``document``: the same as JSON. Durable on return. Raises Invalid: too large."""
        for data in (page, document):
            if len(data) > MAX_BYTES:
                raise Invalid(f"a report of {len(data)} bytes, more than {MAX_BYTES}")
        digests = self._artifacts.put(page), self._artifacts.put(document)
        with self._db.write() as tx:
            reports.put(tx, job_id, *digests)

    def of_job(self, who: Principal, job_id: str, *, json: bool = False) -> Iterator[bytes]:
        """Piece by piece. Raises NotFound."""
        with self._db.read() as tx:
            if training.find_job(tx, job_id, who.tenant) is None:
                raise NotFound(f"no job {job_id[:64]!r}")
            found = reports.find(tx, job_id)
        if found is None:
            raise NotFound(f"job {job_id} has no report: it has not come so far, or failed before its model was judged")
        return self._artifacts.chunks(found[1] if json else found[0])

    def of_version(self, who: Principal, name: ModelName, number: int, *, json: bool = False) -> Iterator[bytes]:
        """Raises NotFound."""
        with self._db.read() as tx:
            version = registry.find_version(tx, who.tenant, name, number)
        if version is None:
            raise NotFound(f"no version {number} of model {name}")
        try:
            return self.of_job(who, version.job_id, json=json)
        except NotFound as error:
            raise NotFound(f"version {number} of model {name} has no report: {error}") from error
