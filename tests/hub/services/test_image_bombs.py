"""Small files that unfold to a lot: each is refused, or decoded within bounds of memory and time."""

import io
import struct
import subprocess
import sys
import textwrap
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from tests.conftest import REPOSITORY

HEADROOM_BYTES = 320 << 20  # of address space beyond what the interpreter has when it begins
CPU_S = 2.5  # of the process: 25 million pixels take a fraction of it

CHECK = textwrap.dedent("""
    import os, resource, sys
    from pathlib import Path
    from PIL import Image
    from cloud_hub.core.errors import Invalid
    from cloud_hub.services.samples import check_image

    Image.init()
    now = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (now + int(sys.argv[2]),) * 2)
    started = resource.getrusage(resource.RUSAGE_SELF).ru_utime
    try:
        check_image(Path(sys.argv[1]).read_bytes())
        print("taken")
    except Invalid as error:
        print("refused:", error)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_utime - started)
""")


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, *, pixels: bytes = b"", extra: bytes = b"", bits: int = 8) -> bytes:
    """RGBA."""
    head = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, 6, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + extra + png_chunk(b"IDAT", pixels) + png_chunk(b"IEND", b"")


def zeros(size: int) -> bytes:
    """Compressed, without being in memory."""
    made, block = zlib.compressobj(9), bytes(1 << 20)
    parts = [made.compress(block) for _ in range(size >> 20)]
    return b"".join(parts) + made.compress(bytes(size & 0xFFFFF)) + made.flush()


def bmp(width: int, height: int, body: bytes) -> bytes:
    """Run lengths of one byte per pixel."""
    info = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, len(body), 0, 0, 0, 0) + bytes(4 * 256)
    return b"BM" + struct.pack("<IHHI", 14 + len(info) + len(body), 0, 0, 14 + len(info)) + info + body


def jpeg(scans: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (4000, 4000)).save(buffer, "JPEG", progressive=True, quality=1)
    data = buffer.getvalue()
    last = data.rfind(b"\xff\xda")
    return data[:last] + data[last:-2] * scans + data[-2:]


def animation(format: str, frames: int) -> bytes:
    buffer = io.BytesIO()
    first, *others = (Image.new("RGB", (1000, 1000), (number, 0, 0)) for number in range(frames))
    first.save(buffer, format, save_all=True, append_images=others)
    return buffer.getvalue()


MEGABYTE = zeros(1 << 20)
LARGE = zeros(400 << 20)
BOMBS: dict[str, tuple[Callable[[], bytes], str]] = {
    "a PNG of 65535 x 65535": (lambda: png(65535, 65535), "refused: more than 25000000 pixels"),
    "a PNG of 2 to the 62nd": (lambda: png(2**31 - 1, 2**31 - 1), "refused: more than 25000000 pixels"),
    "a PPM of 65535 x 65535": (lambda: b"P6 65535 65535 255\n", "refused: more than 25000000 pixels"),
    "a BMP of 65535 x 65535": (lambda: bmp(65535, 65535, b""), "refused: more than 25000000 pixels"),
    "a PNG as large as may be": (lambda: png(5000, 5000, pixels=zeros(5000 * 20_001)), "taken"),
    "a PNG of 16 bits": (lambda: png(5000, 5000, pixels=zeros(5000 * 40_001), bits=16), "taken"),
    "a PNG with a large profile": (lambda: png(1, 1, extra=png_chunk(b"iCCP", b"k\0\0" + LARGE)), "refused: damaged"),
    "a PNG with a large text": (lambda: png(1, 1, extra=png_chunk(b"zTXt", b"k\0\0" + LARGE)), "refused: damaged"),
    "a PNG with many texts": (
        lambda: png(1, 1, extra=b"".join(png_chunk(b"zTXt", b"k%d\0\0" % i + MEGABYTE) for i in range(500))),
        "refused: damaged",
    ),
    "a BMP that ends its lines early": (lambda: bmp(5000, 5000, b"\x01\x01\0\0" * 6000), "refused: a compressed BMP"),
    "a BMP that jumps": (lambda: bmp(25_000_000, 1, b"\0\x02\xff\xff" * 100), "refused: a compressed BMP"),
    "a JPEG of a thousand scans": (lambda: jpeg(1000), "refused: a JPEG of more than 100 scans"),
    "a GIF of many frames": (lambda: animation("GIF", 12), "refused: not a readable PNG, JPEG, PPM, BMP image"),
    "a WebP of many frames": (lambda: animation("WEBP", 12), "refused: not a readable PNG, JPEG, PPM, BMP image"),
    "a PNG of many frames": (lambda: animation("PNG", 12), "taken"),  # only the first is decoded
    "a TIFF": (lambda: animation("TIFF", 1), "refused: not a readable PNG, JPEG, PPM, BMP image"),
}  # fmt: skip


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_does_not_go_off(name: str, tmp_path: Path) -> None:
    build, expected = BOMBS[name]
    data = build()
    assert len(data) < 4 << 20
    (tmp_path / "image").write_bytes(data)
    out = subprocess.run(
        [sys.executable, "-c", CHECK, tmp_path / "image", str(HEADROOM_BYTES)],
        capture_output=True, text=True, cwd=REPOSITORY, timeout=60,
    )  # fmt: skip
    assert out.returncode == 0, out.stderr[-2000:]
    verdict, seconds = out.stdout.splitlines()
    assert verdict.startswith(expected)
    assert float(seconds) < CPU_S


def test_the_limit_of_these_tests_is_one(tmp_path: Path) -> None:
    """With less memory than a picture needs the decoder does fail: the other tests would notice one that needs more."""
    (tmp_path / "image").write_bytes(png(5000, 5000, pixels=zeros(5000 * 20_001)))
    command = [sys.executable, "-c", CHECK, str(tmp_path / "image"), str(64 << 20)]
    out = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, timeout=60)
    assert "taken" not in out.stdout and "MemoryError" in out.stdout + out.stderr
