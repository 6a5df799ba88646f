"""A database of the first release becomes one of this release, with its rows."""

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import text

from cloud_hub.core.datasets import LabelOrigin
from cloud_hub.core.tasks import Annotation
from cloud_hub.store import database, datasets, episodes, fleet, label_events, streams
from cloud_hub.store.database import Database, Tx
from protos.contract.ids import DeviceId
from protos.contract.inputs import SampleKind
from protos.contract.telemetry import Lane, Mark
from tests.hub.telemetry_parts import CAM, TENANT

DIGEST = "sha256:" + "0" * 64


@pytest.fixture
def first_release(empty_url: str) -> Iterator[Database]:
    db = older(empty_url, "0001")
    yield db
    db.close()


def test_the_migrations_are_one_chain() -> None:
    scripts = ScriptDirectory.from_config(_config())
    assert len(scripts.get_heads()) == 1 and len(scripts.get_bases()) == 1
    assert [one.revision for one in reversed(list(scripts.walk_revisions()))] == sorted(
        one.revision for one in scripts.walk_revisions()
    )


def test_rows_of_the_first_release_are_kept(first_release: Database) -> None:
    with first_release.write() as tx:
        _insert(
            tx,
            "devices",
            id=CAM,
            tenant=TENANT,
            board="camera-x86",
            created_at=5,
            desired_generation=3,
            desired_rollout="",
            delivered_generation=2,
        )
        _insert(tx, "device_labels", device=CAM, key="site", value="north")
        for first, last in ((0, 9), (10, 19), (40, 49), (50, 59)):
            _insert(
                tx,
                "landing",
                tenant=TENANT,
                device=CAM,
                epoch="e1",
                lane=2,
                first_sequence=first,
                last_sequence=last,
                digest=DIGEST,
                records=10,
                dropped=0,
                received_ms=7,
                payload=b"batch",
            )
        _insert(
            tx,
            "streams",
            device=CAM,
            epoch="e1",
            lane=2,
            tenant=TENANT,
            committed_through=19,
            highest=59,
            behind_hole=40,
            passes=1,
            pass_ms=6,
            batches=4,
            records=40,
            duplicates=0,
            dropped=0,
            payload_bytes=20,
            updated_ms=7,
        )
        _insert(
            tx,
            "drift_episodes",
            id="e",
            tenant=TENANT,
            device=CAM,
            model="signs",
            version=1,
            opened_at=1,
            reason="dark",
            told=True,
            job_id="",
        )
        _insert(tx, "drift_cursor", name="windows", landing_id=4)
        for start, closed in ((0, True), (60_000, False)):
            _insert(
                tx,
                "drift_windows",
                device=CAM,
                model="signs",
                version=1,
                start_ms=start,
                tenant=TENANT,
                end_ms=start + 60_000,
                closed=closed,
                readings=9,
                label_counts="[9]",
                confidence_counts="[9]",
                confidence_sum=8.0,
                label_psi=0.0,
                confidence_psi=0.0,
                confidence_shift=0.0,
                drifted=False,
            )
    first_release.migrate()
    with first_release.read() as tx:
        device = fleet.find(tx, CAM)
        assert device is not None
        assert (device.desired.generation, device.labels) == (3, {"site": "north"})
        assert streams.marks(tx, CAM) == (Mark(epoch="e1", lane=Lane.NORMAL, committed_through=19),)
        assert tx.execute(text("SELECT early, folded_through FROM streams")).one() == ("[[40,59]]", 19)
        assert tx.execute(text("SELECT count(*) FROM landing")).scalar() == 4
        assert [episode.reason for episode in episodes.still_open(tx, DeviceId(CAM))] == ["dark"]
        assert tx.execute(text("SELECT count(*) FROM drift_windows")).scalar() == 1  # open ones are made anew
    with first_release.write() as tx:  # the database goes on numbering behind what was there
        _insert(
            tx,
            "landing",
            tenant=TENANT,
            device=CAM,
            epoch="e2",
            lane=2,
            first_sequence=0,
            last_sequence=9,
            digest=DIGEST,
            records=10,
            dropped=0,
            received_ms=8,
            payload=b"batch",
        )
        assert tx.execute(text("SELECT max(id) FROM landing")).scalar() == 5


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(database._MIGRATIONS))
    return config


def older(url: str, revision: str) -> Database:
    """A database as it was with that revision."""
    db = Database(url)
    with db.write() as tx:
        config = _config()
        config.attributes["connection"] = tx
        command.upgrade(config, revision)
    return db


def _insert(tx: Tx, table: str, **values: Any) -> None:
    row: Mapping[str, Any] = values
    names = ", ".join(row)
    tx.execute(text(f"INSERT INTO {table} ({names}) VALUES ({', '.join(f':{name}' for name in row)})"), row)


def test_older_data_sets_hold_images_with_classes_whose_labels_have_a_history(empty_url: str) -> None:
    db = older(empty_url, "0016")
    with db.write() as tx:
        _insert(tx, "datasets", tenant=TENANT, name="signs", labels='["stop","yield"]', created_at=5)
        for number, (label, device) in enumerate((("stop", None), ("yield", CAM), (None, CAM)), start=1):
            values = {
                "source": "s",
                "split": "",
                "name": "n",
                "reason": "",
                "predicted": "",
                "confidence": 0.0,
                "created_at": 6,
            }
            values |= {"id": f"s{number}", "tenant": TENANT, "dataset": "signs", "digest": DIGEST[:-1] + str(number)}
            _insert(tx, "samples", number=number, label=label, device=device, labelled_at=label and 7, **values)
    db.migrate()
    with db.read() as tx:
        [dataset] = datasets.every(tx, TENANT)
        assert (dataset.kind, dataset.annotation, dataset.columns) == (SampleKind.IMAGE, Annotation.CLASS, ())
        samples = [sample for _, sample in datasets.page(tx, TENANT, "signs", labelled=None, device=None, after=0, limit=9)]
        assert [sample.origin for sample in samples] == [LabelOrigin.IMPORT, LabelOrigin.HUMAN, None]
        told = [[event.label for event in label_events.history(tx, TENANT, sample.id, 9)] for sample in samples]
        assert told == [["stop"], ["yield"], []]
    db.close()
