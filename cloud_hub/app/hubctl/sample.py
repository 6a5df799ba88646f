"""``hubctl sample``: looking at images and labelling them."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from cloud_hub.app.hubctl.failure import refused
from cloud_hub.app.hubctl.hub import TIMEOUT_S
from cloud_hub.app.hubctl.listing import Limit, listed
from cloud_hub.app.hubctl.plain import plain
from cloud_hub.app.hubctl.rows import Rows
from cloud_hub.app.hubctl.session import of
from edge_agent.core.files import write_atomic
from protos.v1 import datasets_pb2 as pb

app = typer.Typer(help="Samples: imported images and frames that devices captured.")

Id = Annotated[str, typer.Argument(help="Sample id.")]


class Labelled(StrEnum):
    ALL = "all"
    YES = "yes"
    NO = "no"


_LABELLED = {
    Labelled.ALL: pb.ListSamplesRequest.LABELLED_UNSPECIFIED,
    Labelled.YES: pb.ListSamplesRequest.LABELLED_YES,
    Labelled.NO: pb.ListSamplesRequest.LABELLED_NO,
}


@app.command("list")
def list_(
    context: typer.Context,
    dataset: Annotated[str, typer.Argument(help="Dataset name.")],
    labelled: Annotated[Labelled, typer.Option(help="With a label, without, or all.")] = Labelled.ALL,
    device: Annotated[str, typer.Option(help="Captured by this device only.")] = "",
    limit: Limit = 100,
) -> None:
    """List samples."""
    session = of(context)
    with session.hub() as hub:
        request = pb.ListSamplesRequest(dataset=dataset, labelled=_LABELLED[labelled], device_id=device)
        rows = listed(hub.datasets.ListSamples, request, "samples", limit)
    columns = ("id", "label", "predicted", "confidence", "split", "device_id", "reason", "captured_at", "name")
    session.out.rows(rows, columns, empty="no samples")


@app.command()
def show(
    context: typer.Context, id: Id, save: Annotated[Path | None, typer.Option(help="Write the image file here.")] = None
) -> None:
    """Show one sample; with --save also its image."""
    session = of(context)
    with session.hub() as hub:
        content = hub.datasets.GetSample(pb.GetSampleRequest(id=id), timeout=TIMEOUT_S)
    if save is not None:
        write_atomic(save, content.image, mode=0o644)
    session.out.record(plain(content.sample))


@app.command()
def label(
    context: typer.Context,
    id: Annotated[str, typer.Argument(help="Sample id.")] = "",
    label: Annotated[str, typer.Argument(help="One of the dataset's labels.")] = "",
    csv: Annotated[Path | None, typer.Option(help="Many at once: columns sample_id,label; all or none are taken.")] = None,
) -> None:
    """Label one sample, or many from a file."""
    if (csv is None) != bool(id and label) or (csv is not None and id):
        raise typer.BadParameter("give SAMPLE and LABEL, or --csv FILE")
    session = of(context)
    pairs = [(id, label)] if csv is None else _read(csv)
    labels = [pb.LabelSamplesRequest.Label(sample_id=sample, label=name) for sample, name in pairs]
    with session.hub() as hub:
        reply = hub.datasets.LabelSamples(pb.LabelSamplesRequest(labels=labels), timeout=TIMEOUT_S)
    session.out.done(f"labelled {reply.labelled}", plain(reply))


def _read(path: Path) -> list[tuple[str, str]]:
    """Raises Failure naming the line."""
    found = []
    for number, row in Rows(path, ("sample_id", "label")):
        if not row["sample_id"] or not row["label"]:
            raise refused(f"{path}, line {number}: sample_id and label must both be there")
        found.append((row["sample_id"], row["label"]))
    return found
