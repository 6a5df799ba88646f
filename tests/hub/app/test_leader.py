"""Two hubs on one PostgreSQL, as processes: one leads, the other stands by and takes over."""

import shutil
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cloud_hub.store import leases
from cloud_hub.store.database import Database
from cloud_hub.trust.authority import Authority
from tests.e2e.system import HubProcess, program, wait_for
from tests.hub.databases import PostgresServer

FAILOVER_S = 2.0


@pytest.fixture
def url(postgres_server: PostgresServer) -> Iterator[str]:
    name = postgres_server.create()
    yield postgres_server.url(name)
    postgres_server.drop(name)


@pytest.fixture
def pair(tmp_path: Path, url: str) -> Iterator[tuple[HubProcess, HubProcess]]:
    """The first one leads; the second has its authority and stands by."""
    first, second = (HubProcess(tmp_path / name, database_url=url) for name in ("first", "second"))
    try:
        first.start()
        shutil.copytree(first.data_dir / "ca", second.data_dir / "ca")
        second.launch()
        wait_for(lambda: '"message": "standing by"' in second.log, "a hub that stands by")
        yield first, second
    finally:
        second.close()
        first.close()


def ready(hub: HubProcess) -> bool:
    return '"message": "ready"' in hub.log


def probe(hub: HubProcess, page: str) -> tuple[int, Any]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{hub.config.metrics.port}/{page}", timeout=10) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def test_the_second_takes_over_within_two_seconds_of_a_kill(pair: tuple[HubProcess, HubProcess], url: str) -> None:
    first, second = pair
    assert probe(second, "livez")[0] == 200
    status, why = probe(second, "readyz")
    assert (status, b"standing by" in why) == (503, True)
    first.kill()
    assert wait_for(lambda: ready(second), "the other hub") < FAILOVER_S
    assert probe(second, "readyz")[0] == 200
    db = Database(url)
    with db.read() as tx:
        lease = leases.newest(tx)
    db.close()
    assert lease is not None and lease.epoch == 2 and str(second.data_dir) in lease.holder
    assert second.stop() == 0


def test_a_stopped_leader_is_deposed_and_writes_nothing_when_it_goes_on(pair: tuple[HubProcess, HubProcess], url: str) -> None:
    first, second = pair
    with first.frozen():
        wait_for(lambda: ready(second), "the other hub", 45)
    assert first.process is not None
    assert first.process.wait(30) == 1
    assert "another hub took over" in first.log.splitlines()[-1]
    assert second.process is not None and second.process.poll() is None
    db = Database(url)
    with db.read() as tx:
        assert leases.epoch(tx) == 2
    db.close()


def test_a_hub_that_stands_by_ends_on_a_signal(pair: tuple[HubProcess, HubProcess]) -> None:
    first, second = pair
    assert second.stop() == 0
    assert first.process is not None and first.process.poll() is None
    assert not (second.data_dir / "broker").exists(), "it served nothing"


def test_a_hub_with_another_authority_is_refused_and_makes_none(tmp_path: Path, url: str) -> None:
    first, foreign = (HubProcess(tmp_path / name, database_url=url) for name in ("first", "foreign"))
    first.start()
    assert first.stop() == 0
    for state in ("is empty", "is another"):
        done = program("cloud-hub", "serve", "--config", foreign.config_path)
        assert (done.returncode, state in done.stderr) == (1, True), done.stderr
        assert (foreign.data_dir / "ca").exists() is (state == "is another"), "it makes none where there should be one"
        if state == "is empty":
            Authority.create(foreign.data_dir / "ca")
    first.start()
    assert first.stop() == 0
