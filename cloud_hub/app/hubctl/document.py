"""Documents from the hub, as files or on standard output."""

import contextlib
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Annotated, Protocol

import typer

from cloud_hub.app.hubctl.failure import refused
from cloud_hub.app.hubctl.hub import Hub
from cloud_hub.app.hubctl.session import Session

Out = Annotated[Path, typer.Option("--out", "-o", help="Where to write it, - for standard output; as .json the figures alone.")]


class Piece(Protocol):
    @property
    def data(self) -> bytes: ...


def figures(session: Session, out: Path) -> bool:
    """Whether the figures alone are wanted, as JSON: on standard output where all of it is JSON."""
    return session.out.json if _is_stdout(out) else out.suffix == ".json"


def save(session: Session, ask: Callable[[Hub], Iterable[Piece]], out: Path) -> None:
    """Whole or not at all. Raises Failure; before anything is asked for where ``out`` cannot be written."""
    from edge_agent.core.files import write_atomic

    if _is_stdout(out):
        with session.hub() as hub:
            data = b"".join(piece.data for piece in ask(hub))
        sys.stdout.buffer.write(data)
        return
    if out.is_dir() or not out.parent.is_dir():
        raise refused(f"cannot write {out}: {'it is a folder' if out.is_dir() else f'there is no folder {out.parent}'}")
    with session.hub() as hub:
        data = b"".join(piece.data for piece in ask(hub))
    with _naming(out):
        write_atomic(out, data, mode=0o644)
    session.out.done(f"{out}: {len(data)} bytes", {"path": str(out), "bytes": len(data)})


def _is_stdout(out: Path) -> bool:
    return str(out) == "-"


@contextlib.contextmanager
def _naming(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:  # it names a file beside it, which nobody asked for
        raise refused(f"cannot write {out}: {error.strerror or error}") from error
