"""The whole loop on rows of a table (scikit-learn's breast cancer measurements), by the commands that people use.

Import, train, roll out to a device that reads a table; what it keeps comes back, gets its label from the truth that is known
later, and trains the next version.
"""

import csv
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer

from tests.e2e.system import System, wait_for

pytestmark = pytest.mark.timeout(420)

DEVICE, MODEL = "lab-1", "tumours"
KNOWN = 400  # rows that are labelled from the beginning; the device sees the rest
SPEC = f"""
name: {MODEL}
task: tabular-classification
data: {{dataset: {MODEL}, min_samples: 50}}
teacher: {{hidden: 32, epochs: 8}}
student: {{hidden: 16, epochs: 10}}
targets: [onnx-int8]
gate: {{bound: 0.9, min_speedup: 0, when_unsure: promote, min_gain: -0.05}}
evaluate: {{samples: 1}}
triggers: {{min_new_labels: 20, on_labels: 20}}
deploy: {{auto: true, selector: {{id: {DEVICE}}}, canary: 0, soak_s: 0}}
"""


@pytest.fixture
def system(tmp_path: Path) -> Iterator[System]:
    made = System(tmp_path / "system")
    yield made
    made.close()


def table(path: Path, rows: slice, *, labels: bool) -> dict[str, str]:
    """Written to ``path``; what each row really is, by its name."""
    data = load_breast_cancer()
    names = [str(name).replace(" ", "_") for name in data.feature_names]
    truth = {}
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["patient", *names, *(["diagnosis"] if labels else [])])
        for i in np.arange(len(data.data))[rows]:
            diagnosis = str(data.target_names[data.target[i]])
            truth[f"p{i}"] = diagnosis
            writer.writerow([f"p{i}", *(f"{value:g}" for value in data.data[i]), *([diagnosis] if labels else [])])
    return truth


def jobs(system: System, count: int) -> list[dict[str, Any]]:
    """Newest first, as soon as labels have made so many."""
    wait_for(lambda: len(system.hubctl("job", "list")) == count, f"job {count}", 60.0)
    found: list[dict[str, Any]] = system.hubctl("job", "list")
    assert {job["trigger"] for job in found} == {"labels"}
    return found


def ended(system: System, job: str) -> dict[str, Any]:
    found: dict[str, Any] = {}

    def over() -> bool:
        found.update(system.hubctl("job", "get", job))
        return found["state"] not in ("queued", "running")

    wait_for(over, f"the end of job {job}", 180.0)
    assert found["state"] == "published", found["reason"]
    return found


def test_rows_go_the_whole_way_round(system: System, tmp_path: Path) -> None:
    known, seen, spec = tmp_path / "known.csv", tmp_path / "seen.csv", tmp_path / "spec.yaml"
    table(known, slice(0, KNOWN), labels=True)
    truth = table(seen, slice(KNOWN, None), labels=False)
    spec.write_text(SPEC)

    system.hubctl("dataset", "create", MODEL, "--kind", "row", "--labels", "malignant,benign")
    options = ("--format", "csv", "--label-column", "diagnosis", "--name-column", "patient")
    imported = system.hubctl("dataset", "import", MODEL, known, *options)
    assert (imported["added"], imported["refused"]) == (KNOWN, [])
    assert system.hubctl("job", "validate", "-f", spec, "--dataset-check")["problems"] == []
    system.hubctl("spec", "put", "-f", spec)

    agent = system.agent(DEVICE)
    agent.configure(
        source={"kind": "table", "path": str(seen), "name_column": "patient", "fps": 100.0, "loop": True},
        capture={"control_rate": 0.3, "per_hour": 60},
    )
    agent.start()
    first = ended(system, jobs(system, 1)[0]["id"])
    wait_for(lambda: system.runs(DEVICE) == first["published_version"], "the first version on the device", 60.0)

    def captured() -> list[dict[str, Any]]:
        samples = system.hubctl("sample", "list", MODEL, "--labelled", "no", "--limit", "500")
        return [sample for sample in samples if sample["device_id"] == DEVICE]

    wait_for(lambda: len(captured()) >= 25, "rows that the device kept", 60.0)
    (sample, *_) = captured()
    shown = system.hubctl("sample", "show", sample["id"])
    assert sample["name"] in truth and "mean_radius" in str(shown), (sample, shown)

    answers = tmp_path / "truth.csv"
    rows = captured()
    answers.write_text("name,label\n" + "".join(f"{row['name']},{truth[row['name']]}\n" for row in rows))
    joined = system.hubctl("label", "import", MODEL, "--csv", answers)
    assert joined["labelled"] >= 25, joined

    again = ended(system, jobs(system, 2)[0]["id"])
    assert again["published_version"] > first["published_version"]
    wait_for(lambda: system.runs(DEVICE) == again["published_version"], "the second version on the device", 60.0)
    time.sleep(1.0)
    said = [reading for reading in system.readings(DEVICE) if reading.label_name in ("malignant", "benign")]
    assert len(said) > 200
    page = tmp_path / "report.html"
    system.hubctl("model", "report", MODEL, "--version", again["published_version"], "-o", page)
    assert "auc" in page.read_text().lower()
