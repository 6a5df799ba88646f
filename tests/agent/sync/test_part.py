"""A blob on its way in: what is kept of it is what can be believed."""

from pathlib import Path

import pytest

from edge_agent.core.errors import Corrupt, Endless, LinkDown
from edge_agent.sync.part import receiving
from protos.contract.ids import digest_of
from protos.contract.manifest import MIN_CHUNK_BYTES, Blob, Chunks

CHUNK = MIN_CHUNK_BYTES
CONTENT = bytes(range(256)) * (CHUNK * 7 // 2 // 256)  # three chunks and a half
BLOB = Blob(digest=digest_of(CONTENT), size_bytes=len(CONTENT))
CHUNKS = Chunks.of(CONTENT, CHUNK)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.bin"


def beside(path: Path) -> Path:
    return path.with_name("model.bin.part")


def feed(path: Path, data: bytes, *, step: int = 50_000, chunks: Chunks | None = CHUNKS, start: int | None = None) -> None:
    with receiving(BLOB, path, chunks) as part:
        if start is not None:
            assert part.offset == start
        for at in range(0, len(data), step):
            part.take(data[at : at + step])
        if part.missing:
            raise LinkDown("cut")


@pytest.mark.parametrize("chunks", [CHUNKS, None], ids=["chunks", "whole"])
@pytest.mark.parametrize("step", [1 << 30, CHUNK, 50_000, 4097])
def test_it_is_there_whole_however_it_comes(path: Path, step: int, chunks: Chunks | None) -> None:
    feed(path, CONTENT, step=step, chunks=chunks)
    assert path.read_bytes() == CONTENT
    assert not beside(path).exists()


@pytest.mark.parametrize("at", [1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK + 7, len(CONTENT) - 1])
def test_it_goes_on_where_it_was_cut(path: Path, at: int) -> None:
    with pytest.raises(LinkDown):
        feed(path, CONTENT[:at])
    feed(path, CONTENT[at:], start=at)
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize("wrong", [0, CHUNK, 2 * CHUNK + 100, len(CONTENT) - 1])
def test_a_wrong_byte_costs_its_chunk_and_no_more(path: Path, wrong: int) -> None:
    bad = CONTENT[:wrong] + bytes([CONTENT[wrong] ^ 1]) + CONTENT[wrong + 1 :]
    good = wrong // CHUNK * CHUNK
    with pytest.raises(Corrupt, match=f"chunk {wrong // CHUNK + 1} of 4"):
        feed(path, bad)
    assert (beside(path).read_bytes() if good else b"") == CONTENT[:good]
    feed(path, CONTENT[good:], start=good)
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize("damaged", [5, CHUNK + 5])
def test_what_was_damaged_on_the_disk_is_found_when_it_goes_on(path: Path, damaged: int) -> None:
    with pytest.raises(LinkDown):
        feed(path, CONTENT[: 3 * CHUNK])
    data = bytearray(beside(path).read_bytes())
    data[damaged] ^= 1
    beside(path).write_bytes(data)
    good = damaged // CHUNK * CHUNK
    feed(path, CONTENT[good:], start=good)
    assert path.read_bytes() == CONTENT


def test_without_chunks_a_wrong_byte_costs_everything(path: Path) -> None:
    with pytest.raises(Corrupt):
        feed(path, CONTENT[:-1] + b"!", chunks=None)
    assert not beside(path).exists() and not path.exists()


@pytest.mark.parametrize(("chunks", "kept"), [(CHUNKS, 2 * CHUNK), (None, 0)], ids=["chunks", "whole"])
def test_what_never_ends_is_refused_and_only_what_is_verified_stays(path: Path, chunks: Chunks | None, kept: int) -> None:
    with pytest.raises(Endless), receiving(BLOB, path, chunks) as part:
        part.take(CONTENT[: 2 * CHUNK])
        part.take(CONTENT + b"more")
    assert (beside(path).stat().st_size if beside(path).exists() else 0) == kept


def test_a_longer_file_of_another_blob_is_begun_anew(path: Path) -> None:
    beside(path).write_bytes(CONTENT + b"more")
    feed(path, CONTENT, start=0)
    assert path.read_bytes() == CONTENT


def test_a_whole_part_needs_nothing_more(path: Path) -> None:
    beside(path).write_bytes(CONTENT)
    feed(path, b"", start=len(CONTENT))
    assert path.read_bytes() == CONTENT


def test_nothing_that_came_leaves_nothing(path: Path) -> None:
    with pytest.raises(LinkDown):
        feed(path, b"")
    assert list(path.parent.iterdir()) == []
