"""A real agent runs rows, texts and windows: the model comes as any update, and what it says reaches the hub."""

import csv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from edge_agent.core.model import Content, Prediction
from edge_agent.infer.inputs import decode_content
from edge_agent.infer.model import Model
from edge_agent.infer.runtimes import load
from edge_agent.sense.keys import frame_key
from protos.contract.ids import digest_of
from protos.contract.inputs import SampleKind
from protos.contract.manifest import Format
from protos.contract.samples import Window
from protos.contract.telemetry import Inference
from tests.agent.kinds import CHANNELS, KINDS, STEPS
from tests.conformance.agent import Agent
from tests.conformance.hub import Device, Hub
from tests.conformance.test_updates import finished


@dataclass(frozen=True)
class Case:
    """One kind of source: how the contents of ``KINDS`` get into its file, and what its observations are called."""

    kind: str
    file: str
    source: dict[str, Any]
    write: Callable[[Path, tuple[Content, ...]], None]
    lines: Callable[[int], int]  # number of a content -> of the line that completes it


def _table(path: Path, contents: tuple[Content, ...]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["age", "job", "sum"], lineterminator="\n")
        writer.writeheader()
        writer.writerows(contents)  # type: ignore[arg-type]  # rows


def _lines(path: Path, contents: tuple[Content, ...]) -> None:
    path.write_text("\n".join(map(str, contents)) + "\n")


def _series(path: Path, contents: tuple[Content, ...]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(CHANNELS)
        for window in contents:
            assert isinstance(window, Window)
            writer.writerows(window.values.tolist())


CASES = {
    "table": Case("rows", "people.csv", {"kind": "table"}, _table, lambda i: i + 2),
    "lines": Case("texts", "messages.txt", {"kind": "lines"}, _lines, lambda i: i + 1),
    "series": Case(
        "anomalies", "drive.csv", {"kind": "series", "series": {"steps": STEPS}}, _series, lambda i: (i + 1) * STEPS + 1
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_what_a_model_of_any_kind_says_reaches_the_hub(hub: Hub, agent: Agent, tmp_path: Path, name: str) -> None:
    case = CASES[name]
    kind, files = KINDS[case.kind], KINDS[case.kind].files()
    path = tmp_path / case.file
    case.write(path, kind.contents)
    source = case.source | {"path": str(path), "fps": 200.0, "loop": True}
    agent.configure(source=source, capture={"control_rate": 1.0, "per_hour": 20})
    device = f"kind-{name}"
    hub.identity(device, agent.data_dir)
    agent.start()

    assignment = hub.publish_model(files)
    assert finished(hub, device, hub.desire(device, assignment)).model == assignment

    model = Model(files.manifest, load(Format.ONNX, files.model))
    said = {frame_key(f"{case.file}#{case.lines(i)}"): model.predict(each) for i, each in enumerate(kind.contents)}
    heard = hub.devices[device]
    hub.wait(lambda: said.keys() <= {row.frame_key for row in readings(heard)}, "readings of every sample")
    for row in readings(heard):
        check(row, said[row.frame_key])
        assert row.model == digest_of(files.manifest_bytes)

    hub.wait(lambda: len(heard.uploads) >= 3, "samples")
    for upload in heard.uploads:
        assert (SampleKind(upload.kind), upload.source) == (kind.input.kind, path.stem)
        again = model.predict(decode_content(upload.content, kind.input.kind))
        assert model.labels[again.label] == upload.predicted

    agent.wait(lambda: agent.status().get("latest"), "the status with what it said last")
    latest = agent.status()["latest"]
    assert latest["label"] in model.labels and latest["name"].startswith(case.file)
    assert (latest["value"] is not None) == (name == "series")


def readings(heard: Device) -> list[Inference]:
    return [row for batch in list(heard.batches) for row in batch.inferences.rows()]


def check(row: Inference, said: Prediction) -> None:
    assert row.label == said.label
    assert row.confidence == pytest.approx(said.confidence, abs=1e-4)
    assert row.value == (said.value if said.value is None else pytest.approx(said.value, rel=1e-4))
