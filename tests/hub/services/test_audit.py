"""The audit log over both databases: it only grows, it finds what was done to it, and it tells its newest entry."""

import logging
import multiprocessing
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from datetime import timedelta

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from cloud_hub.core import audit
from cloud_hub.core.audit import BEGUN, Anchor, Audited, AuditFilter, Entry
from cloud_hub.core.errors import Exhausted, Invalid, Unavailable
from cloud_hub.core.model import Principal, Role
from cloud_hub.core.pages import Page
from cloud_hub.services import audit as module
from cloud_hub.services.audit import AuditService
from cloud_hub.store.database import Database, Tx
from edge_agent.core.clock import SystemClock
from protos.contract.ids import TenantId
from tests.agent.clocks import ManualClock
from tests.hub.fleet_parts import ADMIN, STRANGER, TENANT
from tests.hub.mqtt_parts import wait_for

ANYTHING = AuditFilter()
OTHER = STRANGER.tenant


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def service(db: Database, clock: ManualClock) -> AuditService:
    return AuditService(db, clock)


def call(subject: str = "cam-1", who: str = "ada", tenant: TenantId = TENANT, action: str = "Fleet/DeleteDevice") -> Audited:
    return Audited(
        tenant=tenant,
        role=Role.ADMIN,
        who=who,
        source="ipv4:127.0.0.1:5000",
        action=f"/tideline.v1.{action}",
        subject=subject,
    )


