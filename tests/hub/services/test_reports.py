"""Reports: kept for every job that judged a model, read by its own tenant alone."""

import json
from pathlib import Path

import pytest

from cloud_hub.core.errors import NotFound
from cloud_hub.services.reports import ReportService
from cloud_hub.store.artifacts import ArtifactStore
from tests.hub.fleet_parts import ADMIN, STRANGER
from tests.hub.services.test_training import Trainer, spec
from tests.hub.telemetry_parts import DIGITS

PAGE, DOCUMENT = b"<!DOCTYPE html>" + b"x" * 3_000_000, json.dumps({"judged": "onnx-int8"}).encode()


def test_a_report_is_read_by_its_own_tenant_and_a_second_attempt_replaces_it(tmp_path: Path, database_url: str) -> None:
    trainer = Trainer(tmp_path, database_url)
    reports = ReportService(trainer.db, ArtifactStore(tmp_path / "artifacts"))
    trainer.training.put_spec(ADMIN, spec())
    job = trainer.training.run(ADMIN, DIGITS)
    with pytest.raises(NotFound, match="no report"):
        reports.of_job(ADMIN, job.id)
    reports.put(job.id, b"first", b"{}")
    reports.put(job.id, PAGE, DOCUMENT)
    pieces = list(reports.of_job(ADMIN, job.id))
    assert b"".join(pieces) == PAGE
    assert max(map(len, pieces)) <= 1 << 20
    assert b"".join(reports.of_job(ADMIN, job.id, json=True)) == DOCUMENT
    with pytest.raises(NotFound):
        reports.of_job(STRANGER, job.id)
    with pytest.raises(NotFound):
        reports.of_version(ADMIN, DIGITS, 1)
    trainer.db.close()
