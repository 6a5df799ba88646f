"""A rollout that was under way in a release without plans goes on in this one."""

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import text

from cloud_hub.core.model import RolloutState
from cloud_hub.core.rollout_plan import Failure, Wave
from cloud_hub.core.waves import WaveStanding
from cloud_hub.services.rollout_course import found
from cloud_hub.store import rollout_devices
from cloud_hub.store.database import Database, Tx
from protos.contract.ids import DeviceId
from protos.contract.update import UpdateState
from tests.hub.fleet_parts import START, TENANT
from tests.hub.store.test_migrations import older


@pytest.fixture
def before(empty_url: str) -> Iterator[Database]:
    db = older(empty_url, "0012")
    yield db
    db.close()


def test_its_numbers_become_a_plan_and_its_devices_are_counted(before: Database) -> None:
    started = int(START.timestamp() * 1000)
    with before.write() as tx:
        for id, number, canary, waves, state in (
            ("r-1", 1, 1, 2, RolloutState.RUNNING),
            ("r-2", 2, 0, 1, RolloutState.SUCCEEDED),
        ):
            _insert(
                tx,
                "rollouts",
                id=id,
                number=number,
                tenant=TENANT,
                model="signs",
                version=3,
                selector='{"site":"north"}',
                canary=canary,
                soak_s=60,
                max_failures=2,
                state=int(state),
                wave=0,
                waves=waves,
                reason="",
                created_by="ada",
                created_at=started,
            )
        states = (UpdateState.COMMITTED, UpdateState.ROLLED_BACK, UpdateState.TRIAL, UpdateState.SUPERSEDED, None)
        for number, update in enumerate(states):
            _insert(
                tx,
                "rollout_devices",
                rollout="r-1",
                device=f"cam-{number}",
                wave=int(update is None),
                generation=int(update is not None),
                state=update and int(update),
                reason="",
                target="",
            )
    before.migrate()
    with before.read() as tx:
        tenant, rollout = found(tx, "r-1")
        assert (tenant, rollout.state, rollout.wave, rollout.started_at) == (TENANT, RolloutState.RUNNING, 0, START)
        assert (rollout.plan.what, rollout.plan.selector, rollout.plan.soak_s) == ("signs:3", {"site": "north"}, 60)
        assert (rollout.plan.waves, rollout.plan.failure) == ((Wave(count=1), Wave()), Failure(count=2))
        assert rollout.standings == (
            WaveStanding(committed=1, failed=1, pending=1, superseded=1, started_at=START),
            WaveStanding(waiting=1),
        )
        assert [row.device for row in rollout_devices.waiting(tx, "r-1", 1, 9)] == ["cam-4"]
        assert [one.rollout for one in rollout_devices.open_for(tx, DeviceId("cam-2"))] == ["r-1"]
        assert found(tx, "r-2")[1].plan.waves == (Wave(),)


def _insert(tx: Tx, table: str, **values: Any) -> None:
    tx.execute(text(f"INSERT INTO {table} ({', '.join(values)}) VALUES ({', '.join(f':{name}' for name in values)})"), values)
