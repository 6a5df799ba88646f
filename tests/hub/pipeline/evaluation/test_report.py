"""The page of a job: what it says, what it must never do, and that it is there for refused models too."""

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from cloud_hub.core.spec import parse
from cloud_hub.pipeline.evaluation import drawings, evaluate, gallery
from cloud_hub.pipeline.evaluation.answers import Numeric
from cloud_hub.pipeline.evaluation.evaluate import Written
from cloud_hub.pipeline.evaluation.saliency import salience
from cloud_hub.pipeline.task import Feeder
from protos.contract.inputs import CategoryColumn, NumericColumn, RowInput, TextInput, WindowInput
from protos.contract.outputs import Classification, Values
from protos.contract.samples import Window
from tests.hub.pipeline.evaluation import tries
from tests.hub.pipeline.evaluation.trained import Trained, fitted
from tests.hub.pipeline.parts import digits

HOSTILE = ("<script>alert(1)</script>", "$\\frac{1}{0}$", '_hidden & "quoted"')
SECTIONS = ("Classes", "Devices and conditions", "Calibration", "Curves", "Confusion", "What answers stand on", "Wrong answers")
SPEC = """
name: digits
data: {dataset: digits, min_samples: 50}
teacher: {width: 8, epochs: 3}
evaluate: {samples: 2}
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Three digits under hostile names, some of them of one source; half-trained, so that some answers are wrong."""
    some = [replace(one, label=HOSTILE[int(one.label)]) for one in digits() if one.label in "012"]
    some = [replace(one, at_ms=1_700_000_000_000 + 3_600_000 * (i % 24)) for i, one in enumerate(some)]
    return fitted(parse(SPEC), HOSTILE, some, tmp_path_factory.mktemp("report"))


@pytest.fixture(scope="module")
def written(trained: Trained) -> Written:
    about = {
        "task": "image-classification",
        "reason": "accuracy 0.5 is below <b>gate.bound</b> 0.8",
        "champion": {
            "version": 3,
            "verdict": "it does not reach",
            "gain": {"low": -0.2, "middle": -0.1, "high": 0.0, "level": 0.95},
        },
        "data": {"given": 10, "splits": {"train": 5}, "dropped": {"not a readable image": 2}, "notes": ["<i>note</i>"]},
        "compression": [{"name": "pruned", "accuracy": 0.5, "size_bytes": 100}, {"name": "int8", "size_bytes": 50}],
        "variants": {"onnx-int8": {"accuracy": 0.5, "parity": {"says": "no operator parts", "limit": 0.1, "operators": 7}}},
        "stages_s": {"data": 1.0},
        "spec": {"name": "digits"},
    }
    histories: Mapping[str, Any] = {"student": trained.fitted.history}
    return evaluate.evaluate(trained.task, trained.splits, trained.network, (), about, histories)


def test_a_page_runs_nothing_loads_nothing_and_escapes_what_users_wrote(written: Written) -> None:
    page = written.page.decode()
    assert "<script" not in page.lower() and "<b>" not in page and "<i>" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert not re.search(r"(src|href)\s*=\s*[\"'](?!data:|#)", page)
    assert len(written.page) < 2 << 20


def test_a_refused_model_has_a_page_that_says_why(written: Written) -> None:
    page = written.page.decode()
    assert "refused" in page and "below &lt;b&gt;gate.bound" in page
    assert "no operator parts" in page
    for title in (*SECTIONS, "Compression", "Parity with the network", "Data", "Training", "Specification"):
        assert f"<h2>{title}</h2>" in page


def test_the_document_is_json_with_an_interval_behind_each_figure(written: Written, trained: Trained) -> None:
    found = json.loads(written.document, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))["findings"]
    assert found["overall"]["low"] <= found["overall"]["middle"] <= found["overall"]["high"]
    assert {each["name"] for each in found["by_class"]} == set(HOSTILE)
    assert {"brightness", "device", "time of day, UTC"} <= {each["condition"] for each in found["conditions"]}
    assert set(found["calibration"]) == {"before", "after"}
    assert found["errors"] and found["errors"][0]["id"] in {origin.id for origin in trained.splits.test.origins}
    assert written.summary["overall"] == found["overall"]


def test_what_is_no_number_is_null_in_json() -> None:
    given = {"a": float("nan"), "b": (np.float32("inf"), np.int64(3)), "c": {1: "x"}}
    assert evaluate.finite(given) == {"a": None, "b": [None, 3], "c": {"1": "x"}}


