"""Ingest on a PostgreSQL server that crashes."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from cloud_hub.core.errors import Unavailable
from protos.contract.telemetry import Lane
from tests.hub.databases import PostgresServer
from tests.hub.ingest.parts import Ingesting, Repeating
from tests.hub.mqtt_parts import EPOCH, batch, wait_for

pytestmark = pytest.mark.parametrize("database_kind", ["postgres"], indirect=True)


@pytest.fixture
def on_postgres(tmp_path: Path, database_url: str) -> Iterator[Ingesting]:
    running = Ingesting(tmp_path, database_url=database_url).start()
    yield running
    running.stop()


def test_a_server_that_crashes_again_and_again_loses_nothing_and_nothing_counts_twice(
    on_postgres: Ingesting, postgres_server: PostgresServer
) -> None:
    batches = [batch(first) for first in range(0, 1000, 10)]
    device = Repeating(on_postgres, "cam-a", batches, patience_s=0.5)
    for least in (10, 40, 70):
        wait_for(lambda least=least: device.done() or _stored(on_postgres) >= least, f"{least} batches", 60)
        with on_postgres.hub.db.read() as tx:
            session = tx.execute(text("SELECT pg_backend_pid()")).scalar_one()
        postgres_server.crash(session)
    wait_for(device.done, "the last mark", 60)
    assert _stored(on_postgres) == len(batches)
    assert on_postgres.ingest.counters.quarantined == 0
    with on_postgres.hub.db.read() as tx:
        [mark] = on_postgres.telemetry.marks(tx, device.id)
    assert (mark.epoch, mark.lane, mark.committed_through) == (EPOCH, Lane.NORMAL, 999)


def _stored(running: Ingesting) -> int:
    try:
        return running.stored("cam-a")
    except Unavailable:
        return -1
