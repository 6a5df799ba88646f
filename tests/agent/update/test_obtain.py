"""One blob by the way that costs least, whatever becomes of the others."""

import subprocess
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import zstandard

from edge_agent.core.errors import AgentError, Corrupt, DiskFull, Endless, LinkDown, Refused, TooSlow
from edge_agent.update.obtain import Obtainer
from protos.contract.ids import Digest, digest_of
from protos.contract.manifest import MIN_CHUNK_BYTES, Blob, Chunks
from protos.contract.sources import BlobSource, Encoding

OLD = bytes(range(256)) * 2000  # 512,000 bytes
NEW = OLD[:100_000] + b"something new" + OLD[100_000:]
BLOB = Blob(digest=digest_of(NEW), size_bytes=len(NEW))
CHUNKS = Chunks.of(NEW, MIN_CHUNK_BYTES)
WEB = "https://blobs.example/one"


def patch(base: bytes, target: bytes) -> bytes:
    parameters = zstandard.ZstdCompressionParameters.from_level(3, window_log=20, write_content_size=True)
    dictionary = zstandard.ZstdCompressionDict(base, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
    return zstandard.ZstdCompressor(compression_params=parameters, dict_data=dictionary).compress(target)


PATCH = patch(OLD, NEW)


@dataclass
class FakeHub:
    """Keeps the promises of ``ports.Hub`` for blobs; ``faults`` are raised in turn, by what is downloaded and from where."""

    blobs: dict[Digest, bytes] = field(default_factory=dict)
    sources: list[BlobSource] = field(default_factory=list)
    faults: dict[tuple[Digest, str], deque[tuple[AgentError, bytes]]] = field(default_factory=dict)  # with what came before
    downloaded: list[tuple[Digest, str]] = field(default_factory=list)  # (digest, URL), tries that failed too
    asked: list[tuple[Digest, tuple[Digest, ...], int]] = field(default_factory=list)
    no_locate: AgentError | None = None

    def locate(self, digest: Digest, have: Sequence[Digest], max_decode_bytes: int) -> Sequence[BlobSource]:
        self.asked.append((digest, tuple(have), max_decode_bytes))
        if self.no_locate is not None:
            raise self.no_locate
        return self.sources

    def download(self, blob: Blob, path: Path, *, chunks: Chunks | None = None, url: str = "") -> None:
        self.downloaded.append((blob.digest, url))
        part = path.with_name(path.name + ".part")
        faults = self.faults.get((blob.digest, url))
        if faults:
            error, came = faults.popleft()
            if came:
                part.write_bytes((part.read_bytes() if part.exists() else b"") + came)
            raise error
        if blob.digest not in self.blobs:
            raise Refused(f"no blob {blob.digest}")
        part.unlink(missing_ok=True)
        path.write_bytes(self.blobs[blob.digest])


def add(
    hub: FakeHub, data: bytes, *, url: str = "", encoding: Encoding = Encoding.ZSTD_PATCH, memory: int = 10 << 20
) -> Digest:
    """Offer a delta from OLD."""
    blob = Blob(digest=digest_of(data), size_bytes=len(data))
    hub.blobs[blob.digest] = data
    hub.sources.append(BlobSource(encoding=encoding, blob=blob, base=digest_of(OLD), decode_bytes=memory, url=url))
    return blob.digest


def on_web(hub: FakeHub) -> None:
    hub.sources.append(BlobSource(encoding=Encoding.WHOLE, blob=BLOB, url=WEB))


def fail(hub: FakeHub, digest: Digest, url: str, *errors: AgentError, came: bytes = b"") -> None:
    hub.faults[(digest, url)] = deque((error, came) for error in errors)


@pytest.fixture
def hub() -> FakeHub:
    return FakeHub(blobs={BLOB.digest: NEW})


@pytest.fixture
def base(tmp_path: Path) -> Path:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "model.bin").write_bytes(OLD)
    return tmp_path / "a" / "model.bin"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "b").mkdir()
    return tmp_path / "b" / "model.bin"


class Room:
    free = 1 << 30


def obtainer(*, memory: int = 64 << 20, room: Room | None = None) -> Obtainer:
    there = room or Room()
    return Obtainer(free_bytes=lambda _: there.free, reserve_bytes=1000, delta_memory_bytes=memory)


def whole(path: Path) -> bool:
    """It is there, and nothing beside it."""
    return path.read_bytes() == NEW and [each.name for each in path.parent.iterdir()] == [path.name]


def test_what_is_in_its_place_is_not_asked_for(hub: FakeHub, path: Path) -> None:
    path.write_bytes(NEW)
    obtainer().obtain(hub, BLOB, path)
    assert (hub.asked, hub.downloaded) == ([], [])


