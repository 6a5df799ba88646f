"""The small profile for every run of the tests; the full one behind ``slow``, and longer ones from the command line."""

import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.hub_restarts import run
from tests.chaos.rollout_verdict import Run, Witness, wrong
from tests.hub.databases import MISSING, server_binaries

SEED = 20261121
FAILOVER_S = 2.0

needs_postgres = pytest.mark.skipif(server_binaries() is None, reason=MISSING)


def test_a_hub_that_is_killed_again_and_again_ends_its_rollouts_in_order(tmp_path: Path) -> None:
    outcome = run(tmp_path, devices=24, kills=4, seed=SEED)
    told = outcome.as_json()
    assert told["good"], told
    assert told["kills"] == 4 and told["kills_while_running"] >= 2 and told["records"] > 50, told


@needs_postgres
def test_of_two_hubs_the_one_that_leads_is_killed_and_the_other_goes_on(tmp_path: Path) -> None:
    outcome = run(tmp_path, devices=16, kills=3, seed=SEED, pair=True)
    told = outcome.as_json()
    assert told["good"], told
    assert told["kills"] == 3 and told["kills_while_running"] >= 1, told
    assert statistics.median(outcome.away_s) < FAILOVER_S, told


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("pair", [False, pytest.param(True, marks=needs_postgres)])
def test_two_hundred_devices_see_no_restart_of_their_hub(tmp_path: Path, pair: bool) -> None:
    outcome = run(tmp_path, devices=200, kills=20, seed=SEED, pair=pair)
    told = outcome.as_json()
    assert told["good"], told
    assert told["kills"] == 20 and told["kills_while_running"] >= 15, told


# -- the verdict can be the other one -------------------------------------------------------------------------------------

RUN = Run(id="r", version=1, state="SUCCEEDED", soak_s=2.0, waves={"canary": 0, "other": 1})
CANARY = Witness(asked=[(10.0, 1, "r")], started=[(11.0, 1)], committed={1: 12.0}, runs=1, generation=1, produced=5, stored=5)
OTHER = replace(CANARY, asked=[(14.5, 1, "r")], started=[(15.0, 1)], committed={1: 16.0})


def test_a_rollout_in_order_is_found_to_be_so() -> None:
    assert wrong([RUN], {"canary": CANARY, "other": OTHER}) == []


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"asked": [(14.5, 1, "r"), (15.5, 2, "r")]}, "asked 2 times"),
        ({"asked": []}, "asked 0 times"),
        ({"asked": [(13.0, 1, "r")]}, "before wave 0 had passed"),
        ({"started": [(15.0, 1), (15.5, 1)]}, "started 2 times"),
        ({"stored": 4}, "5 records produced, 4 stored"),
        ({"stored": 6}, "5 records produced, 6 stored"),
        ({"generation": 2}, "generation 2 after 1 rollouts"),
        ({"runs": 0}, "runs version 0"),
    ],
)
def test_what_is_not_in_order_is_found(changed: dict[str, Any], words: str) -> None:
    found = wrong([RUN], {"canary": CANARY, "other": replace(OTHER, **changed)})
    assert any(words in one for one in found), found


def test_a_wave_that_never_passed_is_found() -> None:
    found = wrong([RUN], {"canary": replace(CANARY, committed={}), "other": OTHER})
    assert any("before wave 0 had passed" in one for one in found), found


def test_a_rollout_that_did_not_end_well_and_a_device_left_out_are_found() -> None:
    found = wrong([replace(RUN, state="FAILED")], {"canary": CANARY})
    assert any("ended FAILED" in one for one in found) and any("other devices" in one for one in found)
