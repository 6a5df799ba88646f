"""Deltas that somebody made to do harm: they are refused before anything of the size that they name is made."""

import contextlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import zstandard

from cloud_hub.delta import encode, patch
from edge_agent.core import delta as decoder
from edge_agent.core.delta import MAGIC, ROW, BadDelta, Kind
from protos.contract.sources import Encoding
from tests.hub.delta.parts import noise, pairs

BASE, TARGET = pairs()["more nodes"]
MEMORY = 8 << 20


def run(encoding: Encoding, data: bytes, *, base: bytes = BASE, size: int = len(TARGET), memory: int = MEMORY) -> bytes:
    return b"".join(decoder.decode(encoding, base, data, size, memory))


def table(*rows: tuple[int, int, int, int], text: bytes = b"", residuals: bytes = b"", count: int | None = None) -> bytes:
    packed = zstandard.compress(np.array(list(rows), ROW).tobytes())
    text_frame, residual_frame = zstandard.compress(text), zstandard.compress(residuals)
    head = np.array([len(packed) if count is None else count, len(text_frame)], "<u4").tobytes()
    return MAGIC + head + packed + text_frame + residual_frame


COPY, TEXT, INT = int(Kind.COPY), int(Kind.TEXT), int(Kind.INT)
N = len(TARGET)
CRAFTED = {
    "empty": b"",
    "no magic": b"x" * 100,
    "magic alone": MAGIC,
    "a table beyond the end": table((COPY, 1, 10, 0), count=1 << 31),
    "a table that is no frame": MAGIC + np.array([9, 0], "<u4").tobytes() + b"x" * 60,
    "no rows": table(),
    "rows that make too little": table((COPY, 1, N - 1, 0)),
    "rows that make too much": table((COPY, 1, 0xFFFFFFFF, 0), (COPY, 1, 0xFFFFFFFF, 0)),
    "a row before the base": table((COPY, 1, N, -1)),
    "a row behind the base": table((COPY, 1, N, len(BASE) - N + 1)),
    "a skip that overflows": table((COPY, 1, 1, (1 << 63) - 1), (COPY, 1, N - 1, (1 << 63) - 1)),
    "an unknown kind": table((9, 1, N, 0)),
    "an unknown width": table((INT, 3, N, 0), residuals=bytes(N)),
    "no width": table((INT, 0, N, 0), residuals=bytes(N)),
    "half a number": table((INT, 4, 6, 0), (COPY, 1, N - 6, -6), residuals=bytes(6)),
    "a block too long": table((INT, 1, decoder.BLOCK_BYTES + 1, 0), residuals=bytes(decoder.BLOCK_BYTES + 1)),
    "no residuals": table((INT, 1, N, 0)),
    "no text": table((TEXT, 1, N, 0)),
    "text for another size": table((TEXT, 1, N, 0), text=bytes(N + 1)),
}


@pytest.mark.parametrize("name", CRAFTED)
def test_a_crafted_tensor_delta_is_refused(name: str) -> None:
    with pytest.raises(BadDelta):
        run(Encoding.TENSOR, CRAFTED[name])


def bomb(size: int, *, window_log: int = 27, say: bool = True) -> bytes:
    parameters = zstandard.ZstdCompressionParameters.from_level(1, window_log=window_log, write_content_size=say)
    maker = zstandard.ZstdCompressor(compression_params=parameters).compressobj(size=size if say else -1)
    return b"".join([*(maker.compress(bytes(1 << 20)) for _ in range(size >> 20)), maker.flush()])


@pytest.mark.parametrize("say", [True, False], ids=["its size said", "its size not said"])
def test_a_patch_that_unfolds_is_refused_by_its_header(say: bool) -> None:
    with pytest.raises(BadDelta):
        run(Encoding.ZSTD_PATCH, bomb(256 << 20, say=say))


def test_a_patch_for_the_right_size_that_would_take_too_much_memory_is_refused() -> None:
    data = bomb(64 << 20)
    with pytest.raises(BadDelta, match="bytes of memory, allowed are"):
        run(Encoding.ZSTD_PATCH, data, size=64 << 20)


def test_residuals_with_a_large_window_are_refused() -> None:
    packed = zstandard.compress(np.array([(INT, 1, 1 << 20, 0)] * 40, ROW).tobytes())
    text = zstandard.compress(b"")
    head = np.array([len(packed), len(text)], "<u4").tobytes()
    data = MAGIC + head + packed + text + bomb(40 << 20, window_log=26)
    with pytest.raises(BadDelta, match="window"):
        run(Encoding.TENSOR, data, base=bytes(40 << 20), size=40 << 20, memory=1 << 30)


@pytest.mark.parametrize("encoding", [Encoding.ZSTD_PATCH, Encoding.TENSOR])
def test_a_delta_with_flipped_bits_is_refused_or_gives_as_many_other_bytes(encoding: Encoding) -> None:
    honest = next(delta for delta in encode.candidates(BASE, TARGET) if delta.encoding is encoding)
    rng, refused = np.random.default_rng(11), 0
    for _ in range(600):
        broken = bytearray(honest.data)
        broken[rng.integers(0, len(broken))] ^= 1 << rng.integers(0, 8)
        try:
            made = run(encoding, bytes(broken))
        except BadDelta:
            refused += 1
        else:
            assert len(made) == len(TARGET)
    assert refused


@pytest.mark.parametrize("encoding", [Encoding.ZSTD_PATCH, Encoding.TENSOR])
def test_a_delta_that_is_cut_short_is_refused(encoding: Encoding) -> None:
    honest = next(delta for delta in encode.candidates(BASE, TARGET) if delta.encoding is encoding)
    for length in range(0, len(honest.data) - 1, max(1, len(honest.data) // 97)):
        with pytest.raises(BadDelta):
            run(encoding, honest.data[:length])


def test_a_delta_of_another_base_gives_other_bytes_or_nothing() -> None:
    delta = encode.smallest(BASE, TARGET)
    other = bytes(len(BASE))
    with contextlib.suppress(BadDelta):
        assert run(delta.encoding, delta.data, base=other) != TARGET


@pytest.mark.parametrize("size", [4 << 20, 24 << 20])
def test_decoding_stays_within_the_memory_that_was_announced(size: int, tmp_path: Path) -> None:
    """In a process that the kernel ends above it; a smaller allowance is refused, not tried."""
    base, target = noise(size), noise(size // 2) + b"new" + noise(size)[size // 2 :]
    data = patch.encode(base, target)
    need = decoder.decode_bytes(Encoding.ZSTD_PATCH, base, data) + decoder.OVERHEAD_BYTES
    (tmp_path / "base").write_bytes(base)
    (tmp_path / "delta").write_bytes(data)
    command = [sys.executable, "-m", "edge_agent.update.undelta", *(str(tmp_path / name) for name in ("base", "delta", "out"))]

    def decode(memory: int) -> subprocess.CompletedProcess[bytes]:
        (tmp_path / "out").unlink(missing_ok=True)
        numbers = (int(Encoding.ZSTD_PATCH), len(target), memory, 60)
        return subprocess.run([*command, *map(str, numbers)], capture_output=True, timeout=100)

    assert decode(need).returncode == 0
    assert (tmp_path / "out").read_bytes() == target
    refused = decode(need - 1)
    assert refused.returncode != 0 and b"bytes of memory" in refused.stderr
