"""A write is whole or not there."""

import fcntl
import os
import threading
from pathlib import Path

import pytest

from edge_agent.core import files


def test_a_write_replaces_the_old_content_and_leaves_no_temporary(tmp_path: Path) -> None:
    target = tmp_path / "a"
    files.write_atomic(target, b"old")
    files.write_atomic(target, b"new")
    assert target.read_bytes() == b"new"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert target.stat().st_mode & 0o777 == 0o600


def test_a_failed_write_keeps_the_old_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "a"
    files.write_atomic(target, b"old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        files.write_atomic(target, b"new")
    assert target.read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_threads_that_write_one_path_at_once_leave_what_one_of_them_wrote_and_no_temporary(tmp_path: Path) -> None:
    target, written = tmp_path / "a", [bytes([i]) * (200_000 + i) for i in range(8)]
    failures: list[OSError] = []

    def write(data: bytes) -> None:
        try:
            for _ in range(10):
                files.write_atomic(target, data)
        except OSError as error:
            failures.append(error)

    threads = [threading.Thread(target=write, args=(data,)) for data in written]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        assert not target.exists() or target.read_bytes() in written
    assert not failures
    assert target.read_bytes() in written
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_what_a_killed_writer_left_is_taken_over_by_the_next(tmp_path: Path) -> None:
    (tmp_path / ".a.0.tmp").write_bytes(b"half of something much longer")
    files.write_atomic(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"new"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_sweep_removes_what_killed_writers_left_and_nothing_of_writers_at_work(tmp_path: Path) -> None:
    for name in (".dead.0.tmp", ".busy.0.tmp", "whole"):
        (tmp_path / name).write_bytes(b"half")
    with (tmp_path / ".busy.0.tmp").open("r+b") as busy:
        fcntl.flock(busy, fcntl.LOCK_EX)
        files.sweep(tmp_path)
        assert sorted(path.name for path in tmp_path.iterdir()) == [".busy.0.tmp", "whole"]
        files.write_atomic(tmp_path / "busy", b"beside it")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".busy.0.tmp", "busy", "whole"]


def test_a_folder_is_made_with_all_it_lies_in_and_may_be_there_already(tmp_path: Path) -> None:
    folder = tmp_path / "one" / "two" / "three"
    files.make_folder(folder)
    files.make_folder(folder)
    assert folder.is_dir() and folder.stat().st_mode & 0o777 == 0o700
