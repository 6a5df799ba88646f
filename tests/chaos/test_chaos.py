"""The fast profile: most of a minute of faults, and a broken agent that must not pass. ``scripts/chaos`` runs for longer."""

from pathlib import Path

from tests.chaos.run import run

SECONDS = 40.0
SEED = 20261121


def test_random_faults_lose_nothing_and_double_nothing(tmp_path: Path) -> None:
    outcome = run(tmp_path, seconds=SECONDS, seed=SEED, devices=3, fps=25.0)
    assert outcome.good, outcome.as_json()
    produced = outcome.as_json()
    assert produced["stored"] > 1000 and produced["witnessed"] > 100, produced
    assert min(produced["kinds"].get(kind, 0) for kind in ("inference", "window", "event")) > 20, produced
    assert outcome.faults.total() >= 15, produced


def test_an_agent_that_forgets_on_puback_is_caught_by_the_same_count(tmp_path: Path) -> None:
    only = {"broker killed while the hub was stopped"}
    outcome = run(tmp_path, seconds=10.0, seed=SEED, devices=2, fps=50.0, only=only, broken=True)
    assert outcome.as_json()["lost"] > 0, outcome.as_json()
