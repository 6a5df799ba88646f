"""Who gets the next datasheet: none of the tenants takes it from the others."""

import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace

import pytest

from cloud_hub.core.errors import Unavailable
from cloud_hub.core.model import Principal
from cloud_hub.services.datasheets import AT_ONCE, WAITING, DatasheetService
from protos.contract import ids
from tests.hub.fleet_parts import ADMIN

LONG_S = 20.0
A, B, C = (replace(ADMIN, tenant=ids.tenant_id(name)) for name in ("aa", "bb", "cc"))


class Versions:
    """Every tenant has every data set, and what it holds is the tenant's name."""

    def manifest(self, who: Principal, dataset: str, number: int) -> bytes:
        return who.tenant.encode()


class Desk:
    """Every datasheet takes until it is told to end; the order in which they were begun is kept."""

    def __init__(self) -> None:
        self.sheets = DatasheetService(Versions(), self._make, wait_s=LONG_S)
        self.begun: list[str] = []
        self._heard = threading.Condition()
        self._may_end: set[str] = set()
        self._pool = ThreadPoolExecutor(8)

    def _make(self, manifest: bytes, *, json: bool) -> bytes:
        tenant = manifest.decode()
        with self._heard:
            self.begun.append(tenant)
            mine = f"{tenant} {self.begun.count(tenant)}"
            self._heard.notify_all()
            assert self._heard.wait_for(lambda: mine in self._may_end, LONG_S)
        return mine.encode()

    def ask(self, who: Principal) -> "Future[bytes]":
        return self._pool.submit(self.sheets.make, who, "numbers")

    def wait(self, *begun: str) -> None:
        with self._heard:
            assert self._heard.wait_for(lambda: self.begun == [*begun], LONG_S), self.begun

    def waits(self, count: int) -> None:
        turns = self.sheets._turns
        with turns._changed:
            assert turns._changed.wait_for(lambda: len(turns._waiting) == count, LONG_S)

    def end(self, which: str) -> None:
        with self._heard:
            self._may_end.add(which)
            self._heard.notify_all()

    def close(self) -> None:
        for tenant in ("aa", "bb", "cc"):
            for number in range(1, 9):
                self.end(f"{tenant} {number}")
        self._pool.shutdown()


@pytest.fixture
def desk() -> Iterator[Desk]:
    made = Desk()
    yield made
    made.close()


def test_one_of_a_tenant_is_made_one_waits_and_further_ones_are_refused_at_once(desk: Desk) -> None:
    asked = [desk.ask(A) for _ in range(1 + WAITING)]
    desk.waits(WAITING)
    with pytest.raises(Unavailable, match="for tenant aa: try again"):
        desk.sheets.make(A, "numbers")
    other = desk.ask(B)
    desk.wait("aa", "bb")  # beside the one of A, before the one that waits
    desk.end("bb 1")
    assert other.result(LONG_S) == b"bb 1"
    assert desk.begun == ["aa", "bb"]
    desk.end("aa 1")
    desk.end("aa 2")
    assert {each.result(LONG_S) for each in asked} == {b"aa 1", b"aa 2"}


def test_who_had_no_turn_for_longest_is_next(desk: Desk) -> None:
    assert AT_ONCE == 2
    desk.ask(A)
    desk.wait("aa")
    desk.ask(B)
    desk.wait("aa", "bb")
    desk.ask(A)
    desk.waits(1)
    desk.ask(C)  # it comes after A's next one
    desk.waits(2)
    desk.end("aa 1")
    desk.wait("aa", "bb", "cc")
    desk.end("bb 1")
    desk.wait("aa", "bb", "cc", "aa")


def test_whoever_waits_too_long_is_told_and_leaves_the_line(desk: Desk) -> None:
    desk.sheets._turns._wait_s = 0.01
    desk.ask(A)
    desk.wait("aa")
    for _ in range(3):
        with pytest.raises(Unavailable, match="being made: try again"):
            desk.sheets.make(A, "numbers")
    desk.waits(0)
