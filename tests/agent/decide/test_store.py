"""Captures wait on disk, whole or not at all, until the hub has them."""

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Thread

import pytest

from edge_agent.core.model import Capture
from edge_agent.core.ports import Captures
from edge_agent.decide import store
from edge_agent.decide.store import CaptureFolder
from protos.contract.ids import digest_of
from protos.contract.inputs import SampleKind
from tests.agent.fakes import FakeCaptures

BUDGET = 100_000
Maker = Callable[[int], Captures]


def capture(number: int, size: int = 1000) -> Capture:
    png = number.to_bytes(4, "big") * (size // 4)
    return Capture(
        digest=digest_of(png),
        content=png,
        kind=SampleKind.IMAGE,
        captured_at=datetime(2025, 1, 1, tzinfo=UTC) + timedelta(seconds=number, microseconds=123),
        source="yard",
        name=f"yard/{number}.png",
        reason="uncertain",
        model=digest_of(b"manifest"),
        predicted="person",
        confidence=0.123456789,
    )


@pytest.fixture(params=["folder", "fake"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Maker:
    return FakeCaptures if request.param == "fake" else lambda max_bytes: CaptureFolder(tmp_path / "captures", max_bytes)


# -- the port's suite ---------------------------------------------------------------------------------------------------


def test_what_is_added_is_pending_oldest_first_until_it_is_removed(make: Maker) -> None:
    captures = make(BUDGET)
    for number in (5, 2, 9):
        assert captures.add(capture(number))
    assert captures.count() == 3
    assert list(captures.pending(2)) == [capture(2), capture(5)]
    captures.remove(capture(2).digest)
    captures.remove(capture(2).digest)
    assert list(captures.pending(10)) == [capture(5), capture(9)]
    assert captures.count() == 2


def test_the_same_picture_is_kept_once(make: Maker) -> None:
    captures = make(BUDGET)
    assert captures.add(capture(1))
    assert captures.add(capture(1))
    assert captures.count() == len(captures.pending(10)) == 1


def test_the_budget_holds_and_room_comes_back(make: Maker) -> None:
    captures = make(5000)
    kept = [number for number in range(10) if captures.add(capture(number))]
    assert 3 <= len(kept) <= 5
    assert not captures.add(capture(100))
    captures.remove(capture(kept[0]).digest)
    assert captures.add(capture(100))


# -- the folder ---------------------------------------------------------------------------------------------------------


def test_captures_survive_a_restart_with_their_budget(tmp_path: Path) -> None:
    before = CaptureFolder(tmp_path, 5000)
    kept = [number for number in range(10) if before.add(capture(number))]
    after = CaptureFolder(tmp_path, 5000)
    assert list(after.pending(10)) == [capture(number) for number in kept]
    assert not after.add(capture(100))
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 5000


def test_what_a_crash_left_half_written_is_cleaned_and_nothing_else_is(tmp_path: Path) -> None:
    CaptureFolder(tmp_path, BUDGET).add(capture(1))
    (tmp_path / "00000000000002-abc.png").write_bytes(b"no sidecar")
    (tmp_path / "00000000000003-abc.json").write_bytes(b"no picture")
    (tmp_path / ".00000000000004-abc.png.77.tmp").write_bytes(b"half")
    (tmp_path / "README").write_text("somebody's")
    captures = CaptureFolder(tmp_path, BUDGET)
    assert list(captures.pending(10)) == [capture(1)]
    assert len(list(tmp_path.iterdir())) == 3
    assert (tmp_path / "README").exists()


@pytest.mark.parametrize("suffix", ["png", "json"])
def test_a_damaged_capture_is_dropped_and_the_others_are_not(suffix: str, tmp_path: Path) -> None:
    captures = CaptureFolder(tmp_path, BUDGET)
    captures.add(capture(1))
    captures.add(capture(2))
    next(path for path in sorted(tmp_path.glob(f"*.{suffix}"))).write_bytes(b'{"source": 1')
    assert list(captures.pending(10)) == [capture(2)]
    assert captures.count() == 1
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("fails_at", [1, 2])
def test_a_full_disk_keeps_nothing_raises_nothing_and_leaves_nothing(
    fails_at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    captures = CaptureFolder(tmp_path, BUDGET)
    write, writes = store.write_atomic, []

    def full(path: Path, data: bytes) -> None:
        writes.append(path)
        if len(writes) == fails_at:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(path, data)

    monkeypatch.setattr(store, "write_atomic", full)
    assert not captures.add(capture(1))
    assert captures.count() == 0
    assert list(tmp_path.iterdir()) == []
    assert captures.add(capture(1))  # room again


def test_a_kill_at_any_moment_leaves_only_whole_captures(tmp_path: Path) -> None:
    """A writer that is killed in the middle of its work, again and again."""
    code = f"""
import sys
from pathlib import Path
from edge_agent.decide.store import CaptureFolder
from tests.agent.decide.test_store import capture
captures = CaptureFolder(Path({str(tmp_path)!r}), 1 << 30)
print("ready", flush=True)
number = int(sys.argv[1])
while True:
    number += 1
    captures.add(capture(number, 20000))
    print(number, flush=True)
    if number % 3 == 0:
        captures.remove(capture(number - 1, 20000).digest)
"""
    for round in range(4):
        writer = subprocess.Popen([sys.executable, "-c", code, str(round * 10_000)], stdout=subprocess.PIPE, text=True)
        assert writer.stdout is not None
        for _ in range(8 + 3 * round):
            added = writer.stdout.readline().strip()
        writer.kill()
        writer.wait()
        writer.stdout.close()
        captures = CaptureFolder(tmp_path, 1 << 30)
        pending = captures.pending(10_000)
        assert len(pending) == captures.count()  # none was damaged
        kept = {one.digest for one in pending}
        assert int(added) % 3 == 2 or capture(int(added), 20000).digest in kept
        assert len(list(tmp_path.iterdir())) == 2 * len(pending)


def test_adding_and_removing_from_two_threads_loses_nothing(tmp_path: Path) -> None:
    captures = CaptureFolder(tmp_path, 1 << 30)
    seen: set[str] = set()

    def drain() -> None:
        while len(seen) < 60:
            for one in captures.pending(8):
                seen.add(one.name)
                captures.remove(one.digest)

    reader = Thread(target=drain, daemon=True)
    reader.start()
    for number in range(60):
        assert captures.add(capture(number))
    reader.join(60)
    assert len(seen) == 60
    assert captures.count() == 0
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_picture_comes_back_with_its_kind(make: Maker) -> None:
    captures = make(BUDGET)
    kept = [replace(capture(i), kind=kind) for i, kind in enumerate(SampleKind)]
    assert all(map(captures.add, kept))
    assert list(captures.pending(10)) == kept


def test_kinds_survive_a_restart_and_what_was_half_written_does_not(tmp_path: Path) -> None:
    folder = CaptureFolder(tmp_path, BUDGET)
    row = replace(capture(1), kind=SampleKind.ROW)
    folder.add(row)
    (tmp_path / "00000000000009-aa.sample").write_bytes(b"alone")
    again = CaptureFolder(tmp_path, BUDGET)
    assert list(again.pending(9)) == [row]
    assert sorted(file.suffix for file in tmp_path.iterdir()) == [".json", ".sample"]
    again.remove(row.digest)
    assert list(tmp_path.iterdir()) == []


def test_a_capture_of_an_older_agent_is_a_picture(tmp_path: Path) -> None:
    CaptureFolder(tmp_path, BUDGET).add(capture(1))
    (sidecar,) = tmp_path.glob("*.json")
    told = json.loads(sidecar.read_bytes())
    del told["kind"]
    sidecar.write_text(json.dumps(told))
    assert list(CaptureFolder(tmp_path, BUDGET).pending(9)) == [capture(1)]
