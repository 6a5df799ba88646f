"""The audit log: a chain of entries, each of which holds the hash of the one before.

Whoever changes, drops, moves or adds an entry must make every later one anew, and with them the newest hash: an older copy of
it, an ``Anchor`` kept elsewhere, shows that.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from typing import Protocol

from cloud_hub.core.errors import Invalid
from cloud_hub.core.model import Role
from protos.contract.ids import TenantId

BEGUN = "BEGUN"  # the result of an entry that was made before the effect

# characters, after ``printable``
MAX_NAME = 128
MAX_SUBJECT = 512
MAX_DETAIL = 1024

_MOVED = 10_000  # numbers before and after its own in which an entry's first one is looked for


@dataclass(frozen=True, slots=True, kw_only=True)
class Audited:
    """Who calls what. Any text is fit: the log makes it printable and bounds it."""

    tenant: TenantId  # of strangers: the default one
    role: Role
    who: str  # device id or user name; empty for strangers
    source: str  # address of the peer
    action: str  # "/tideline.v1.Fleet/DeleteDevice"
    subject: str = ""  # what it is about, as the request names it


class AuditLog(Protocol):
    """Append-only. On return of each method its entry survives a power cut.

    Raises:
        Unavailable: it cannot be written now, and nothing was.
    """

    def begin(self, call: Audited) -> None:
        """Before the effect, which must not happen where this raises."""

    def end(self, call: Audited, result: str, detail: str) -> None:
        """After the effect; ``result`` is "OK" or the name of the status, ``detail`` what the caller was told."""

    def denied(self, call: Audited, result: str, detail: str, left_out: int) -> None:
        """There was no effect; ``left_out`` refusals since the last entry have none of their own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Anchor:
    """What the chain was once known to hold."""

    number: int
    hash: str

    def __str__(self) -> str:
        return f"{self.number}:{self.hash}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    number: int  # of its tenant; grows by one from 1
    at_ms: int
    tenant: TenantId
    role: str
    who: str
    source: str
    action: str
    subject: str
    result: str
    detail: str
    previous: str  # hash of the entry before; empty for the first
    hash: str = ""

    @property
    def anchor(self) -> Anchor:
        return Anchor(number=self.number, hash=self.hash)

    def sealed(self) -> "Entry":
        """The same with its hash."""
        return replace(self, hash=digest(self))


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditFilter:
    """Empty and zero: any."""

    who: str = ""
    action: str = ""  # a part of it, in upper or lower case
    result: str = ""
    since_ms: int = 0
    until_ms: int = 0  # exclusive


_HASHED = tuple(field.name for field in fields(Entry) if field.name != "hash")
_NUMBERS = ("number", "at_ms")


def digest(entry: Entry) -> str:
    """SHA-256, hexadecimal, over the canonical JSON of all other fields: sorted keys, no spaces, ASCII only."""
    return hashlib.sha256(_canonical(entry, _HASHED).encode("ascii")).hexdigest()


def dump(entry: Entry) -> str:
    """One line of an exported file: the canonical JSON of all fields."""
    return _canonical(entry, (*_HASHED, "hash"))


def load(line: str) -> Entry:
    """What ``dump`` wrote, whatever its hash. Raises Invalid."""
    try:
        values = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise Invalid("not an entry of an audit log: not JSON") from error
    if not isinstance(values, dict) or values.keys() != {*_HASHED, "hash"}:
        raise Invalid(f"not an entry of an audit log: it must be an object of {', '.join(sorted((*_HASHED, 'hash')))}")
    for name, value in values.items():
        if type(value) is not (int if name in _NUMBERS else str):
            raise Invalid(f"not an entry of an audit log: '{name}' is of another type")
    return Entry(**values)


def _canonical(entry: Entry, names: tuple[str, ...]) -> str:
    return json.dumps({name: getattr(entry, name) for name in names}, sort_keys=True, separators=(",", ":"))


