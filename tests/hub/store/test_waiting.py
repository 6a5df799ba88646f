"""What waits is found without a look at everything, also in a database that is older than that."""

from sqlalchemy import select, text

from cloud_hub.store.database import Database
from cloud_hub.store.events import device_events
from cloud_hub.store.fleet import devices
from tests.hub.store.test_migrations import _insert, older
from tests.hub.telemetry_parts import TENANT


def test_an_event_of_which_nobody_knows_when_it_came_came_when_it_happened(empty_url: str) -> None:
    db = older(empty_url, "0021")
    with db.write() as tx:
        _insert(tx, "device_events", tenant=TENANT, device="cam-1", at_ms=7, kind="agent.fault", detail="")
        _insert(tx, "device_events", tenant=TENANT, device="cam-1", at_ms=7, kind="agent.fault", detail="", received_ms=9)
    db.migrate()
    with db.read() as tx:
        assert tx.execute(select(device_events.c.received_ms).order_by(device_events.c.id)).scalars().all() == [7, 9]
    db.close()


def test_the_outbox_looks_at_nothing_but_what_waits(db: Database) -> None:
    waiting = select(devices.c.id).where(devices.c.delivered_generation < devices.c.desired_generation).order_by(devices.c.id)
    with db.write() as tx:
        if tx.dialect.name == "postgresql":
            tx.execute(text("SET LOCAL enable_seqscan = off"))  # it likes to read small tables whole
        how = "EXPLAIN QUERY PLAN " if tx.dialect.name == "sqlite" else "EXPLAIN "
        plan = tx.execute(text(how + str(waiting.compile(dialect=tx.dialect)))).all()
    assert "ix_devices_undelivered" in str(plan)
