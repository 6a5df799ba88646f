"""``hubctl sample``: looking at samples and labelling them."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from cloud_hub.app.hubctl.failure import refused
from cloud_hub.app.hubctl.hub import TIMEOUT_S, Hub
from cloud_hub.app.hubctl.listing import Limit, listed
from cloud_hub.app.hubctl.plain import plain
from cloud_hub.app.hubctl.rows import Rows
from cloud_hub.app.hubctl.sample_view import shown
from cloud_hub.app.hubctl.session import of
from edge_agent.core.files import write_atomic
from protos.v1 import datasets_pb2 as pb

app = typer.Typer(help="Samples: what was imported, and what devices captured.")

Id = Annotated[str, typer.Argument(help="Sample id.")]


class Labelled(StrEnum):
    ALL = "all"
    YES = "yes"
    NO = "no"


class Origin(StrEnum):
    HUMAN = "human"
    IMPORT = "import"
    TRUTH = "truth"
    TEACHER = "teacher"


class Kind(StrEnum):
    IMAGE = "image"
    WINDOW = "window"
    ROW = "row"
    TEXT = "text"


_LABELLED = {
    Labelled.ALL: pb.ListSamplesRequest.LABELLED_UNSPECIFIED,
    Labelled.YES: pb.ListSamplesRequest.LABELLED_YES,
    Labelled.NO: pb.ListSamplesRequest.LABELLED_NO,
}


_ORIGINS = {
    Origin.HUMAN: pb.LABEL_ORIGIN_HUMAN,
    Origin.IMPORT: pb.LABEL_ORIGIN_IMPORT,
    Origin.TRUTH: pb.LABEL_ORIGIN_TRUTH,
    Origin.TEACHER: pb.LABEL_ORIGIN_TEACHER,
}


@app.command("list")
def list_(
    context: typer.Context,
    dataset: Annotated[str, typer.Argument(help="Dataset name; none: those of --kind.")] = "",
    kind: Annotated[Kind | None, typer.Option(help="Of every dataset that holds such samples.")] = None,
    labelled: Annotated[Labelled, typer.Option(help="With a label, without, or all.")] = Labelled.ALL,
    device: Annotated[str, typer.Option(help="Captured by this device only.")] = "",
    origin: Annotated[Origin | None, typer.Option(help="Whose label it is.")] = None,
    label: Annotated[str, typer.Option(help="With this label.")] = "",
    limit: Limit = 100,
) -> None:
    """List samples."""
    if bool(dataset) == (kind is not None):
        raise typer.BadParameter("give DATASET or --kind")
    session = of(context)
    rows: list[dict[str, Any]] = []
    with session.hub() as hub:
        for name in [dataset] if dataset else _holding(hub, kind):
            request = pb.ListSamplesRequest(dataset=name, labelled=_LABELLED[labelled], device_id=device, label=label)
            if origin is not None:
                request.origin = _ORIGINS[origin]
            if not limit or len(rows) < limit:
                rows += listed(hub.datasets.ListSamples, request, "samples", limit - len(rows) if limit else 0)
    columns = ("id", "label", "origin", "predicted", "confidence", "split", "device_id", "reason", "captured_at", "name")
    session.out.rows(rows, columns, empty="no samples")


@app.command()
def show(
    context: typer.Context, id: Id, save: Annotated[Path | None, typer.Option(help="Write the content here.")] = None
) -> None:
    """Show one sample, what it holds and every label it got; with --save its content as a file."""
    session = of(context)
    with session.hub() as hub:
        found = hub.datasets.GetSample(pb.GetSampleRequest(id=id), timeout=TIMEOUT_S)
        datasets = hub.datasets.ListDatasets(pb.ListDatasetsRequest(), timeout=TIMEOUT_S).datasets
    if save is not None:
        write_atomic(save, found.content, mode=0o644)
    record = plain(found.sample)
    kind = next((each.kind for each in datasets if each.name == found.sample.dataset), 0)
    record["content"] = shown(found.content, kind)
    record["history"] = [plain(event) for event in found.history]
    session.out.record(record)


@app.command()
def label(
    context: typer.Context,
    id: Annotated[str, typer.Argument(help="Sample id.")] = "",
    label: Annotated[str, typer.Argument(help="One of the dataset's labels.")] = "",
    csv: Annotated[Path | None, typer.Option(help="Many at once: columns sample_id,label; all or none are taken.")] = None,
) -> None:
    """Label one sample, or many from a file. What a label must be, the dataset says: a class, JSON of boxes, numbers."""
    if (csv is None) != bool(id and label) or (csv is not None and id):
        raise typer.BadParameter("give SAMPLE and LABEL, or --csv FILE")
    session = of(context)
    pairs = [(id, label)] if csv is None else _read(csv)
    labels = [pb.LabelSamplesRequest.Label(sample_id=sample, label=name) for sample, name in pairs]
    request = pb.LabelSamplesRequest(labels=labels, origin=pb.LABEL_ORIGIN_HUMAN)
    with session.hub() as hub:
        reply = hub.datasets.LabelSamples(request, timeout=TIMEOUT_S)
    session.out.done(f"labelled {reply.labelled}", {"labelled": reply.labelled})


def _holding(hub: Hub, kind: Kind | None) -> list[str]:
    datasets = hub.datasets.ListDatasets(pb.ListDatasetsRequest(), timeout=TIMEOUT_S).datasets
    return [each.name for each in datasets if kind is not None and plain(each)["kind"] == kind.value]


def _read(path: Path) -> list[tuple[str, str]]:
    """Raises Failure naming the line."""
    found = []
    for number, row in Rows(path, ("sample_id", "label")):
        if not row["sample_id"] or not row["label"]:
            raise refused(f"{path}, line {number}: sample_id and label must both be there")
        found.append((row["sample_id"], row["label"]))
    return found
