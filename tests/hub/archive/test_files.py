"""Files of the archive, in a folder and in an object store."""

import os
from pathlib import Path

import pytest

from cloud_hub.archive import files as module
from cloud_hub.archive.files import Files, LocalFiles, begun_ms, new_name, open_files
from cloud_hub.core.config import TelemetryConfig
from cloud_hub.core.errors import Invalid, NotFound

PATH = "readings/tenant=default/day=2026-03-01/x.parquet"


def test_what_was_put_is_there_until_it_is_deleted(files: Files) -> None:
    files.put(PATH, b"one")
    files.put("readings/y.parquet", b"")
    assert (files.get(PATH), files.get("readings/y.parquet")) == (b"one", b"")
    assert set(files.list("readings")) == {PATH, "readings/y.parquet"}
    assert list(files.list("gaps")) == []
    for _ in range(2):
        files.delete(PATH)
    with pytest.raises(NotFound, match="restore it from a backup"):
        files.get(PATH)
    assert set(files.list("readings")) == {"readings/y.parquet"}


def test_a_file_above_the_bound_is_refused(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_FILE_BYTES", 10)
    with pytest.raises(Invalid, match="file_readings"):
        files.put(PATH, b"x" * 11)
    assert list(files.list("readings")) == []


def test_a_put_that_fails_leaves_nothing_to_read(local_files: LocalFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(OSError, match="No space"):
        local_files.put("readings/x.parquet", b"one")
    monkeypatch.undo()
    assert list(local_files.list("readings")) == []


def test_folders_of_a_new_file_are_made_durable_with_it(local_files: LocalFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[Path] = []
    monkeypatch.setattr(module, "sync_folder", synced.append)
    local_files.put(PATH, b"one")
    root = Path(local_files.root)
    assert {root, root / "readings", root / "readings/tenant=default"} <= set(synced)


def test_a_name_tells_when_its_file_was_begun() -> None:
    name = new_name(1_770_000_000_123)
    assert begun_ms(f"readings/day=x/{name}") == 1_770_000_000_123
    assert begun_ms(f"readings/day=x/.{name}.0.tmp") == 1_770_000_000_123
    assert [begun_ms(other) for other in ("readings/mine.parquet", "readings/zz-1.parquet", "notes.txt", "")] == [None] * 4
    assert len({new_name(1) for _ in range(100)}) == 100


def test_the_configuration_says_where_the_archive_is(tmp_path: Path) -> None:
    assert open_files(TelemetryConfig(), tmp_path).root == f"{tmp_path}/telemetry/"
    assert open_files(TelemetryConfig(archive_url=f"file://{tmp_path}/a"), tmp_path).root == f"{tmp_path}/a/"
    remote = open_files(TelemetryConfig(archive_url="s3://bucket/some/prefix/", storage_options={"key": "k"}), tmp_path)
    assert remote.root == "s3://bucket/some/prefix/"
    with pytest.raises(Invalid, match="archive_url"):
        open_files(TelemetryConfig(archive_url="nonsense://x"), tmp_path)
