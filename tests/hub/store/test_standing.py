"""The numbers of the metrics, on both databases."""

from cloud_hub.store import landing, quarantine
from cloud_hub.store.database import Database
from cloud_hub.store.standing import standing
from protos.contract.telemetry import to_ms
from tests.hub.store.test_landing import STREAM, land
from tests.hub.telemetry_parts import START, TENANT, batch


def test_an_empty_hub_has_every_number_at_zero(db: Database) -> None:
    with db.read() as tx:
        found = standing(tx)
    for counts in (found.devices, found.jobs, found.rollouts, found.open_alerts, found.notices):
        assert counts and set(counts.values()) == {0}
    assert all((one.files, one.rows, one.bytes) == (0, 0, 0) for one in found.archived.values())
    assert (found.landing_batches, found.landing_bytes, found.unfolded_records, found.unfolded_since_ms) == (0, 0, 0, None)


def test_what_is_landed_and_not_unfolded_is_counted_from_its_oldest_batch(db: Database) -> None:
    land(db, batch(0, 10), at_ms=1000)
    land(db, batch(10, 10), at_ms=2000)
    land(db, batch(30, 10), at_ms=500)  # behind a hole: nobody may unfold it yet
    with db.write() as tx:
        quarantine.add(tx, TENANT, "t", b"poison", "bad", 0)
    with db.read() as tx:
        found = standing(tx)
    assert (found.landing_batches, found.quarantined) == (3, 1)
    assert found.landing_bytes > 100
    assert (found.unfolded_records, found.unfolded_since_ms) == (20, to_ms(START) + 1000)
    with db.write() as tx:
        landing.fold_through(tx, {STREAM: 9})
    with db.read() as tx:
        assert (standing(tx).unfolded_records, standing(tx).unfolded_since_ms) == (10, to_ms(START) + 2000)
    with db.write() as tx:
        landing.fold_through(tx, {STREAM: 19})
    with db.read() as tx:
        assert (standing(tx).unfolded_records, standing(tx).unfolded_since_ms) == (0, None)
