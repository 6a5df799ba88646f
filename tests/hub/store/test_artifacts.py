import os
import threading
from pathlib import Path

import pytest

from cloud_hub.core.errors import BadArtifact, Invalid, NotFound
from cloud_hub.store.artifacts import ArtifactStore
from protos.contract import ids
from protos.contract.errors import InvalidId
from protos.contract.ids import Digest

UNKNOWN = ids.digest_of(b"nobody put this")


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path / "blobs")


def _file(tmp_path: Path, digest: Digest) -> Path:
    name = digest.removeprefix("sha256:")
    return tmp_path / "blobs" / "sha256" / name[:2] / name


def test_what_is_put_is_read_by_its_digest(store: ArtifactStore) -> None:
    digest = store.put(b"weights")
    assert digest == ids.digest_of(b"weights")
    assert (store.read(digest), store.size(digest)) == (b"weights", 7)


def test_putting_the_same_bytes_again_changes_nothing(store: ArtifactStore, tmp_path: Path) -> None:
    digest = store.put(b"weights")
    before = _file(tmp_path, digest).stat().st_ino
    assert store.put(b"weights") == digest
    assert _file(tmp_path, digest).stat().st_ino == before


def test_a_file_that_a_crash_left_short_is_written_again(store: ArtifactStore, tmp_path: Path) -> None:
    digest = store.put(b"weights")
    _file(tmp_path, digest).write_bytes(b"wei")
    assert store.read(store.put(b"weights")) == b"weights"


def test_bytes_that_changed_on_disk_are_not_handed_out(store: ArtifactStore, tmp_path: Path) -> None:
    digest = store.put(b"weights")
    _file(tmp_path, digest).write_bytes(b"weightz")
    with pytest.raises(BadArtifact, match=digest):
        store.read(digest)


@pytest.mark.parametrize(("offset", "left"), [(0, b"abcdefgh"), (3, b"defgh"), (8, b"")])
def test_a_download_goes_on_from_any_offset(store: ArtifactStore, offset: int, left: bytes) -> None:
    chunks = list(store.chunks(store.put(b"abcdefgh"), offset, lambda: 3))
    assert b"".join(chunks) == left
    assert all(len(chunk) <= 3 for chunk in chunks)


@pytest.mark.parametrize("offset", [-1, 9])
def test_an_offset_outside_the_blob_is_refused_before_the_first_chunk(store: ArtifactStore, offset: int) -> None:
    digest = store.put(b"abcdefgh")
    with pytest.raises(Invalid, match="0..8"):
        store.chunks(digest, offset)


def test_an_unknown_blob_is_not_found(store: ArtifactStore) -> None:
    for act in (store.read, store.size, store.chunks):
        with pytest.raises(NotFound):
            act(UNKNOWN)


def test_a_digest_that_is_a_path_is_refused(store: ArtifactStore) -> None:
    with pytest.raises(InvalidId):
        store.read(Digest("sha256:../../etc/passwd"))


def test_an_interrupted_put_leaves_nothing_behind(
    store: ArtifactStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        store.put(b"weights")
    assert not [path for path in (tmp_path / "blobs").rglob("*") if path.is_file()]


def test_threads_that_put_the_same_blob_at_once_all_succeed(store: ArtifactStore) -> None:
    data = os.urandom(1 << 20)
    digests: list[Digest] = []
    threads = [threading.Thread(target=lambda: digests.append(store.put(data))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert digests == [ids.digest_of(data)] * 8
    assert store.read(digests[0]) == data


def test_what_a_killed_writer_left_is_gone_after_the_next_start(store: ArtifactStore, tmp_path: Path) -> None:
    digest = store.put(b"weights")
    left = _file(tmp_path, digest).with_name(".left.0.tmp")
    left.write_bytes(b"half")
    assert ArtifactStore(tmp_path / "blobs").read(digest) == b"weights"
    assert not left.exists()
