"""The past trains, the newest tests, and nothing of the future is known before."""

from itertools import pairwise

import numpy as np
import pytest

from cloud_hub.core.errors import Invalid
from cloud_hub.core.spec_sections.data import DataSpec
from cloud_hub.pipeline.clean import Item
from cloud_hub.pipeline.split import SPLITS, TEST, TRAIN, VAL, assign
from protos.contract.ids import digest_of

MINUTE = 60_000


def _spec(**values: object) -> DataSpec:
    return DataSpec(dataset="d", split_by="time", **values)  # type: ignore[arg-type]


def _item(number: int, at_ms: int, *, source: str = "", split: str = "", label: str = "", origin: str = "") -> Item:
    return Item(
        content=np.zeros(1, np.float32),
        label=label or "ab"[number % 2],
        source=source or f"s{number}",
        split=split,
        digest=digest_of(str(number).encode()),
        group="",
        at_ms=at_ms,
        label_origin=origin,
        id=f"sample-{number}",
    )


def _spans(items: list[Item], splits: list[str]) -> list[tuple[int, int]]:
    """First and last time of each split."""
    times = [[item.at_ms for item, split in zip(items, splits, strict=True) if split == name] for name in SPLITS]
    return [(min(some), max(some)) for some in times]


def test_every_training_sample_is_older_than_all_validation_and_those_than_all_test_samples() -> None:
    draw = np.random.default_rng(0)
    items = [_item(i, int(at)) for i, at in enumerate(draw.integers(1, 10**9, 500))]
    splits, notes = assign(items, _spec())
    assert all(before[1] < after[0] for before, after in pairwise(_spans(items, splits)))
    assert [splits.count(name) for name in SPLITS] == [350, 75, 75]
    assert notes == []


def test_samples_of_one_moment_are_on_one_side() -> None:
    items = [_item(i, (1 + i // 40) * MINUTE) for i in range(400)]
    splits, _ = assign(items, _spec())
    assert all(before[1] < after[0] for before, after in pairwise(_spans(items, splits)))


def test_sources_stay_whole_where_there_is_a_moment_between_them() -> None:
    items = [_item(i, MINUTE + i * 1000, source=f"drive-{i // 23}") for i in range(460)]
    splits, notes = assign(items, _spec())
    homes: dict[str, set[str]] = {}
    for item, split in zip(items, splits, strict=True):
        homes.setdefault(item.source, set()).add(split)
    assert all(len(home) == 1 for home in homes.values())
    assert notes == []


def test_sources_that_run_all_the_time_are_cut_and_named_and_a_gap_keeps_windows_apart() -> None:
    items = [_item(i, MINUTE + i * 1000, source=f"sensor-{i % 3}") for i in range(600)]
    splits, notes = assign(items, _spec(gap_s=30))
    (_, trained), (first_val, last_val), (first_test, _) = _spans(items, splits)
    assert first_val - trained >= 30_000 and first_test - last_val >= 30_000
    assert splits.count("") == 2 * 29
    assert any("3 sources run on" in note and "data.gap_s" in note for note in notes)
    assert any("58 samples are left out" in note for note in notes)


def test_samples_without_a_time_are_named() -> None:
    items = [_item(i, 0 if i in (3, 7) else i * 1000) for i in range(1, 100)]
    with pytest.raises(Invalid, match="2 samples do not say when they were captured: sample-3, sample-7"):
        assign(items, _spec())


def test_times_that_do_not_differ_are_no_order() -> None:
    with pytest.raises(Invalid, match="3 are needed"):
        assign([_item(i, 1000 + i % 2) for i in range(100)], _spec())


def test_a_class_that_came_late_is_not_taken_out_of_the_future_to_train() -> None:
    items = [_item(i, (1 + i) * 1000, label="new" if i >= 190 else "ab"[i % 2]) for i in range(200)]
    splits, notes = assign(items, _spec())
    assert {split for item, split in zip(items, splits, strict=True) if item.label == "new"} == {TEST}
    assert any("'new', which is not trained" in note for note in notes)


def test_pins_hold_and_those_across_the_border_are_said() -> None:
    items = [_item(i, (1 + i) * 1000, split=TRAIN if i == 199 else TEST if i == 0 else "") for i in range(200)]
    splits, notes = assign(items, _spec())
    assert (splits[0], splits[199], splits[1], splits[198]) == (TEST, TRAIN, TRAIN, TEST)
    assert any("2 samples are pinned across the border" in note for note in notes)


def test_what_a_teacher_labelled_trains_or_is_left_out() -> None:
    items = [_item(i, (1 + i) * 1000, origin="teacher" if i % 4 == 0 else "human") for i in range(400)]
    splits, _ = assign(items, _spec())
    taught = {split for item, split in zip(items, splits, strict=True) if item.label_origin == "teacher"}
    assert taught == {TRAIN, ""}
    assert VAL in splits


def test_a_gap_needs_an_order() -> None:
    with pytest.raises(Invalid, match="data.gap_s"):
        DataSpec(dataset="d", gap_s=5)
