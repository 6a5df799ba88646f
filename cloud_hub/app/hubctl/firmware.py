"""``hubctl firmware``: images that devices can verify. No device installs one yet."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from cloud_hub.app.hubctl.listing import Limit, listed
from cloud_hub.app.hubctl.output import Bar
from cloud_hub.app.hubctl.plain import plain
from cloud_hub.app.hubctl.session import of
from protos.v1 import registry_pb2 as pb

app = typer.Typer(help="Firmware images: kept and signed by the hub. Devices cannot install firmware yet.")

_CHUNK_BYTES = 1 << 20
_PUBLISH_TIMEOUT_S = 3600.0
_COLUMNS = ("board", "name", "version", "size_bytes", "release", "signed", "created_at", "digest")


@app.command()
def publish(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="The image.")],
    board: Annotated[str, typer.Option(help="The board it is for.")],
    name: Annotated[str, typer.Option(help="What it is called; releases are counted by name.")],
    version: Annotated[str, typer.Option(help="Its version: it never changes once published.")],
) -> None:
    """Store an image in the hub and have it signed. Devices cannot install firmware yet: it only waits there."""
    session = of(context)
    with file.open("rb") as image:
        digest, size = f"sha256:{hashlib.file_digest(image, 'sha256').hexdigest()}", image.seek(0, 2)
    first = pb.FirmwareChunk(board=board, name=name, version=version, digest=digest, size_bytes=size)
    with session.hub() as hub, session.out.progress(f"publishing {name} {version}", size) as bar:
        found = hub.registry.PublishFirmware(_chunks(first, file, bar), timeout=_PUBLISH_TIMEOUT_S)
    session.out.done(f"published firmware {name} {version} for {board}, release {found.release}", plain(found))


@app.command("list")
def list_(context: typer.Context, limit: Limit = 0) -> None:
    """List the images that were published."""
    session = of(context)
    with session.hub() as hub:
        found = listed(hub.registry.ListFirmware, pb.ListFirmwareRequest(), "firmware", limit)
    session.out.rows(found, _COLUMNS, empty="no firmware")


def _chunks(first: pb.FirmwareChunk, file: Path, bar: Bar) -> Iterator[pb.FirmwareChunk]:
    yield first
    with file.open("rb") as image:
        while data := image.read(_CHUNK_BYTES):
            yield pb.FirmwareChunk(data=data)
            bar.at(image.tell())