def test_what_is_on_the_device_is_copied(hub: FakeHub, base: Path, path: Path) -> None:
    base.write_bytes(NEW)
    obtainer().obtain(hub, BLOB, path, bases=[base])
    assert whole(path) and (hub.asked, hub.downloaded) == ([], [])
    assert base.read_bytes() == NEW and base.stat().st_ino != path.stat().st_ino


def test_a_delta_comes_before_the_whole(hub: FakeHub, base: Path, path: Path) -> None:
    on_web(hub)
    delta = add(hub, PATCH)
    obtainer().obtain(hub, BLOB, path, chunks=CHUNKS, bases=[base, base.with_name("not there")])
    assert whole(path)
    assert hub.asked == [(BLOB.digest, (digest_of(OLD),), 64 << 20)]
    assert hub.downloaded == [(delta, "")]


def test_the_web_comes_before_the_hub_for_deltas_and_for_the_whole(hub: FakeHub, base: Path, path: Path) -> None:
    delta = add(hub, PATCH, url="https://blobs.example/delta?signed=1")
    add(hub, PATCH)
    on_web(hub)
    fail(hub, delta, "https://blobs.example/delta?signed=1", Refused("gone"))
    fail(hub, delta, "", Refused("gone"))
    fail(hub, BLOB.digest, WEB, Refused("gone"))
    obtainer().obtain(hub, BLOB, path, chunks=CHUNKS, bases=[base])
    assert whole(path)
    assert hub.downloaded == [
        (delta, "https://blobs.example/delta?signed=1"),
        (delta, ""),
        (BLOB.digest, WEB),
        (BLOB.digest, ""),
    ]


@pytest.mark.parametrize("error", [Refused("old hub"), LinkDown("busy")])
def test_a_hub_that_knows_no_sources_sends_the_whole(hub: FakeHub, base: Path, path: Path, error: AgentError) -> None:
    hub.no_locate = error
    obtainer().obtain(hub, BLOB, path, bases=[base])
    assert whole(path) and hub.downloaded == [(BLOB.digest, "")]


def test_a_small_blob_is_fetched_without_asking(hub: FakeHub, base: Path, path: Path) -> None:
    small = b"small" * 1000
    hub.blobs[digest_of(small)] = small
    obtainer().obtain(hub, Blob(digest=digest_of(small), size_bytes=len(small)), path, bases=[base])
    assert path.read_bytes() == small and hub.asked == []


def test_one_that_waits_for_another_to_be_decoded_can_be_called_off(hub: FakeHub, path: Path, base: Path) -> None:
    add(hub, PATCH)
    decoding, raised = threading.Lock(), list[str]()
    it = Obtainer(free_bytes=lambda _: 1 << 30, reserve_bytes=0, delta_memory_bytes=64 << 20, decoding=decoding)

    def obtain() -> None:
        try:
            it.obtain(hub, BLOB, path, bases=[base])
        except LinkDown as error:
            raised.append(str(error))

    with decoding:
        thread = threading.Thread(target=obtain)
        thread.start()
        while thread.is_alive() and not path.with_name("model.bin.delta").exists():
            thread.join(0.01)
        it.cut()
        thread.join(10)
        ended = not thread.is_alive()
    thread.join(10)
    assert ended and raised == ["decoding was called off"] and path.with_name("model.bin.delta").exists()
    it.begin()
    it.obtain(hub, BLOB, path, bases=[base])
    assert whole(path)


