"""``hubctl dataset``: data sets, their import, their versions and their datasheets."""

from enum import StrEnum
from typing import Annotated

import typer

from cloud_hub.app.hubctl import dataset_import, document
from cloud_hub.app.hubctl.hub import TIMEOUT_S
from cloud_hub.app.hubctl.listing import Limit, listed
from cloud_hub.app.hubctl.plain import plain
from cloud_hub.app.hubctl.session import of
from protos.v1 import datasets_pb2 as pb

app = typer.Typer(help="Datasets.")

Name = Annotated[str, typer.Argument(help="Dataset name.")]
_CHANGES = ("added", "removed", "relabelled", "moved")
_VERSION_COLUMNS = ("number", "samples", *_CHANGES, "created_by", "created_at", "reason", "digest")


class Kind(StrEnum):
    IMAGE = "image"
    WINDOW = "window"
    ROW = "row"
    TEXT = "text"


class Label(StrEnum):
    CLASS = "class"
    BOXES = "boxes"
    VALUES = "values"
    NONE = "none"


@app.command()
def create(
    context: typer.Context,
    name: Name,
    labels: Annotated[str, typer.Option(help="Class names in index order, comma-separated; of class and boxes.")] = "",
    kind: Annotated[Kind, typer.Option(help="What its samples are.")] = Kind.IMAGE,
    annotation: Annotated[Label, typer.Option(help="What a label is: a class, boxes, numbers, or nothing.")] = Label.CLASS,
) -> None:
    """Make an empty dataset."""
    session = of(context)
    request = pb.CreateDatasetRequest(
        name=name,
        labels=_words(labels),
        kind=f"SAMPLE_KIND_{kind.name}",
        annotation=f"ANNOTATION_{annotation.name}",
    )
    with session.hub() as hub:
        dataset = hub.datasets.CreateDataset(request, timeout=TIMEOUT_S)
    with_labels = f" with {len(dataset.labels)} labels" if dataset.labels else ""
    session.out.done(f"created dataset {name}{with_labels}", plain(dataset))


@app.command("list")
def list_(context: typer.Context) -> None:
    """List datasets."""
    session = of(context)
    with session.hub() as hub:
        datasets = hub.datasets.ListDatasets(pb.ListDatasetsRequest(), timeout=TIMEOUT_S).datasets
    columns = ("name", "kind", "annotation", "samples", "labelled", "labels", "created_at")
    session.out.rows(map(plain, datasets), columns, empty="no datasets")


app.command("import")(dataset_import.import_)


@app.command()
def snapshot(
    context: typer.Context, name: Name, reason: Annotated[str, typer.Option(help="Why: it stands in the list.")] = ""
) -> None:
    """Keep what the dataset holds now as a version; the same again is the same version."""
    session = of(context)
    request = pb.SnapshotDatasetRequest(dataset=name, reason=reason)
    with session.hub() as hub:
        version = hub.datasets.SnapshotDataset(request, timeout=TIMEOUT_S)
    session.out.done(f"{name} version {version.number}: {version.samples} samples, {version.digest}", plain(version))


@app.command()
def versions(context: typer.Context, name: Name, limit: Limit = 100) -> None:
    """List versions, the newest first: what each added, removed, relabelled and moved against the one before."""
    session = of(context)
    with session.hub() as hub:
        rows = listed(hub.datasets.ListDatasetVersions, pb.ListDatasetVersionsRequest(dataset=name), "versions", limit)
    session.out.rows(rows, _VERSION_COLUMNS, empty="no versions")


@app.command()
def diff(
    context: typer.Context,
    name: Name,
    before: Annotated[int, typer.Argument(min=1, help="Version.")],
    after: Annotated[int, typer.Argument(min=0, help="Version; 0: what the dataset holds now.")] = 0,
) -> None:
    """What became of the samples from one version to another."""
    session = of(context)
    request = pb.GetDatasetChangesRequest(dataset=name, to=after, **{"from": before})  # a word of Python's
    with session.hub() as hub:
        changes = hub.datasets.GetDatasetChanges(request, timeout=TIMEOUT_S)
    if session.out.json:
        session.out.document(plain(changes))
        return
    session.out.rows(map(plain, changes.examples), ("what", "sample_id", "name", "before", "after"), empty="no change")
    counts = ", ".join(f"{getattr(changes, what)} {what}" for what in _CHANGES)
    session.out.note(counts)


@app.command()
def report(
    context: typer.Context,
    name: Name,
    out: document.Out,
    version: Annotated[int, typer.Option(min=0, help="Version; 0: what the dataset holds now.")] = 0,
) -> None:
    """Write a datasheet: counts, distributions, gaps, leaks and drift, as one HTML page that loads nothing."""
    request = pb.GetDatasheetRequest(dataset=name, version=version, json=document.figures(of(context), out))
    document.save(of(context), lambda hub: hub.datasets.GetDatasheet(request), out)


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())
