"""A challenger from the admin's word to the figures, over a whole hub and a whole agent."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.agent.models import LABELS
from tests.conformance.test_shadow import spare, sure
from tests.e2e.system import ADMIN, BOARD, System, wait_for

CAM, DATASET = "cam-1", "scenes"


@pytest.fixture
def system(tmp_path: Path) -> Iterator[System]:
    made = System(tmp_path)
    yield made
    made.close()


@pytest.mark.timeout(600)  # whole programs on a machine that others use too
def test_a_challenger_is_compared_on_a_device_and_its_disagreements_reach_the_hub(system: System) -> None:
    first = system.publish(lambda number: sure(1, number))
    system.services.datasets.create(ADMIN, DATASET, LABELS)
    system.services.training.put_spec(ADMIN, f"name: {first.name}\ndata: {{dataset: {DATASET}}}\n")
    agent = system.agent(CAM)
    agent.start()
    system.roll_out(first, CAM)
    wait_for(lambda: system.runs(CAM) == 1, "the champion")
    system.publish(lambda number: sure(2, number))
    asked = system.hubctl("shadow", "start", first.name, "--version", 2, "--share", 1, "--max-share-of-time", 1)
    assert asked == {"devices": 1, "passed_over": []}

    def status() -> dict[str, Any]:
        found: dict[str, Any] = system.hubctl("shadow", "status", first.name, "--version", 2)
        return found

    def compares() -> bool:
        (total,) = system.services.shadows.list(ADMIN)
        return total.frames >= 20 and total.captured > 0

    wait_for(compares, "compared frames")
    total, (device,) = (told := status())["total"], told["devices"]
    assert (total["agreement"], total["errors"], total["reporting"], total["troubled"]) == (0.0, 0, 1, 0)
    assert (device["device_id"], device["target"], device["report"]["problem"]) == (CAM, "onnx-fp32", "")
    wait_for(lambda: system.services.datasets.list(ADMIN)[0].samples, "samples")
    samples = system.hubctl("sample", "list", DATASET)
    assert {sample["reason"] for sample in samples} == {"disagreement"}
    assert {(sample["device_id"], sample["predicted"]) for sample in samples} == {(CAM, LABELS[1])}, "the champion's word"
    assert system.runs(CAM) == 1

    found = {version: system.hubctl("model", "get", first.name, "--version", version)["on_boards"] for version in (1, 2)}
    for rows in found.values():  # one measured by its update, the other by being a challenger
        (here,) = [row for row in rows if (row["board"], row["target"]) == (BOARD, "onnx-fp32")]
        assert (here["devices"], here["agreement"], here["chosen"]) == (1, 1.0, True)
        assert 0 < here["p50_ms"] <= here["p95_ms"] and here["peak_bytes"] > 20 << 20 and here["error"] <= 1

    assert system.hubctl("shadow", "stop", first.name) == {"devices": 1}
    agent.wait(lambda: spare(agent) == [], "the end of the challenger")
    wait_for(lambda: system.settled(CAM), "the device's word")
    after = status()
    assert after["total"]["frames"] >= 20 and after["devices"][0]["stopped_at"], "what it did stays"
    log = system.hubctl("audit", "list", "--limit", 50)
    assert {"Shadows/StartShadow", "Shadows/StopShadow"} <= {entry["action"].rpartition("tideline.v1.")[2] for entry in log}
