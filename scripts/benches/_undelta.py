"""Decode one delta and say what it took: ``TOOL FOLDER SIZE``; FOLDER has ``old`` and ``delta``, and is given ``new``."""

import importlib.util
import io
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edge_agent.core import delta as ours
from edge_agent.update import undelta
from protos.contract.sources import Encoding

_ENCODINGS = {"zstd patch": Encoding.ZSTD_PATCH, "tensor": Encoding.TENSOR}


def _bsdiff(base: bytes, target: bytes) -> bytes:
    import bsdiff4

    return bytes(bsdiff4.diff(base, target))


def _unbsdiff(base: bytes, delta: bytes) -> bytes:
    import bsdiff4

    return bytes(bsdiff4.patch(base, delta))


def _detools(base: bytes, target: bytes) -> bytes:
    import detools

    made = io.BytesIO()
    detools.create_patch(io.BytesIO(base), io.BytesIO(target), made, compression="lzma")
    return made.getvalue()


def _undetools(base: bytes, delta: bytes) -> bytes:
    import detools

    made = io.BytesIO()
    detools.apply_patch(io.BytesIO(base), io.BytesIO(delta), made)
    return made.getvalue()


TOOLS: dict[str, tuple[Callable[[bytes, bytes], bytes], Callable[[bytes, bytes], bytes]]] = {
    "bsdiff4": (_bsdiff, _unbsdiff),
    "detools": (_detools, _undetools),
}


def available() -> list[str]:
    return [tool for tool in TOOLS if importlib.util.find_spec(tool) is not None]


def main() -> None:
    tool, folder, size = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    if tool in TOOLS:
        importlib.import_module(tool)
    before, started = _peak_bytes(), time.perf_counter()
    if tool in TOOLS:
        made = TOOLS[tool][1]((folder / "old").read_bytes(), (folder / "delta").read_bytes())
        (folder / "new").write_bytes(made)
    else:
        _ours(_ENCODINGS[tool], folder, size)
    taken: dict[str, Any] = {"ms": (time.perf_counter() - started) * 1e3, "bytes": _peak_bytes() - before}
    print(json.dumps(taken))


def _ours(encoding: Encoding, folder: Path, size: int) -> None:
    with undelta._mapped(folder / "old") as old, undelta._mapped(folder / "delta") as delta, (folder / "new").open("wb") as new:
        for piece in ours.decode(encoding, old, delta, size, 1 << 30):
            new.write(piece)


def _peak_bytes() -> int:
    """The most memory this process has had, pages of files that it maps included."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) << 10
    return 0


if __name__ == "__main__":
    main()