def test_the_same_job_gives_the_same_page(written: Written, trained: Trained) -> None:
    shown = gallery.show(
        trained.network, trained.task.feeder(trained.splits), trained.splits, None, 2, Classification(labels=HOSTILE)
    )
    assert shown == []
    with drawings.styled():
        pages = {_svg() for _ in range(2)}
    assert len(pages) == 1


def test_of_a_linear_network_each_column_has_exactly_its_share() -> None:
    columns = (
        NumericColumn(name="age", mean=0, std=1),
        CategoryColumn(name="job", values=("cook", "smith")),
        NumericColumn(name="pay", mean=0, std=1),
    )
    network = nn.Linear(4, 2, bias=False)
    with torch.no_grad():
        network.weight.copy_(torch.tensor([[1.0, 2.0, -5.0, 0.0], [0.0, 0.0, 0.0, 0.0]]))
    split = replace(tries.split_of(np.zeros(1, np.int64)), inputs=np.array([[3.0, 1.0, 0.0, 9.0]], np.float32))
    splits = replace(tries.splits_of(split), input=RowInput(columns=columns))
    (found,) = salience(network, Feeder(), split, [0], splits, Classification(labels=("a", "b")))
    assert dict(found.names) == {"age": 3.0, "job = cook": 2.0}


def test_the_word_an_answer_stands_on_is_named() -> None:
    input = TextInput(buckets=64, words=1)
    network = nn.Linear(64, 2, bias=False)
    from edge_agent.infer.inputs import tensors_of

    leak = tensors_of(["leak"], input)[0].argmax()
    with torch.no_grad():
        network.weight.zero_()
        network.weight[1, leak] = 4.0
    texts = ["the pump has a leak"]
    split = replace(tries.split_of(np.ones(1, np.int64)), contents=texts, inputs=tensors_of(texts, input))
    (found,) = salience(
        network, Feeder(), split, [0], replace(tries.splits_of(split), input=input), Classification(labels=("a", "b"))
    )
    assert found.names[0][0] == "leak" and found.names[0][1] > 0


def test_of_a_window_the_steps_and_channels_that_counted_are_shown() -> None:
    input = WindowInput(channels=("x", "y"), steps=4, mean=(0.0, 0.0), std=(1.0, 1.0))
    network = nn.Sequential(nn.Flatten(), nn.Linear(8, 1, bias=False))
    with torch.no_grad():
        network[1].weight.zero_()  # type: ignore[operator]
        network[1].weight[0, 3] = 2.0  # type: ignore[index]  # step 1, channel y
    values = np.arange(8, dtype=np.float32).reshape(4, 2)
    window = Window(channels=("x", "y"), values=values)
    split = replace(tries.split_of(np.zeros(1, np.int64)), contents=[window], inputs=values[None])
    output = Values(names=("life",), mean=(0.0,), std=(1.0,), edges=(1.0,))
    (found,) = salience(network, Feeder(), split, [0], replace(tries.splits_of(split), input=input), output)
    assert found.map[1, 1] == pytest.approx(6.0) and np.count_nonzero(found.map) == 1
    assert found.names == (("y", 6.0),)
    drawings.window(window, found.map, input.channels)


def test_of_numbers_the_nearest_and_the_furthest_answers_are_shown() -> None:
    told = Numeric(
        names=("life",), values=np.array([[1.0], [9.0], [3.0]]), truths=np.array([[1.1], [1.0], [np.nan]]), headline=0
    )
    assert gallery.choose(told, 1) == ([0], [1])


def _svg() -> bytes:
    import io

    file = io.BytesIO()
    drawings.lines({"a": _curve()}, "x", "y").savefig(file, format="svg", metadata={"Date": None})
    return file.getvalue()


def _curve() -> Any:
    from cloud_hub.pipeline.evaluation.curves import Curve

    return Curve(x=np.array([0.0, 1.0]), y=np.array([0.0, 1.0]), area=0.5)


def test_a_report_too_large_is_refused(tmp_path: Path) -> None:
    from cloud_hub.core.errors import Invalid
    from cloud_hub.services.reports import MAX_BYTES, ReportService

    service = ReportService(None, None)  # type: ignore[arg-type]  # it must not get as far as to use them
    with pytest.raises(Invalid, match="more than"):
        service.put("job", b" " * (MAX_BYTES + 1), b"{}")
