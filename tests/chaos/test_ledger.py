"""Each thing that must never be found is found where it is, and named."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from protos.contract.update import UpdateState as S
from tests.chaos.ledger import WRONGS, Findings, Ledger


@dataclass(frozen=True)
class Thing:
    number: int
    good: bool = True
    kind: str = "thing"


OLD, FIRST, BAD, NEW = Thing(0), Thing(1), Thing(2, good=False), Thing(3)


def ledger() -> tuple[Ledger, Findings]:
    """Came with OLD, has committed FIRST, has had enough of BAD, and NEW is under way."""
    findings = Findings()
    made = Ledger(findings, 1, OLD)
    for generation, version, end in ((2, FIRST, S.COMMITTED), (3, BAD, S.ROLLED_BACK)):
        made.ask(generation, version)
        made.hear(generation, end)
    made.ask(4, NEW)
    return made, findings


def _reports_the_past_again(it: Ledger) -> None:
    it.hear(2, S.COMMITTED)
    it.hear(3, S.ROLLED_BACK)


def _runs_what_it_may(it: Ledger) -> None:
    it.runs(FIRST)
    it.hear(4, S.TRIAL)
    it.runs(NEW)
    it.disk(NEW, [FIRST, NEW], {2: S.COMMITTED, 4: S.TRIAL})


def _has_committed_what_the_hub_has_not_heard_of(it: Ledger) -> None:
    it.disk(NEW, [NEW, None], {3: S.ROLLED_BACK, 4: S.COMMITTED})


@pytest.mark.parametrize(
    "act",
    [_reports_the_past_again, _runs_what_it_may, _has_committed_what_the_hub_has_not_heard_of],
    ids=lambda it: it.__name__,
)
def test_what_may_be_is_not_found_wrong(act: Callable[[Ledger], None]) -> None:
    made, findings = ledger()
    act(made)
    assert findings.good, findings.wrong


@pytest.mark.parametrize(
    ("act", "name"),
    [
        (lambda it: it.runs(BAD), "bad_runs"),
        (lambda it: it.runs(OLD), "good_lost"),
        (lambda it: it.hear(3, S.TRIAL), "revived"),
        (lambda it: it.hear(2, S.ROLLED_BACK), "revived"),
        (lambda it: (it.ask(5, BAD), it.hear(5, S.COMMITTED)), "bad_commits"),
        (lambda it: it.disk(None, [FIRST, None], {2: S.COMMITTED}), "mixed"),
        (lambda it: it.disk(OLD, [OLD, None], {2: S.COMMITTED}), "good_lost"),
        (lambda it: it.disk(NEW, [NEW, None], {4: S.TRIAL}), "good_lost"),
    ],
)
def test_what_must_not_be_is_found_and_named(act: Callable[[Ledger], object], name: str) -> None:
    made, findings = ledger()
    act(made)
    assert [it for it in WRONGS if findings.wrong[it]] == [name]


def test_what_the_journal_has_lost_is_lost_unless_there_is_none_to_ask() -> None:
    made, findings = ledger()
    made.disk(NEW, [NEW], None)
    assert findings.good
    made.disk(NEW, [NEW], {})
    assert findings.wrong["good_lost"]