def made(call: Audited, result: str, detail: str, *, at_ms: int, last: Anchor) -> Entry:
    """The entry that follows ``last`` (number 0: there is none yet)."""
    return Entry(
        number=last.number + 1,
        at_ms=at_ms,
        tenant=call.tenant,
        role=call.role.value,
        who=printable(call.who, MAX_NAME),
        source=printable(call.source, MAX_NAME),
        action=printable(call.action, MAX_NAME),
        subject=printable(call.subject, MAX_SUBJECT),
        result=printable(result, MAX_NAME),
        detail=printable(detail, MAX_DETAIL),
        previous=last.hash,
    ).sealed()


def printable(text: str, limit: int) -> str:
    """One line that shows what ``text`` is: what does not print is escaped, and so is the backslash, so that no text looks like
    another one's escape. What is too long ends in an ellipsis."""
    if len(text) <= limit and text.isprintable() and "\\" not in text:
        return text
    shown: list[str] = []
    left = limit - 1  # for the ellipsis
    for character in text[: limit + 1]:
        part = character if character.isprintable() and character != "\\" else _escaped(character)
        if len(part) > left:
            return "".join(shown) + "…"
        shown.append(part)
        left -= len(part)
    return "".join(shown)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    entries: int  # that hold, from the first one given
    head: Anchor  # the last of them
    problem: str = ""  # where the chain breaks first, and how; empty: it holds
    by_noted: bool = False  # the chain itself holds so far: it is what was noted that it does not agree with


NOTHING = Anchor(number=0, hash="")  # before the first entry


def verify(entries: Iterable[Entry], noted: Anchor | None = None, *, whole: bool = True) -> Verdict:
    """Look at each entry once, in order, keeping none.

    Args:
        noted: must be in the chain as it says; None: that its end was cut off or made anew stays unseen.
        whole: from entry 1; otherwise from whichever comes first, whose word is taken for the hash of the one before it.
    """
    head, count = NOTHING, 0
    for entry in entries:
        if not (whole or count):
            head = Anchor(number=entry.number - 1, hash=entry.previous)
        if problem := _problem(entry, head):
            return Verdict(entries=count, head=head, problem=problem)
        if problem := _disagrees(entry, noted):
            return Verdict(entries=count, head=head, problem=problem, by_noted=True)
        head, count = entry.anchor, count + 1
    problem = ""
    if noted is not None and noted.number > head.number:
        ends = f"the chain ends with entry {head.number}" if count else "nothing is left"
        problem = f"cut: {ends}, but entry {noted.number} was noted earlier"
    return Verdict(entries=count, head=head, problem=problem, by_noted=bool(problem))


def _problem(entry: Entry, last: Anchor) -> str:
    number = last.number + 1
    if entry.hash != digest(entry):
        first = _first_number(entry)
        if first is not None:
            return f"reordered: what stands as entry {entry.number} was made as entry {first}"
        return f"altered: entry {entry.number} is not what its hash says"
    if entry.number > number:
        return f"missing: entry {number}" + (f" to {entry.number - 1}" if entry.number > number + 1 else "")
    if entry.number < number:
        return f"reordered: entry {entry.number} comes after entry {last.number}"
    if entry.previous != last.hash:
        before = f"entry {last.number} is not the one it was made after" if last.number else "it is not the first one"
        return f"replaced: entry {number} does not follow: {before}"
    return ""


def _disagrees(entry: Entry, noted: Anchor | None) -> str:
    if noted is None or entry.number != noted.number or entry.hash == noted.hash:
        return ""
    return f"replaced: entry {entry.number} has another hash than the one that was noted earlier"


def _first_number(entry: Entry) -> int | None:
    """The number under which the entry's hash is right; None: there is none near."""
    near = range(max(1, entry.number - _MOVED), entry.number + _MOVED + 1)
    return next((number for number in near if digest(replace(entry, number=number)) == entry.hash), None)


def anchor(text: str) -> Anchor:
    """Of ``NUMBER:HASH``. Raises Invalid."""
    number, _, hash = text.strip().partition(":")
    return checked_anchor(int(number) if number.isascii() and number.isdigit() and len(number) < 19 else 0, hash.lower())


def checked_anchor(number: int, hash: str) -> Anchor:
    """Raises Invalid."""
    if number < 1 or len(hash) != 64 or not set(hash) <= set("0123456789abcdef"):
        raise Invalid("an anchor is NUMBER:HASH, as the hub's log says them: a number from 1 and 64 hexadecimal digits")
    return Anchor(number=number, hash=hash)
