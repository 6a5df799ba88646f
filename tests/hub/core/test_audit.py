"""The chain: what breaks it, and texts that try to look like something else."""

import json
from dataclasses import fields, replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cloud_hub.core import audit
from cloud_hub.core.audit import NOTHING, Anchor, Audited, Entry
from cloud_hub.core.errors import Invalid
from cloud_hub.core.model import Role
from protos.contract.ids import TenantId

TENANT = TenantId("default")
HOSTILE = (
    '","hash":"0"}\n{"number":2',  # JSON that ends its own text
    "ok\r\n2026-01-01 admin deleted nothing",
    "\x1b[2K\x1b[1A",  # moves a terminal's cursor
    "\u202egnp.exe",  # turns what follows round
    "\u2066a\u2069",
    "a\u2028b\u2029c",
    "\x00",
    "\ud800",  # a lone surrogate
    "\U000e0041",  # a tag nobody sees
    "\ufeff",
    "\\u202e",  # looks like an escape
    "x" * 100_000,
    "\u202e" * 100_000,
)
text = st.text(st.characters(codec=None), max_size=60) | st.sampled_from(HOSTILE)


def call(who: str = "ada", subject: str = "cam-1") -> Audited:
    return Audited(tenant=TENANT, role=Role.ADMIN, who=who, source="ipv4:127.0.0.1:5", action="/t/Delete", subject=subject)


def chain(length: int) -> list[Entry]:
    entries: list[Entry] = []
    for number in range(length):
        last = entries[-1].anchor if entries else NOTHING
        entries.append(audit.made(call(subject=f"cam-{number}"), "OK", "", at_ms=1_000 + number, last=last))
    return entries


def relinked(entries: list[Entry]) -> list[Entry]:
    """Numbered and hashed anew, as somebody does who knows how."""
    made: list[Entry] = []
    for number, entry in enumerate(entries, start=1):
        made.append(replace(entry, number=number, previous=made[-1].hash if made else "").sealed())
    return made


def test_a_chain_that_nobody_touched_holds_and_gives_its_anchor() -> None:
    entries = chain(10)
    verdict = audit.verify(entries)
    assert (verdict.entries, verdict.problem, verdict.head) == (10, "", entries[-1].anchor)
    assert audit.verify([]).head == NOTHING


@pytest.mark.parametrize("field", [field.name for field in fields(Entry)])
def test_no_field_can_be_changed_unseen(field: str) -> None:
    entries = chain(5)
    value = getattr(entries[2], field)
    entries[2] = replace(entries[2], **{field: value + 1 if isinstance(value, int) else value + "x"})
    problem = audit.verify(entries).problem
    assert problem.startswith(("altered", "reordered")) and str(entries[2].number) in problem


@pytest.mark.parametrize(
    ("gone", "problem"),
    [
        (slice(0, 1), "missing: entry 1"),
        (slice(2, 3), "missing: entry 3"),
        (slice(1, 4), "missing: entry 2 to 4"),
        (slice(4, 5), ""),
    ],
)
def test_what_was_deleted_is_missed_except_at_the_end(gone: slice, problem: str) -> None:
    entries = chain(5)
    del entries[gone]
    assert audit.verify(entries).problem == problem


def test_an_anchor_shows_a_deleted_end() -> None:
    entries = chain(5)
    noted = entries[-1].anchor
    assert audit.verify(entries[:4], noted).problem == "cut: the chain ends with entry 4, but entry 5 was noted earlier"
    assert audit.verify([], noted).problem.startswith("cut")
    assert audit.verify(entries, noted).problem == ""


def test_two_that_changed_places_are_reordered_even_with_each_others_numbers() -> None:
    entries = chain(6)
    swapped = [*entries[:2], entries[3], entries[2], *entries[4:]]
    assert audit.verify(swapped).problem == "missing: entry 3"
    swapped[2], swapped[3] = replace(swapped[2], number=3), replace(swapped[3], number=4)
    assert audit.verify(swapped).problem == "reordered: what stands as entry 3 was made as entry 4"


def test_an_entry_that_comes_twice_is_reordered() -> None:
    entries = chain(4)
    assert audit.verify([*entries[:3], entries[1], entries[3]]).problem == "reordered: entry 2 comes after entry 3"