def test_decoding_is_called_off_while_its_process_is_being_made(
    hub: FakeHub, path: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(hub, PATCH)
    it, begin = obtainer(), subprocess.Popen

    def popen(*arguments: Any, **named: Any) -> Any:
        it.cut()  # there is nothing yet that it could end
        return begin(*arguments, **named)

    monkeypatch.setattr("edge_agent.update.undelta.subprocess.Popen", popen)
    with pytest.raises(LinkDown, match="called off"):
        it.obtain(hub, BLOB, path, bases=[base])


GARBAGE = {
    "no zstd": b"garbage" * 100,
    "cut short": PATCH[:-9],
    "of another base": patch(OLD[::-1], NEW[::-1])[:-1],
    "to another target": patch(OLD, NEW[:-1] + b"!"),
    "to a longer target": patch(OLD, NEW + b"!"),
    "a tensor delta that is none": b"TLDT\x01" + b"\xff" * 50,
}


@pytest.mark.parametrize("name", GARBAGE)
def test_a_delta_that_is_no_good_costs_itself_and_the_whole_comes(hub: FakeHub, base: Path, path: Path, name: str) -> None:
    encoding = Encoding.TENSOR if "tensor" in name else Encoding.ZSTD_PATCH
    bad = add(hub, GARBAGE[name], encoding=encoding)
    by = obtainer()
    by.obtain(hub, BLOB, path, chunks=CHUNKS, bases=[base])
    assert whole(path) and hub.downloaded == [(bad, ""), (BLOB.digest, "")]
    path.unlink()
    by.obtain(hub, BLOB, path, chunks=CHUNKS, bases=[base])
    assert whole(path) and hub.downloaded[2:] == [(BLOB.digest, "")]  # it is not fetched a second time


def test_another_delta_is_tried_where_one_is_no_good(hub: FakeHub, base: Path, path: Path) -> None:
    bad, good = add(hub, b"garbage" * 100), add(hub, PATCH)
    obtainer().obtain(hub, BLOB, path, bases=[base])
    assert whole(path) and hub.downloaded == [(bad, ""), (good, "")]


@pytest.mark.parametrize(("offered", "memory"), [(65 << 20, 64 << 20), (10 << 20, 0), (9 << 20, 8 << 20)])
def test_a_delta_that_takes_more_memory_than_there_is_to_lend_is_not_fetched(
    hub: FakeHub, base: Path, path: Path, offered: int, memory: int
) -> None:
    add(hub, PATCH, memory=offered)
    obtainer(memory=memory).obtain(hub, BLOB, path, bases=[base])
    assert whole(path) and hub.downloaded == [(BLOB.digest, "")]


def test_a_delta_that_takes_more_memory_than_it_was_said_to_is_refused_by_the_decoder(
    hub: FakeHub, base: Path, path: Path
) -> None:
    delta = add(hub, PATCH, memory=1)
    obtainer(memory=(8 << 20) + 1000).obtain(hub, BLOB, path, bases=[base])
    assert whole(path) and hub.downloaded == [(delta, ""), (BLOB.digest, "")]


def test_without_room_for_both_a_delta_is_not_fetched(hub: FakeHub, base: Path, path: Path) -> None:
    add(hub, PATCH)
    room = Room()
    room.free = len(NEW) + len(PATCH) + 999
    obtainer(room=room).obtain(hub, BLOB, path, bases=[base])
    assert hub.downloaded == [(BLOB.digest, "")]


def test_where_most_of_the_whole_is_here_the_rest_is_fetched(hub: FakeHub, base: Path, path: Path) -> None:
    add(hub, PATCH)
    path.with_name("model.bin.part").write_bytes(NEW[:-10])
    obtainer().obtain(hub, BLOB, path, bases=[base])
    assert whole(path) and hub.downloaded == [(BLOB.digest, "")]


@pytest.mark.parametrize("error", [LinkDown("cut"), TooSlow("cut")])
def test_a_link_that_breaks_within_a_delta_goes_on_with_it_later(
    hub: FakeHub, base: Path, path: Path, error: AgentError
) -> None:
    delta, by = add(hub, PATCH), obtainer()
    fail(hub, delta, "", *[error] * 4, came=b"x")
    for _ in range(4):
        with pytest.raises(type(error)):
            by.obtain(hub, BLOB, path, bases=[base])
    by.obtain(hub, BLOB, path, bases=[base])
    assert whole(path) and {digest for digest, _ in hub.downloaded} == {delta}


def test_a_delta_that_never_gets_on_gives_way_to_the_whole(hub: FakeHub, base: Path, path: Path) -> None:
    delta, by = add(hub, PATCH), obtainer()
    fail(hub, delta, "", *[LinkDown("cut")] * 9)
    with pytest.raises(LinkDown):
        by.obtain(hub, BLOB, path, bases=[base])
    by.obtain(hub, BLOB, path, bases=[base])
    assert whole(path) and hub.downloaded == [(delta, ""), (delta, ""), (BLOB.digest, "")]


def test_what_one_way_left_half_way_is_gone_once_another_has_brought_it(hub: FakeHub, base: Path, path: Path) -> None:
    delta, by = add(hub, PATCH), obtainer()
    on_web(hub)
    fail(hub, delta, "", LinkDown("cut"), Refused("gone"), came=b"x")
    fail(hub, BLOB.digest, WEB, LinkDown("cut"), Refused("gone"), came=b"x")
    for _ in range(2):
        with pytest.raises(LinkDown):
            by.obtain(hub, BLOB, path, bases=[base])
    assert len(list(path.parent.iterdir())) == 2
    by.obtain(hub, BLOB, path, bases=[base])
    assert whole(path)


@pytest.mark.parametrize("error", [LinkDown("away"), Refused("403"), Corrupt("other"), Endless("more")])
def test_a_web_that_gives_nothing_gives_way_to_the_hub_at_once(hub: FakeHub, path: Path, error: AgentError) -> None:
    on_web(hub)
    fail(hub, BLOB.digest, WEB, error)
    obtainer().obtain(hub, BLOB, path, chunks=CHUNKS)
    assert whole(path) and hub.downloaded == [(BLOB.digest, WEB), (BLOB.digest, "")]


def test_a_web_that_breaks_off_goes_on_later(hub: FakeHub, path: Path) -> None:
    on_web(hub)
    by = obtainer()
    fail(hub, BLOB.digest, WEB, LinkDown("cut"), came=NEW[:1000])
    with pytest.raises(LinkDown):
        by.obtain(hub, BLOB, path, chunks=CHUNKS)
    by.obtain(hub, BLOB, path, chunks=CHUNKS)
    assert whole(path) and hub.downloaded == [(BLOB.digest, WEB)] * 2


def test_what_came_from_the_web_and_cannot_be_verified_is_not_mixed_with_the_hubs(hub: FakeHub, path: Path) -> None:
    on_web(hub)
    by = obtainer()
    fail(hub, BLOB.digest, WEB, LinkDown("cut"), Refused("gone"), came=b"lies")
    with pytest.raises(LinkDown):
        by.obtain(hub, BLOB, path)
    by.obtain(hub, BLOB, path)
    assert path.read_bytes() == NEW
    assert hub.downloaded[-1] == (BLOB.digest, "")
    assert not path.with_name("model.bin.part").exists()


def test_what_the_hub_has_begun_is_not_begun_again_by_a_web_that_comes_later(hub: FakeHub, path: Path) -> None:
    by = obtainer()
    fail(hub, BLOB.digest, "", LinkDown("cut"), LinkDown("away"), LinkDown("away"), came=b"")
    hub.faults[(BLOB.digest, "")][0] = (LinkDown("cut"), NEW[:400_000])
    with pytest.raises(LinkDown, match="cut"):
        by.obtain(hub, BLOB, path)
    on_web(hub)  # a copy has been made meanwhile
    with pytest.raises(LinkDown, match="away"):
        by.obtain(hub, BLOB, path)
    by.obtain(hub, BLOB, path)  # twice without a byte: then the web
    assert whole(path)
    assert [url for _, url in hub.downloaded] == ["", "", "", WEB]


def test_what_a_web_left_half_way_makes_room_for_the_hubs(hub: FakeHub, path: Path) -> None:
    room = Room()
    by = obtainer(room=room)
    on_web(hub)
    fail(hub, BLOB.digest, WEB, LinkDown("cut"), LinkDown("away"), Refused("gone"), came=b"")
    hub.faults[(BLOB.digest, WEB)][0] = (LinkDown("cut"), NEW[:400_000])
    left = path.with_name("model.bin.web.part")
    with pytest.raises(LinkDown):
        by.obtain(hub, BLOB, path)
    fail(hub, BLOB.digest, "", LinkDown("cut"))
    with pytest.raises(LinkDown):
        by.obtain(hub, BLOB, path)
    assert left.exists(), "there is room for both"
    room.free = len(NEW) - 400_000 + 1000  # the whole less what is here, and the reserve
    fail(hub, BLOB.digest, "", LinkDown("cut"))
    with pytest.raises(LinkDown):
        by.obtain(hub, BLOB, path)
    assert not left.exists()


def test_bad_chunks_are_fetched_again_a_few_times(hub: FakeHub, path: Path) -> None:
    fail(hub, BLOB.digest, "", Corrupt("chunk 1"), Corrupt("chunk 2"))
    obtainer().obtain(hub, BLOB, path, chunks=CHUNKS)
    assert whole(path)
    path.unlink()
    fail(hub, BLOB.digest, "", *[Corrupt("chunk 3")] * 3)
    with pytest.raises(Corrupt):
        obtainer().obtain(hub, BLOB, path, chunks=CHUNKS)
    fail(hub, BLOB.digest, "", Corrupt("other bytes"))
    with pytest.raises(Corrupt):  # without chunks all of it would come again: that is for the engine to count
        obtainer().obtain(hub, BLOB, path)


def test_other_bytes_never_get_into_its_place(hub: FakeHub, path: Path) -> None:
    hub.blobs[BLOB.digest] = NEW[:-1] + b"!"
    with pytest.raises(Corrupt):
        obtainer().obtain(hub, BLOB, path, chunks=CHUNKS)
    assert not path.exists()


def test_a_full_disk_is_said_so(hub: FakeHub, base: Path, path: Path) -> None:
    fail(hub, BLOB.digest, "", DiskFull("no room"))
    with pytest.raises(DiskFull):
        obtainer().obtain(hub, BLOB, path, bases=[base])
