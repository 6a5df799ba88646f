"""The fast profile: a hundred deaths in the middle of updates, and two agents that must not pass."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.agent.sync.broker import installed
from tests.chaos import power
from tests.chaos.lives import NO_FSYNC, NO_JOURNAL
from tests.chaos.updates import run
from tests.conformance.hub import Hub

KILLS = 100
MINUTES = 60
SEED = 20261121


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    if not installed():
        pytest.skip("no mosquitto binary on PATH")
    if power.compiler() is None:
        pytest.skip("no C compiler on PATH: power cuts need one")
    made = Hub(tmp_path_factory.mktemp("hub"))
    yield made
    made.close()


@pytest.mark.timeout(30 * MINUTES)
def test_a_hundred_kills_and_power_cuts_brick_nothing_mix_nothing_and_lose_nothing(hub: Hub, tmp_path: Path) -> None:
    outcome = run(tmp_path, hub, kills=KILLS, seed=SEED, name="ours")
    found = outcome.as_json()
    assert outcome.good, json.dumps(found)  # a text: pytest cuts other things short
    assert outcome.findings.kills >= KILLS and outcome.counts.cuts_that_took_something >= KILLS // 10, found
    assert outcome.counts.boots >= KILLS // 2, found
    for component in ("model", "config"):
        states = {name.split()[1] for name in outcome.counts.killed_in if name.startswith(component)}
        assert {"FETCHING", "STAGED", "TRIAL", "COMMITTED"} <= states, found
    ends = {name.split()[1] for name in outcome.findings.updates}
    assert {"COMMITTED", "FAILED", "ROLLED_BACK"} <= ends, found


@pytest.mark.timeout(30 * MINUTES)
@pytest.mark.parametrize(("control", "name"), [(NO_FSYNC, "unsynced"), (NO_JOURNAL, "unjournalled")])
def test_an_agent_without_it_does_not_pass(hub: Hub, tmp_path: Path, control: str, name: str) -> None:
    outcome = run(tmp_path, hub, kills=KILLS, seed=SEED, control=control, name=name)
    assert not outcome.good, outcome.as_json()
