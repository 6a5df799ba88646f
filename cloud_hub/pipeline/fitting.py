"""Which boards a file is for: those with a runtime for it, room to store it and memory to run it."""

from collections.abc import Iterable

import firmware_images
from cloud_hub.pipeline.verify import Verified
from protos.contract.boards import Board

MEMORY_SHARE = 0.5  # of a board's, for the worker that runs the model: the rest is the system's and the agent's


def refusals(item: Verified, boards: Iterable[Board] | None = None) -> dict[str, str]:
    """For each board with a runtime for the file why it is not for it, with the numbers; empty: it is.

    ``boards``: None takes all that are described.
    """
    known = firmware_images.boards().values() if boards is None else boards
    runs = {board.name: [name for name in board.runtimes if name in item.artifact.runtimes] for board in known}
    return {board.name: _refusal(item, board, runs[board.name][0]) for board in known if runs[board.name]}


def names(item: Verified, boards: Iterable[Board] | None = None) -> tuple[str, ...]:
    """For ``Variant.boards``: empty where every one can take it, those described later included."""
    found = refusals(item, boards)
    return tuple(sorted(name for name, why in found.items() if not why)) if any(found.values()) else ()


def nowhere(item: Verified, boards: Iterable[Board] | None = None) -> str:
    """Why no board can take it; empty where one can, or where none has a runtime for it."""
    found = refusals(item, boards)
    if not found or not all(found.values()):
        return ""
    return "it fits no board: " + "; ".join(f"{name}: {why}" for name, why in sorted(found.items()))


def _refusal(item: Verified, board: Board, runtime: str) -> str:
    size, room = len(item.artifact.data), board.max_model_bytes
    if size > room:
        return f"{size} bytes, more than the board's {room}"
    check = item.runtimes.get(runtime)
    memory = int(board.memory_mb * (1 << 20) * MEMORY_SHARE)
    if check is not None and check.peak_bytes > memory:
        return f"{check.peak_bytes} bytes of memory in {runtime}, more than {memory}, the half of the board's"
    return ""
