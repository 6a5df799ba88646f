from pathlib import Path

import pytest

from edge_agent.core.errors import Corrupt
from edge_agent.update.slots import Slot, SlotRecord, Slots
from tests.agent.update.parts import Release, release

ONE, TWO = release(1), release(2)


def fill(slots: Slots, slot: Slot, it: Release, generation: int, *, good: bool) -> None:
    slots.prepare(slot, SlotRecord(assignment=it.assignment, generation=generation))
    slot.manifest.write_bytes(it.manifest)
    slot.model.write_bytes(it.model)
    slot.golden.write_bytes(it.golden)
    slots.mark(slot, good=good)


@pytest.fixture
def slots(tmp_path: Path) -> Slots:
    """Version 1 runs from a, version 2 has run before, from b."""
    slots = Slots(tmp_path)
    fill(slots, slots.slot("a"), ONE, 1, good=True)
    fill(slots, slots.slot("b"), TWO, 2, good=True)
    slots.activate(slots.slot("a"))
    return slots


def test_a_new_folder_names_no_model(tmp_path: Path) -> None:
    slots = Slots(tmp_path)
    assert slots.current() is None
    assert slots.fallback(than=None) is None
    assert slots.other().name == "a"


def test_a_whole_slot_gives_its_manifest(slots: Slots) -> None:
    current = slots.current()
    assert current is not None
    assert slots.check(current).version == 1
    assert slots.other().name == "b"


@pytest.mark.parametrize("name", ["manifest.pb", "model.bin", "golden.pb", "slot.json"])
@pytest.mark.parametrize("damage", ["flipped", "truncated", "gone"])
def test_any_damaged_file_makes_the_slot_corrupt(slots: Slots, name: str, damage: str) -> None:
    path = slots.slot("a").folder / name
    data = path.read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(data[:-1] if damage == "truncated" else bytes([data[0] ^ 1]) + data[1:])
    with pytest.raises(Corrupt):
        slots.check(slots.slot("a"))
    assert slots.fallback(than=slots.slot("b")) is None


@pytest.mark.parametrize("content", [None, b"", b"c\n", b"\x00\x00", b"\xff\xfe"])
def test_a_lost_pointer_means_the_newest_good_slot(slots: Slots, tmp_path: Path, content: bytes | None) -> None:
    if content is None:
        (tmp_path / "current").unlink()
    else:
        (tmp_path / "current").write_bytes(content)
    assert slots.current() == slots.slot("b")
    slots.mark(slots.slot("b"), good=False)
    assert slots.current() == slots.slot("a")


def test_no_model_is_a_decision_that_stays(slots: Slots, tmp_path: Path) -> None:
    slots.activate(None)
    assert Slots(tmp_path).current() is None


def test_only_a_good_slot_is_fallen_back_to(slots: Slots) -> None:
    assert slots.fallback(than=slots.slot("a")) == slots.slot("b")
    slots.mark(slots.slot("b"), good=False)
    assert slots.fallback(than=slots.slot("a")) is None


def test_preparing_for_the_same_model_keeps_what_is_there(slots: Slots) -> None:
    slot = slots.slot("b")
    slot.model.unlink()
    (slot.folder / "model.bin.part").write_bytes(TWO.model[:100])
    slots.prepare(slot, SlotRecord(assignment=TWO.assignment, generation=9, rollout_id="r"))
    assert sorted(path.name for path in slot.folder.iterdir()) == ["golden.pb", "manifest.pb", "model.bin.part", "slot.json"]
    record = slots.record(slot)
    assert record is not None and (record.generation, record.good) == (9, True)


def test_preparing_for_another_model_empties_the_slot(slots: Slots) -> None:
    slot = slots.slot("b")
    (slot.folder / "left").mkdir()
    slots.prepare(slot, SlotRecord(assignment=ONE.assignment, generation=9))
    assert [path.name for path in slot.folder.iterdir()] == ["slot.json"]
    record = slots.record(slot)
    assert record is not None and not record.good


def test_a_pointer_is_not_moved_to_a_slot_that_lacks_a_file(slots: Slots) -> None:
    slots.slot("b").golden.unlink()
    with pytest.raises(FileNotFoundError):
        slots.activate(slots.slot("b"))
    assert slots.current() == slots.slot("a")


def test_half_written_pointers_are_swept(slots: Slots, tmp_path: Path) -> None:
    left = tmp_path / ".current.123.tmp"
    left.write_bytes(b"b")
    Slots(tmp_path)
    assert not left.exists()
