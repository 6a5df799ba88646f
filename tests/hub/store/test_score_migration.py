"""Versions that were published when there was only accuracy keep it, by its new name."""

from sqlalchemy import text

from tests.hub.store.test_migrations import _insert, older
from tests.hub.telemetry_parts import TENANT


def test_accuracy_becomes_a_score_of_that_metric(empty_url: str) -> None:
    db = older(empty_url, "0017")
    with db.write() as tx:
        _insert(tx, "models", tenant=TENANT, name="signs", task="image-classification", reserved=1, created_at=0)
        _insert(
            tx, "model_versions", tenant=TENANT, name="signs", version=1, task="image-classification", baseline="{}",
            report="{}", job_id="j", created_at=0,
        )  # fmt: skip
        _insert(
            tx, "model_variants", tenant=TENANT, name="signs", version=1, target="onnx-int8", position=0, manifest_digest="m",
            manifest_size_bytes=1, artifact_digest="a", artifact_size_bytes=1, golden_digest="g", accuracy=0.93,
            latency_p50_ms=1.0, output_error=0.1, boards="[]",
        )  # fmt: skip
    db.migrate()
    with db.read() as tx:
        assert tx.execute(text("SELECT score, metric FROM model_variants")).one() == (0.93, "accuracy")
    db.close()