def test_an_inserted_entry_breaks_the_chain_after_it() -> None:
    entries = chain(4)
    forged = audit.made(call("eve"), "OK", "", at_ms=1, last=entries[1].anchor)
    assert audit.verify([*entries[:2], forged, *entries[2:]]).problem == "reordered: entry 3 comes after entry 3"
    moved = [replace(entry, number=entry.number + 1) for entry in entries[2:]]
    assert audit.verify([*entries[:2], forged, *moved]).problem == "reordered: what stands as entry 4 was made as entry 3"


def test_a_changed_entry_with_its_own_hash_made_anew_breaks_the_next_one() -> None:
    entries = chain(4)
    entries[1] = replace(entries[1], who="eve").sealed()
    assert audit.verify(entries).problem == "replaced: entry 3 does not follow: entry 2 is not the one it was made after"


def test_a_chain_made_anew_from_somewhere_on_holds_but_not_for_whoever_noted_it() -> None:
    entries = chain(6)
    noted = entries[-1].anchor
    anew = relinked([entry for entry in entries if entry.number != 3])
    longer = relinked([replace(entry, who="eve") for entry in entries])
    assert audit.verify(anew).problem == audit.verify(longer).problem == ""
    assert audit.verify(anew, noted).problem.startswith("cut")
    assert audit.verify(longer, noted).problem == "replaced: entry 6 has another hash than the one that was noted earlier"
    assert audit.verify(relinked([*chain(7)[1:]]), entries[2].anchor).problem.startswith("replaced: entry 3")


def test_the_second_half_can_be_verified_alone() -> None:
    entries = chain(6)
    assert audit.verify(entries[3:], whole=False).entries == 3
    assert audit.verify(entries[3:]).problem == "missing: entry 1 to 3"
    entries[4] = replace(entries[4], detail="x")
    assert audit.verify(entries[3:], whole=False).problem.startswith("altered: entry 5")


@given(text, text, text, text)
@example(*HOSTILE[:4])
def test_no_text_forges_a_line_or_hides_in_one(who: str, subject: str, source: str, detail: str) -> None:
    made = audit.made(replace(call(who, subject), source=source), "OK", detail, at_ms=5, last=NOTHING)
    line = audit.dump(made)
    assert line.isascii() and line.isprintable() and "\n" not in line
    assert audit.load(line) == made
    assert audit.verify([made]).problem == ""
    for shown in (made.who, made.subject, made.source, made.detail):
        assert shown.isprintable()
        shown.encode()  # no lone surrogate: every database takes it
        assert len(shown) <= audit.MAX_DETAIL
    assert json.loads(line).keys() == {field.name for field in fields(Entry)}


@given(text, text)
@example("\u202e", "\\u202e")
@example("\\", "\\\\")
@example("\n", "\\n")
def test_texts_that_differ_are_shown_differently(one: str, other: str) -> None:
    limit = 10 * max(len(one), len(other)) + 1  # nothing is cut off
    assert (audit.printable(one, limit) == audit.printable(other, limit)) == (one == other)


@given(text, st.integers(1, 50))
def test_a_text_is_cut_between_characters_and_says_so(value: str, limit: int) -> None:
    shown = audit.printable(value, limit)
    assert len(shown) <= limit
    assert shown.endswith("…") or shown == audit.printable(value, 10**7)


def test_plain_texts_stay_as_they_are() -> None:
    for plain in ("ada", "Zoë \N{CAT FACE}", "交通標識", "x" * 20):
        assert audit.printable(plain, 20) == plain
    assert audit.printable("x" * 21, 20) == "x" * 19 + "…"


def test_an_anchor_reads_what_it_writes_and_nothing_else() -> None:
    noted = chain(3)[-1].anchor
    assert audit.anchor(str(noted)) == audit.anchor(f" {noted.number}:{noted.hash.upper()}\n") == noted
    for wrong in (
        "",
        "3",
        f"0:{noted.hash}",
        f"-1:{noted.hash}",
        "3:xyz",
        f"3:{noted.hash}0",
        f"٣:{noted.hash}",
        f"{'9' * 30}:{noted.hash}",
    ):
        with pytest.raises(Invalid, match="NUMBER:HASH"):
            audit.anchor(wrong)
    assert Anchor(number=0, hash="") == NOTHING


ANOTHER_TYPE = audit.dump(chain(1)[0]).replace('"number":1', '"number":"1"')


@pytest.mark.parametrize("line", ["", "{", "[]", "null", "[" * 100_000, "{}", '{"number": 1}', ANOTHER_TYPE])
def test_a_line_that_is_no_entry_is_refused(line: str) -> None:
    with pytest.raises(Invalid, match="not an entry"):
        audit.load(line)
