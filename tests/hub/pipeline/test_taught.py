"""What a teacher labelled trains and never judges."""

from cloud_hub.core.spec import DataSpec
from cloud_hub.pipeline.clean import TEACHER, Item
from cloud_hub.pipeline.split import TRAIN, assign
from protos.contract.ids import digest_of

SPEC = DataSpec(dataset="things")


def item(number: int, *, source: str = "", split: str = "", origin: str = "human") -> Item:
    return Item(
        content=str(number),
        label="ab"[number % 2],
        source=source or f"s{number // 4}",
        split=split,
        digest=digest_of(str(number).encode()),
        group="",
        label_origin=origin,
    )


def test_a_teachers_labels_change_nothing_for_the_others_and_are_never_held_out() -> None:
    known = [item(n) for n in range(200)]
    taught = [item(n, source=f"s{n // 8}" if n < 260 else "", origin=TEACHER) for n in range(200, 300)]
    taught.append(item(300, split="test", origin=TEACHER))
    alone, _ = assign(known, SPEC)
    splits, notes = assign([*taught, *known], SPEC)
    assert splits[len(taught) :] == alone
    assert set(splits[: len(taught)]) == {TRAIN, ""} and splits[len(taught) - 1] == ""
    held = {one.source for one, part in zip(known, alone, strict=True) if part != TRAIN}
    assert held
    for one, part in zip(taught, splits, strict=False):
        assert (part == "") == (one.source in held or one.split == "test")
    assert "101 samples have a teacher's label" in notes[-1]


def test_where_samples_are_split_one_by_one_sources_do_not_matter() -> None:
    known, taught = [item(n) for n in range(100)], [item(n, source="s0", origin=TEACHER) for n in range(100, 110)]
    splits, _ = assign([*known, *taught], DataSpec(dataset="things", split_by="sample"))
    assert splits[100:] == [TRAIN] * 10
