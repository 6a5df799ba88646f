"""``hubctl dataset``: images and their import."""

import re
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from cloud_hub.app.hubctl.failure import ExitCode, Failure
from cloud_hub.app.hubctl.hub import TIMEOUT_S, Hub
from cloud_hub.app.hubctl.output import Bar
from cloud_hub.app.hubctl.plain import plain
from cloud_hub.app.hubctl.session import of
from cloud_hub.app.hubctl.sources import GTSRB, MAX_IMAGE_BYTES, ArraySource, Columns, FolderSource, IndexSource, Source
from protos.v1 import datasets_pb2 as pb

app = typer.Typer(help="Datasets.")

Name = Annotated[str, typer.Argument(help="Dataset name.")]


class IndexFormat(StrEnum):
    PLAIN = "plain"
    GTSRB = "gtsrb"


@app.command()
def create(
    context: typer.Context,
    name: Name,
    labels: Annotated[str, typer.Option(help="Class names in index order, comma-separated.")],
) -> None:
    """Make an empty dataset."""
    session = of(context)
    request = pb.CreateDatasetRequest(name=name, labels=[label.strip() for label in labels.split(",")])
    with session.hub() as hub:
        dataset = hub.datasets.CreateDataset(request, timeout=TIMEOUT_S)
    session.out.done(f"created dataset {name} with {len(dataset.labels)} labels", plain(dataset))


@app.command("list")
def list_(context: typer.Context) -> None:
    """List datasets."""
    session = of(context)
    with session.hub() as hub:
        datasets = hub.datasets.ListDatasets(pb.ListDatasetsRequest(), timeout=TIMEOUT_S).datasets
    session.out.rows(map(plain, datasets), ("name", "samples", "labelled", "labels", "created_at"), empty="no datasets")


@app.command("import")
def import_(
    context: typer.Context,
    name: Name,
    dir: Annotated[Path | None, typer.Option(help="Folder: LABEL/IMAGE, or {train,val,test}/LABEL/IMAGE.")] = None,
    npz: Annotated[Path | None, typer.Option(help="Arrays: images u8 (N,H,W[,3]), labels; optional source, split.")] = None,
    index: Annotated[Path | None, typer.Option(help="CSV of images in --dir, which may hold them in tar archives.")] = None,
    format: Annotated[IndexFormat, typer.Option(help="Columns of a well-known index.")] = IndexFormat.PLAIN,
    path_column: Annotated[str, typer.Option(help="--index: relative path.")] = "",
    label_column: Annotated[str, typer.Option(help="--index: class name.")] = "",
    source_column: Annotated[str, typer.Option(help="--index: track or camera; several joined: class_id,track.")] = "",
    split_column: Annotated[str, typer.Option(help="--index: split.")] = "",
    only_split: Annotated[str, typer.Option(help="--index: rows of these splits, renamed: train_day=train,val_day=val.")] = "",
    source_pattern: Annotated[str, typer.Option(help="--dir: regular expression; its first group is an image's source.")] = "",
) -> None:
    """Add images. Importing the same again adds nothing, so a broken import is simply run again."""
    if (index is not None and dir is None) or (npz is None) == (dir is None):
        raise typer.BadParameter("give --dir, --npz, or --index with --dir")
    session = of(context)
    preset = GTSRB if format is IndexFormat.GTSRB else Columns()
    columns = Columns(
        path=path_column or preset.path,
        label=label_column or preset.label,
        source=tuple(source_column.split(",")) if source_column else preset.source,
        split=split_column or preset.split,
    )
    with session.hub() as hub:
        source: Source
        if npz is not None:
            source = ArraySource(npz, _labels(hub, name))
        elif index is not None and dir is not None:
            source = IndexSource(index, dir, columns, _mapping(only_split))
        else:
            source = FolderSource(dir or Path(), _pattern(source_pattern))
        with session.out.progress(f"importing into {name}", len(source)) as bar:
            requests = _Requests(name, source, bar)
            reply = hub.datasets.ImportSamples(iter(requests))
    for image in (*requests.oversized, *reply.refused):
        session.out.note(f"refused {image.name}: {image.reason}")
    missing = len(reply.refused) + len(requests.oversized)
    sentence = f"{name}: {reply.added} added, {reply.duplicates} there already, {missing} refused"
    session.out.done(sentence, plain(reply))
    if requests.error is not None:
        raise requests.error
    if missing:
        raise Failure(f"{missing} images were refused", ExitCode.REFUSED)


class _Requests:
    """What gRPC's own thread reads; an error there would be lost, so it ends the stream and is kept."""

    def __init__(self, dataset: str, source: Source, bar: Bar) -> None:
        self.error: Failure | None = None
        self.oversized: list[pb.ImportReply.Refused] = []
        self._dataset = dataset
        self._source = source
        self._bar = bar

    def __iter__(self) -> Iterator[pb.ImportSample]:
        try:
            for done, picture in enumerate(self._source, start=1):
                if len(picture.data) > MAX_IMAGE_BYTES:
                    reason = f"{len(picture.data)} bytes, more than {MAX_IMAGE_BYTES}"
                    self.oversized.append(pb.ImportReply.Refused(name=picture.name, reason=reason))
                    continue
                yield pb.ImportSample(
                    dataset=self._dataset,
                    image=picture.data,
                    label=picture.label,
                    source=picture.source,
                    split=picture.split,
                    name=picture.name,
                )
                self._bar.at(done)
        except Failure as failure:
            self.error = failure
        except OSError as error:
            self.error = Failure(f"{error.filename or 'image'}: {error.strerror or error}", ExitCode.REFUSED)


def _labels(hub: Hub, name: str) -> list[str]:
    for dataset in hub.datasets.ListDatasets(pb.ListDatasetsRequest(), timeout=TIMEOUT_S).datasets:
        if dataset.name == name:
            return list(dataset.labels)
    raise Failure(f"no dataset {name}: create it first", ExitCode.NOT_FOUND)


def _mapping(text: str) -> dict[str, str]:
    """``a=b,c`` as ``{"a": "b", "c": ""}``: a split without a new name is imported unpinned."""
    return {old: new for old, _, new in (item.strip().partition("=") for item in text.split(",") if item.strip())}


def _pattern(text: str) -> re.Pattern[str] | None:
    try:
        return re.compile(text) if text else None
    except re.error as error:
        raise typer.BadParameter(f"--source-pattern is no regular expression: {error}") from error
