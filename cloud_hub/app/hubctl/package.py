"""``hubctl package``: settings, agents and firmware images that devices can verify and install."""

import hashlib
import zipfile
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
import yaml

from cloud_hub.app.hubctl import texts
from cloud_hub.app.hubctl.failure import refused
from cloud_hub.app.hubctl.listing import Limit, listed
from cloud_hub.app.hubctl.output import Bar
from cloud_hub.app.hubctl.plain import plain
from cloud_hub.app.hubctl.session import of
from edge_agent.core import documents
from protos.v1 import packages_pb2 as pb

app = typer.Typer(help="Files for devices that are no models: settings, agents, firmware images. A rollout installs them.")

_CHUNK_BYTES = 1 << 20
_PUBLISH_TIMEOUT_S = 3600.0
_COLUMNS = ("kind", "name", "version", "board", "size_bytes", "release", "signed", "created_at", "digest")


class Kind(StrEnum):
    CONFIG = "config"
    AGENT = "agent"
    FIRMWARE = "firmware"


@app.command()
def publish(
    context: typer.Context,
    kind: Annotated[Kind, typer.Argument(help="What it is.")],
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="Settings (YAML), an agent bundle, or an image.")],
    name: Annotated[str, typer.Option(help="What it is called; releases are counted by name.")],
    version: Annotated[str, typer.Option(help="Its version: it never changes once published.")],
    board: Annotated[str, typer.Option(help="The only board it is for; firmware needs one.")] = "",
) -> None:
    """Store a package in the hub and have it signed. No device has it before a rollout."""
    session = of(context)
    _look(kind, file)
    with file.open("rb") as package:
        digest, size = f"sha256:{hashlib.file_digest(package, 'sha256').hexdigest()}", package.seek(0, 2)
    first = pb.PackageChunk(kind=_of(kind), board=board, name=name, version=version, digest=digest, size_bytes=size)
    with session.hub() as hub, session.out.progress(f"publishing {name} {version}", size) as bar:
        found = hub.packages.PublishPackage(_chunks(first, file, bar), timeout=_PUBLISH_TIMEOUT_S)
    session.out.done(
        f"published {kind} {name} {version} for {board or 'all boards'}, release {found.release}",
        plain(found),
    )


@app.command("list")
def list_(
    context: typer.Context,
    kind: Annotated[Kind | None, typer.Argument(help="Only of this kind.")] = None,
    limit: Limit = 0,
) -> None:
    """List the packages that were published."""
    session = of(context)
    request = pb.ListPackagesRequest(kind=_of(kind) if kind else "PACKAGE_KIND_UNSPECIFIED")
    with session.hub() as hub:
        found = listed(hub.packages.ListPackages, request, "packages", limit)
    session.out.rows(found, _COLUMNS, empty="no packages")


def _look(kind: Kind, file: Path) -> None:
    """A package never changes: the wrong file would hold its name and version for ever. Raises Failure."""
    if kind is Kind.AGENT and not zipfile.is_zipfile(file):
        raise refused(f"{file} is no agent bundle: make one with scripts/build_bundle")
    if kind is Kind.CONFIG:
        try:
            settings = documents.load(texts.read(file))
        except yaml.YAMLError as error:
            raise refused(f"{file} is not YAML: {error}") from error
        if not isinstance(settings, dict | None):
            raise refused(f"{file} holds no settings: it must map keys of agent.yaml to values")


def _of(kind: Kind) -> str:
    """The wire's name of it."""
    return f"PACKAGE_KIND_{kind.name}"


def _chunks(first: pb.PackageChunk, file: Path, bar: Bar) -> Iterator[pb.PackageChunk]:
    yield first
    with file.open("rb") as package:
        while data := package.read(_CHUNK_BYTES):
            yield pb.PackageChunk(data=data)
            bar.at(package.tell())
