"""The count finds what it is there to find."""

from collections.abc import Callable

import pytest

from tests.chaos.verdict import Held, Verdict, judge
from tests.chaos.witness import Content, Owed

STREAM = ("e1", 2)


def reading(sequence: int) -> Content:
    return ("inference", 1000 + sequence, 3, 0.5, 77)


def whole() -> tuple[Owed, Held]:
    """Ten records given out and stored, five of them seen on the disk."""
    owed, held = Owed(following={STREAM: 10}), Held(records_counted=10)
    for sequence in range(5):
        owed.see(STREAM, sequence, reading(sequence))
    held.add(STREAM, [(sequence, reading(sequence)) for sequence in range(10)])
    return owed, held


def of(spoil: Callable[[Owed, Held], None], *, may_drop: bool = False) -> Verdict:
    owed, held = whole()
    spoil(owed, held)
    return judge(owed, held, may_drop=may_drop)


def _lose(_: Owed, held: Held) -> None:
    del held.sequences[STREAM][7]
    held.records_counted = 9


def _lose_the_last(owed: Owed, _: Held) -> None:
    owed.following[STREAM] = 11


def _repeat(_: Owed, held: Held) -> None:
    held.sequences[STREAM].append((3, reading(3)))


def _alter(_: Owed, held: Held) -> None:
    held.sequences[STREAM][2] = (2, ("inference", 1002, 4, 0.5, 77))


def _reuse_a_number(owed: Owed, _: Held) -> None:
    owed.see(STREAM, 1, ("inference", 9999, 1, 0.5, 1))


def _invent(_: Owed, held: Held) -> None:
    held.sequences[STREAM].append((10, reading(10)))
    held.records_counted = 11


def _drop(_: Owed, held: Held) -> None:
    held.sequences[STREAM][8] = (8, ("gap", "disk full"))
    held.records_counted, held.dropped_counted = 9, 1


def _drop_without_a_word(_: Owed, held: Held) -> None:
    _drop(_, held)
    held.sequences[STREAM][8] = (8, ("gap", ""))


def _count_twice(_: Owed, held: Held) -> None:
    held.records_counted = 20


def _begin_another_epoch(owed: Owed, _: Held) -> None:
    owed.following["e2", 2] = 0


def _begin_another_epoch_behind_our_back(_: Owed, held: Held) -> None:
    held.add(("e2", 2), [])


def _see_nothing(owed: Owed, _: Held) -> None:
    owed.records.clear()


def _act_twice(_: Owed, held: Held) -> None:
    held.sequences[STREAM][9] = (9, ("event", 5, "spool.reset"))
    held.listed["event", 5, "spool.reset"] = 2


def _leave_unfolded(_: Owed, held: Held) -> None:
    held.unfolded.append("lane 2 is folded through 5 and stored through 9")


def _raise_an_alarm(_: Owed, held: Held) -> None:
    held.alarms.append("telemetry.cloned: 3..4")


def _drop_for_another_reason(_: Owed, held: Held) -> None:
    _drop(_, held)
    held.sequences[STREAM][8] = (8, ("gap", "stored bytes damaged"))


def test_what_is_whole_is_good() -> None:
    assert of(lambda owed, held: None).wrong == {}


@pytest.mark.parametrize(
    ("spoil", "name"),
    [
        (_lose, "lost"),
        (_lose_the_last, "lost"),
        (_repeat, "duplicate"),
        (_alter, "altered"),
        (_reuse_a_number, "altered"),
        (_invent, "unearned"),
        (_drop, "unexplained"),
        (_drop_without_a_word, "unexplained"),
        (_count_twice, "counted_wrong"),
        (_begin_another_epoch, "reset"),
        (_begin_another_epoch_behind_our_back, "reset"),
        (_see_nothing, "unproven"),
        (_act_twice, "acted_wrong"),
        (_leave_unfolded, "acted_wrong"),
        (_raise_an_alarm, "alarms"),
    ],
)
def test_each_kind_of_wrong_is_found_and_named(spoil: Callable[[Owed, Held], None], name: str) -> None:
    assert name in of(spoil).wrong


def test_a_device_without_room_may_drop_if_it_says_why() -> None:
    assert of(_drop, may_drop=True).wrong == {}
    assert "unexplained" in of(_drop_without_a_word, may_drop=True).wrong
    assert "unexplained" in of(_drop_for_another_reason, may_drop=True).wrong


def test_an_event_that_happened_twice_may_be_listed_twice() -> None:
    def spoil(_: Owed, held: Held) -> None:
        held.sequences[STREAM][8:] = [(8, ("event", 5, "same")), (9, ("event", 5, "same"))]
        held.listed["event", 5, "same"] = 2

    assert of(spoil).wrong == {}