def fill(service: AuditService, entries: int) -> None:
    for number in range(entries // 2):
        service.begin(call(f"cam-{number}"))
        service.end(call(f"cam-{number}"), "OK", "")


def everything(service: AuditService, who: Principal = ADMIN) -> list[Entry]:
    return [entry for batch in service.export(who) for entry in batch]


@contextmanager
def intruder(db: Database, kind: str) -> Iterator[Tx]:
    """Somebody who owns the database: triggers do not stop them."""
    with db.write() as tx:
        if kind == "postgres":
            tx.execute(text("SET LOCAL session_replication_role = replica"))
        else:
            for name in ("refuses_update", "refuses_delete", "follows"):
                tx.execute(text(f"DROP TRIGGER IF EXISTS audit_{name}"))
        yield tx


# -- append -------------------------------------------------------------------------------------------------------------


def test_a_call_has_an_entry_before_and_after_its_effect_and_a_denied_one_has_its_own(service: AuditService) -> None:
    service.begin(call())
    service.end(call(), "ALREADY_EXISTS", "device cam-1 exists already")
    service.denied(call(who="eve"), "PERMISSION_DENIED", "viewer eve may not", 0)
    service.denied(replace(call(who=""), role=Role.ANONYMOUS), "UNAUTHENTICATED", "no certificate", 41)
    entries = everything(service)
    assert [(entry.number, entry.who, entry.result) for entry in entries] == [
        (1, "ada", BEGUN),
        (2, "ada", "ALREADY_EXISTS"),
        (3, "eve", "PERMISSION_DENIED"),
        (4, "", "UNAUTHENTICATED"),
    ]
    assert entries[3].detail == "[41 more before this one] no certificate"
    assert audit.verify(entries).problem == ""


def test_every_tenant_has_a_chain_of_its_own_that_only_it_sees(service: AuditService) -> None:
    service.begin(call("ours"))
    service.begin(call("theirs", tenant=OTHER))
    service.end(call("ours"), "OK", "")
    assert [(entry.number, entry.subject) for entry in everything(service)] == [(1, "ours"), (2, "ours")]
    assert [(entry.number, entry.subject) for entry in everything(service, STRANGER)] == [(1, "theirs")]
    assert [entry.subject for entry in service.list(STRANGER, ANYTHING)[0]] == ["theirs"]
    assert service.verify(STRANGER).entries == 1
    anchor = everything(service)[1].anchor
    assert service.verify(STRANGER, anchor).problem.startswith("cut")


@pytest.mark.parametrize("hostile", ["a\nb", "\0", "\ud800", "\u202e", '"}', "\\", "x" * 1_000_000, "\x1b[2K"])
def test_hostile_texts_are_kept_in_print_and_break_nothing(service: AuditService, hostile: str) -> None:
    service.begin(Audited(tenant=TENANT, role=Role.ADMIN, who=hostile, source=hostile, action=hostile, subject=hostile))
    service.end(call(hostile, hostile), hostile, hostile)
    assert service.verify(ADMIN).problem == ""
    for entry in everything(service):
        assert "".join((entry.who, entry.source, entry.action, entry.subject, entry.result, entry.detail)).isprintable()
    assert len(service.list(ADMIN, AuditFilter(who=hostile))[0]) == 2


def test_threads_that_append_at_once_make_one_chain(service: AuditService) -> None:
    def append(name: str) -> None:
        for number in range(10):
            service.begin(call(f"{name}-{number}", who=name))
            service.end(call(f"{name}-{number}", who=name), "OK", "")

    threads = [threading.Thread(target=append, args=(f"user-{i}",)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    entries = everything(service)
    assert audit.verify(entries).entries == 160
    for name in {entry.who for entry in entries}:
        own = [(entry.subject, entry.result) for entry in entries if entry.who == name]
        assert own == [(f"{name}-{number}", result) for number in range(10) for result in (BEGUN, "OK")]


def test_more_threads_than_are_written_at_once_all_have_their_entries(
    service: AuditService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_GROUP", 1)
    refused: list[Exception] = []

    def append(number: int) -> None:
        try:
            service.begin(call(f"{number}"))
        except Unavailable as error:
            refused.append(error)

    threads = [threading.Thread(target=append, args=(number,)) for number in range(12)]
    with service._writing:  # all of them wait in line
        for thread in threads:
            thread.start()
        wait_for(lambda: len(service._drafts) == len(threads), "all to have come")
    for thread in threads:
        thread.join()
    assert refused == []
    assert {entry.subject for entry in everything(service)} == {str(number) for number in range(12)}


def _append(url: str, name: str) -> None:
    db = Database(url)
    service = AuditService(db, SystemClock())
    for number in range(40):
        service.begin(call(f"{name}-{number}"))
    db.close()


def test_processes_that_append_at_once_make_one_chain(database_url: str) -> None:
    spawn = multiprocessing.get_context("spawn")
    processes = [spawn.Process(target=_append, args=(database_url, f"process-{i}")) for i in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0]
    db = Database(database_url)
    service = AuditService(db, SystemClock())
    verdict = service.verify(ADMIN)
    assert (verdict.entries, verdict.problem) == (80, "")
    assert {entry.subject for entry in everything(service)} == {f"process-{i}-{n}" for i in range(2) for n in range(40)}
    db.close()


def test_an_entry_that_cannot_be_written_refuses_the_call_for_all_that_wait_with_it(
    service: AuditService, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    entered, go = threading.Event(), threading.Event()
    refused: list[Exception] = []
    real = Database.write

    @contextmanager
    def failing(self: Database) -> Iterator[Tx]:
        entered.set()
        assert go.wait(10)
        raise Unavailable("the database is busy")
        with real(self) as tx:
            yield tx

    def append() -> None:
        try:
            service.begin(call())
        except Unavailable as error:
            refused.append(error)

    monkeypatch.setattr(Database, "write", failing)
    threads = [threading.Thread(target=append) for _ in range(5)]
    for thread in threads:
        thread.start()
    assert entered.wait(10)
    go.set()
    for thread in threads:
        thread.join()
    assert len(refused) == 5
    monkeypatch.setattr(Database, "write", real)
    service.begin(call("afterwards"))
    assert [entry.subject for entry in everything(service)] == ["afterwards"]


# -- the database refuses -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit SET who = 'eve'",
        "UPDATE audit SET detail = detail WHERE number = 2",
        "DELETE FROM audit",
        "DELETE FROM audit WHERE number = 4",
        "INSERT INTO audit SELECT tenant, number + 5, at_ms, role, who, source, action, subject, result, detail, previous, "
        "hash FROM audit WHERE number = 4",
    ],
)
def test_the_database_refuses_all_but_the_next_entry(service: AuditService, db: Database, statement: str) -> None:
    fill(service, 4)
    before = everything(service)
    with pytest.raises(DBAPIError, match="the audit log"), db.write() as tx:
        tx.execute(text(statement))
    assert everything(service) == before
    fill(service, 2)
    assert service.verify(ADMIN).entries == 6


def test_the_database_refuses_to_replace_or_truncate(service: AuditService, db: Database, database_kind: str) -> None:
    fill(service, 4)
    before = everything(service)
    columns = "tenant, number, at_ms, role, 'eve', source, action, subject, result, detail, previous, hash"
    statement = "TRUNCATE audit" if database_kind == "postgres" else f"INSERT OR REPLACE INTO audit SELECT {columns} FROM audit"
    with pytest.raises(DBAPIError, match="the audit log"), db.write() as tx:
        tx.execute(text(statement))
    assert everything(service) == before


# -- what was done behind its back ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("column", [field.name for field in fields(Entry)])
def test_a_changed_column_is_found(service: AuditService, db: Database, database_kind: str, column: str) -> None:
    fill(service, 8)
    noted = everything(service)[-1].anchor
    value = {"at_ms": "at_ms - 1", "number": "1000", "tenant": "'other'"}.get(column, f"{column} || 'x'")
    with intruder(db, database_kind) as tx:
        tx.execute(text(f"UPDATE audit SET {column} = {value} WHERE number = 4"))
    assert service.verify(ADMIN).problem
    assert service.verify(ADMIN, noted).problem


SQL: list[tuple[str, str]] = [
    ("DELETE FROM audit WHERE number = 1", "missing: entry 1"),
    ("DELETE FROM audit WHERE number = 4", "missing: entry 4"),
    ("DELETE FROM audit WHERE number IN (3, 4, 5)", "missing: entry 3 to 5"),
    ("DELETE FROM audit WHERE number = 8", "cut: the chain ends with entry 7"),
    ("DELETE FROM audit", "cut: nothing is left"),
    (
        "UPDATE audit SET number = 100 WHERE number = 3;"
        "UPDATE audit SET number = 3 WHERE number = 4;"
        "UPDATE audit SET number = 4 WHERE number = 100",
        "reordered: what stands as entry 3 was made as entry 4",
    ),
    (
        "INSERT INTO audit SELECT tenant, 9, at_ms, role, 'eve', source, action, subject, result, detail, hash, "
        "'0' FROM audit WHERE number = 8",
        "altered: entry 9",
    ),
]


@pytest.mark.parametrize(("statements", "problem"), SQL)
def test_rows_that_go_or_move_or_come_are_found(
    service: AuditService, db: Database, database_kind: str, statements: str, problem: str
) -> None:
    fill(service, 8)
    noted = everything(service)[-1].anchor
    with intruder(db, database_kind) as tx:
        for statement in statements.split(";"):
            tx.execute(text(statement))
    assert service.verify(ADMIN, noted).problem.startswith(problem)


def put(tx: Tx, entries: list[Entry]) -> None:
    tx.execute(text("DELETE FROM audit"))
    for entry in entries:
        row = {name: getattr(entry, name) for name in ("tenant", "number", "at_ms", "role", "who", "source", "action")}
        row |= {name: getattr(entry, name) for name in ("subject", "result", "detail", "previous", "hash")}
        tx.execute(text(f"INSERT INTO audit ({', '.join(row)}) VALUES ({', '.join(f':{name}' for name in row)})"), row)


def test_one_hash_made_anew_breaks_the_next_entry(service: AuditService, db: Database, database_kind: str) -> None:
    fill(service, 8)
    entries = everything(service)
    entries[3] = replace(entries[3], who="eve").sealed()
    with intruder(db, database_kind) as tx:
        put(tx, entries)
    assert service.verify(ADMIN).problem == "replaced: entry 5 does not follow: entry 4 is not the one it was made after"


def test_a_tail_made_anew_is_found_by_whoever_noted_the_head(service: AuditService, db: Database, database_kind: str) -> None:
    fill(service, 8)
    entries = everything(service)
    noted, early = entries[-1].anchor, entries[1].anchor
    for i in range(3, 8):
        entries[i] = replace(entries[i], who="eve", previous=entries[i - 1].hash).sealed()
    with intruder(db, database_kind) as tx:
        put(tx, entries)
    assert service.verify(ADMIN).problem == ""
    assert service.verify(ADMIN, early).problem == ""
    assert service.verify(ADMIN, noted).problem == "replaced: entry 8 has another hash than the one that was noted earlier"


def test_a_value_of_another_type_is_found_and_stops_nobody(service: AuditService, db: Database, database_kind: str) -> None:
    if database_kind == "postgres":
        return  # it has types
    fill(service, 4)
    with intruder(db, database_kind) as tx:
        tx.execute(text("UPDATE audit SET who = x'00ff', at_ms = 'never', detail = 5 WHERE number = 2"))
    assert service.verify(ADMIN).problem == "altered: entry 2 is not what its hash says"
    assert service.list(ADMIN, ANYTHING)[0][2].at_ms == 0


def test_a_chain_longer_than_a_batch_holds_and_breaks_at_the_border(
    service: AuditService, db: Database, database_kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_BATCH", 5)
    fill(service, 20)
    assert service.verify(ADMIN).entries == 20
    with intruder(db, database_kind) as tx:
        tx.execute(text("DELETE FROM audit WHERE number IN (5, 6)"))
    assert service.verify(ADMIN).problem == "missing: entry 5 to 6"


def test_one_verification_runs_at_a_time(service: AuditService, monkeypatch: pytest.MonkeyPatch) -> None:
    def verify(*args: object, **options: object) -> audit.Verdict:
        with pytest.raises(Exhausted, match="already"):
            service.verify(ADMIN)
        return audit.Verdict(entries=7, head=audit.NOTHING)

    monkeypatch.setattr(audit, "verify", verify)
    assert service.verify(ADMIN).entries == service.verify(ADMIN).entries == 7


# -- read ---------------------------------------------------------------------------------------------------------------


def test_entries_are_listed_newest_first_in_pages(service: AuditService) -> None:
    fill(service, 10)
    found, token = service.list(ADMIN, ANYTHING, Page(size=4))
    assert [entry.number for entry in found] == [10, 9, 8, 7]
    service.begin(call())  # does not move the pages
    found, token = service.list(ADMIN, ANYTHING, Page(size=4, token=token))
    assert [entry.number for entry in found] == [6, 5, 4, 3]
    found, token = service.list(ADMIN, ANYTHING, Page(size=4, token=token))
    assert ([entry.number for entry in found], token) == ([2, 1], "")
    with pytest.raises(Invalid):
        service.list(ADMIN, ANYTHING, Page(token="one"))


def test_entries_are_found_by_who_what_result_and_when(service: AuditService, clock: ManualClock) -> None:
    service.begin(call(who="ada", action="Fleet/DeleteDevice"))
    clock.advance(60)
    service.end(call(who="ada", action="Fleet/DeleteDevice"), "OK", "")
    service.denied(call(who="ADA", action="Rollouts/CreateRollout"), "PERMISSION_DENIED", "", 0)
    clock.advance(60)
    service.denied(call(who="50%_", action="Fleet/Get%Device"), "NOT_FOUND", "", 0)

    def found(**wanted: object) -> list[int]:
        return [entry.number for entry in service.list(ADMIN, AuditFilter(**wanted))[0]]  # type: ignore[arg-type]

    since = everything(service)[1].at_ms
    assert found(who="ada") == [2, 1]
    assert found(action="fleet/") == [4, 2, 1] and found(action="CREATErollout") == [3]
    assert found(action="%") == [4] and found(action="_") == [] and found(who="50%_") == [4]
    assert found(result="BEGUN") == [1]
    assert found(since_ms=since) == [4, 3, 2] and found(until_ms=since) == [1]
    assert found(since_ms=since, until_ms=since + 1) == [3, 2]
    assert found(who="ada", result="OK", action="Device", since_ms=since) == [2]


def test_an_export_begins_after_a_number(service: AuditService) -> None:
    fill(service, 6)
    assert [entry.number for batch in service.export(ADMIN, 4) for entry in batch] == [5, 6]
    assert list(service.export(ADMIN, 6)) == list(service.export(ADMIN, 2**63 - 1)) == []


# -- anchors --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> Callable[[], list[tuple[str, str, str]]]:
    """``(message, tenant, anchor or problem)`` since the last look."""
    caplog.set_level(logging.INFO, "cloud_hub.services.audit")

    def look() -> list[tuple[str, str, str]]:
        lines = [(r.message, getattr(r, "tenant", ""), getattr(r, "anchor", getattr(r, "problem", ""))) for r in caplog.records]
        caplog.clear()
        return lines

    return look


def test_the_head_of_every_tenant_is_logged_at_the_start_and_every_hour(
    service: AuditService, clock: ManualClock, told: Callable[[], list[tuple[str, str, str]]]
) -> None:
    fill(service, 4)
    service.begin(call(tenant=OTHER))
    service.tick(clock.now())
    heads = [("audit head", TENANT, str(everything(service)[-1].anchor))]
    heads += [("audit head", OTHER, str(everything(service, STRANGER)[-1].anchor))]
    assert told() == heads
    service.tick(clock.now() + timedelta(minutes=59))
    assert told() == []
    service.begin(call())
    service.tick(clock.now() + timedelta(minutes=60))
    said = told()
    assert said[0] == ("audit head", TENANT, str(everything(service)[-1].anchor))
    assert service.verify(ADMIN, audit.anchor(said[0][2])).problem == ""


@pytest.mark.parametrize(
    ("statement", "problem"),
    [
        ("DELETE FROM audit WHERE number > 3", "cut: nothing is left, but entry 4 was noted earlier"),
        ("DELETE FROM audit", "cut: nothing is left, but entry 4 was noted earlier"),
        ("UPDATE audit SET who = 'eve' WHERE number = 4", "altered: entry 4"),
        ("UPDATE audit SET who = 'eve' WHERE number = 6", "altered: entry 6"),
    ],
)
def test_the_tick_says_that_what_it_logged_is_there_no_more(
    service: AuditService,
    clock: ManualClock,
    db: Database,
    database_kind: str,
    told: Callable[[], list[tuple[str, str, str]]],
    statement: str,
    problem: str,
) -> None:
    fill(service, 4)
    service.tick(clock.now())
    fill(service, 4)
    told()
    with intruder(db, database_kind) as tx:
        tx.execute(text(statement))
    service.tick(clock.now() + timedelta(hours=1))
    message, tenant, what = told()[0]
    assert (message, tenant) == ("audit log does not hold", TENANT)
    assert what.startswith(problem)


def test_nothing_was_noted_where_there_is_nothing(
    service: AuditService, clock: ManualClock, told: Callable[[], list[tuple[str, str, str]]]
) -> None:
    service.tick(clock.now())
    assert told() == []
    assert (service.verify(ADMIN).entries, service.verify(ADMIN).problem) == (0, "")
    assert service.verify(ADMIN, Anchor(number=1, hash="0" * 64)).problem.startswith("cut")


@pytest.mark.parametrize("noted", [Anchor(number=2, hash="0" * 64), Anchor(number=9, hash="0" * 64)])
def test_whoever_mistypes_an_anchor_is_told_and_alerts_nobody(service: AuditService, noted: Anchor) -> None:
    fill(service, 4)
    assert service.verify(ADMIN, noted).problem
    assert service.figures() == {"hub.audit_broken": 0.0}


def test_a_chain_that_was_found_broken_is_counted_whoever_asked(
    service: AuditService, db: Database, database_kind: str
) -> None:
    fill(service, 4)
    with intruder(db, database_kind) as tx:
        tx.execute(text("UPDATE audit SET who = 'eve' WHERE number = 2"))
    assert service.verify(ADMIN, Anchor(number=3, hash="0" * 64)).problem.startswith("altered")
    assert service.figures() == {"hub.audit_broken": 1.0}
