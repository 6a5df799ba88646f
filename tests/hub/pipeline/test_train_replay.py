"""Old samples beside new ones: how many, which, and what the gate says of a model that forgot them."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from cloud_hub.pipeline import gate, replay
from cloud_hub.pipeline import task as tasks
from cloud_hub.pipeline.clean import RawSample
from cloud_hub.pipeline.gate import Champion, Decision
from cloud_hub.pipeline.stored import Stored
from tests.hub.pipeline.parts import LABELS, digits
from tests.hub.pipeline.test_train import spec_with

SPEC = spec_with("replay: {dataset: digits-of-old, share: 0.25}")
TASK = tasks.make(SPEC)


def test_a_bounded_share_of_what_trains_is_old_and_all_that_tests_is_kept() -> None:
    old, new = digits(400), digits(300, start=500)
    mixed = replay.mixed(new, old, SPEC)
    splits = TASK.load(LABELS, mixed.samples)
    rows = {name: replay.rows_of(getattr(splits, name), mixed.old) for name in ("train", "val", "test")}
    alone = TASK.load(LABELS, old)
    assert len(rows["train"]) / len(splits.train) == pytest.approx(0.25, abs=0.01)
    assert (len(rows["val"]), len(rows["test"])) == (len(alone.val), len(alone.test))
    counts = np.bincount(splits.train.targets[rows["train"]])
    assert counts.min() >= counts.max() - 2
    assert list(mixed.samples) == list(replay.mixed(new, old, SPEC).samples)


def test_a_sample_of_both_is_there_once_and_counts_as_old() -> None:
    mixed = replay.mixed(digits(300), digits(200), SPEC)
    assert list(mixed.samples) == digits(300)
    assert mixed.old == {sample.id for sample in digits(200)}


def test_to_choose_no_content_is_read_and_then_one_at_a_time_of_those_that_were_chosen() -> None:
    """However large the older data set is, a job holds what ``clean`` keeps of it."""
    given = {sample.digest: sample.content for sample in digits(700)}
    read: list[str] = []

    def content(sample: RawSample) -> bytes:
        read.append(sample.digest)
        return Content(given[sample.digest])

    new, old = (
        Stored([replace(sample, content=b"") for sample in part], content) for part in (digits(300, start=400), digits(400))
    )
    mixed = replay.mixed(new, old, SPEC)
    assert not read
    most = 0
    for sample in mixed.samples:
        assert sample.content == given[sample.digest]
        most = max(most, Content.alive)
    assert most <= 2  # the one in hand, and the one before it until its name is given away
    assert len(read) == len(set(read)) == mixed.held + mixed.taken + 300 < 700


class Content(bytes):
    """Those that somebody holds are counted."""

    alive = 0

    def __init__(self, _: bytes) -> None:
        Content.alive += 1

    def __del__(self) -> None:
        Content.alive -= 1


@dataclass(frozen=True)
class File:
    outputs: Any
    artifact: Any


@dataclass(frozen=True)
class Named:
    target: str


def test_a_model_that_forgot_is_refused_with_both_figures(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    mixed = replay.mixed(digits(300, start=500), digits(400), SPEC)
    splits = TASK.load(LABELS, mixed.samples)
    rows = replay.rows_of(splits.test, mixed.old)
    right = np.eye(10, dtype=np.float32)[splits.test.targets]
    forgetful = right.copy()
    forgetful[rows[::2]] = np.roll(forgetful[rows[::2]], 1, axis=1)
    monkeypatch.setattr(gate, "champion_outputs", lambda task, champion, some: np.eye(10)[some.test.targets])
    champion = cast(Champion, Named(target="onnx-int8"))

    def said(outputs: Any) -> tuple[Decision, Any]:
        kept = cast(Any, (File(outputs=outputs, artifact=Named(target="onnx-int8")),))
        decision = Decision(kept=kept, refused={}, reason="", compared=None)
        found = replay.forgotten(TASK, decision, champion, splits, mixed)
        assert found is not None
        return found.applied(decision), found

    fine, found = said(right)
    assert fine.reason == "" and found.as_json() == {"samples": len(rows), "before": 1.0, "after": 1.0, "problem": ""}
    refused, found = said(forgetful)
    assert "it forgets" in refused.reason and f"{found.after:.4f}" in refused.reason
    assert found.applied(replace(refused, reason="worse")).reason == "worse"
