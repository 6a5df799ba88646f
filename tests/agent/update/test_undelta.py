"""Decoding in a process of its own: it ends when it is told to, and the kernel holds it to its bounds."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from edge_agent.core.errors import Corrupt, LinkDown
from edge_agent.update import undelta
from edge_agent.update.undelta import Undelta
from protos.contract.ids import digest_of
from protos.contract.manifest import Blob
from protos.contract.sources import BlobSource, Encoding
from tests.agent.update.test_obtain import NEW, OLD, PATCH

SOURCE = BlobSource(
    encoding=Encoding.ZSTD_PATCH, blob=Blob(digest=digest_of(PATCH), size_bytes=len(PATCH)), base=digest_of(OLD), decode_bytes=1
)


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path, Path]:
    (tmp_path / "base").write_bytes(OLD)
    (tmp_path / "delta").write_bytes(PATCH)
    return tmp_path / "base", tmp_path / "delta", tmp_path / "out"


def test_it_writes_what_the_delta_makes(files: tuple[Path, Path, Path]) -> None:
    files[2].write_bytes(b"left by a crash")
    Undelta().run(SOURCE, *files, len(NEW), 64 << 20)
    assert files[2].read_bytes() == NEW


def test_what_it_says_is_told(files: tuple[Path, Path, Path]) -> None:
    with pytest.raises(Corrupt, match="the patch is for 512013 bytes instead of 7"):
        Undelta().run(SOURCE, *files, 7, 64 << 20)
    with pytest.raises(Corrupt, match="No such file"):
        Undelta().run(SOURCE, files[0], files[1].with_name("gone"), files[2], len(NEW), 64 << 20)


def test_it_can_be_called_off(files: tuple[Path, Path, Path], tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)  # opening it waits for a writer that never comes
    it, failed = Undelta(), threading.Event()

    def kill() -> None:
        while not failed.wait(0.02):
            it.kill()

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        with pytest.raises(LinkDown, match="called off"):
            it.run(SOURCE, fifo, files[1], files[2], len(NEW), 64 << 20)
    finally:
        failed.set()
        killer.join(10)


def test_one_that_takes_too_long_is_ended(
    files: tuple[Path, Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    monkeypatch.setattr(undelta, "_LEAST_S", 0.0)
    with pytest.raises(Corrupt, match=r"not decoded in \d+ s"):
        Undelta().run(SOURCE, fifo, files[1], files[2], 50_000, 64 << 20)


@pytest.mark.parametrize(
    ("act", "ends"),
    [
        ("bytearray(200 << 20)", "MemoryError"),
        ("[open(sys.argv[1], 'ab', buffering=0).write(bytes(900)) for _ in range(3)]", "large"),
        ("[open('/proc/self/stat') for _ in range(40)]", "Too many open files"),
    ],
    ids=["memory", "file", "descriptors"],
)
def test_the_kernel_holds_it_to_its_bounds(act: str, ends: str, tmp_path: Path) -> None:
    code = f"import sys\nfrom edge_agent.update import undelta\nundelta._limit(100 << 20, 1000, 20)\nx = {act}\n"
    ended = subprocess.run([sys.executable, "-c", code, str(tmp_path / "out")], capture_output=True, text=True, timeout=60)
    assert ended.returncode != 0
    assert ends in ended.stderr
