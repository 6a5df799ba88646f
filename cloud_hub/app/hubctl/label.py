"""``hubctl label``: labels that come later, and find the samples they are about."""

from collections.abc import Iterator
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import Annotated

import typer

from cloud_hub.app.hubctl.failure import ExitCode, Failure, refused
from cloud_hub.app.hubctl.imports.piece import Refusals
from cloud_hub.app.hubctl.imports.table import Table
from cloud_hub.app.hubctl.imports.times import Clock, to_ms
from cloud_hub.app.hubctl.session import of
from protos.v1 import datasets_pb2 as pb

app = typer.Typer(help="Labels that come later.")

_AT_ONCE = 100  # a label may have 64 KB, a message 8 MB
_TIMEOUT_S = 120.0
_MOST_S = 86_400.0  # the hub allows no more
_KEYS = ("sample_id", "digest", "name", "captured_at")


class Origin(StrEnum):
    TRUTH = "truth"
    HUMAN = "human"
    IMPORT = "import"


_ORIGINS = {
    Origin.TRUTH: pb.LABEL_ORIGIN_TRUTH,
    Origin.HUMAN: pb.LABEL_ORIGIN_HUMAN,
    Origin.IMPORT: pb.LABEL_ORIGIN_IMPORT,
}


@app.command("import")
def import_(
    context: typer.Context,
    dataset: Annotated[str, typer.Argument(help="Dataset name.")],
    csv: Annotated[Path, typer.Option(help="Columns: label, and sample_id, digest, name, or device and captured_at.")],
    tolerance: Annotated[float, typer.Option(min=0, max=_MOST_S, help="Seconds from captured_at to a sample's time.")] = 1.0,
    origin: Annotated[Origin, typer.Option(help="Whose labels they are.")] = Origin.TRUTH,
    label_column: Annotated[str, typer.Option(help="Label.")] = "label",
    device_column: Annotated[str, typer.Option(help="Device.")] = "device",
    time_unit: Annotated[str, typer.Option(help="Of times that are numbers: s, ms, us, ns.")] = "s",
    time_format: Annotated[str, typer.Option(help="Of times that are not ISO 8601.")] = "",
) -> None:
    """Join labels to the samples they are about: delayed ground truth, or labels made elsewhere. The rest is told."""
    session = of(context)
    refusals = Refusals()
    truths = _read(csv, label_column, device_column, Clock(time_unit, time_format), refusals)
    total = pb.JoinLabelsReply()
    with session.hub() as hub:
        while part := list(islice(truths, _AT_ONCE)):
            request = pb.JoinLabelsRequest(dataset=dataset, truths=part, tolerance_ms=round(tolerance * 1000))
            request.origin = _ORIGINS[origin]
            reply = hub.datasets.JoinLabels(request, timeout=_TIMEOUT_S)
            for each in reply.unmatched:
                session.out.note(f"no match for {each.name}: {each.reason}")
            total.labelled += reply.labelled
            total.unchanged += reply.unchanged
            total.unmatched_count += reply.unmatched_count
    for line, reason in refusals.told:
        session.out.note(f"no match for {line}: {reason}")
    total.unmatched_count += refusals.count
    done = {"labelled": total.labelled, "unchanged": total.unchanged, "unmatched": total.unmatched_count}
    counts = f"{total.labelled} labelled, {total.unchanged} of them as before"
    session.out.done(f"{counts}, {total.unmatched_count} without a match", done)
    if total.unmatched_count:
        raise Failure(f"{total.unmatched_count} of the labels were not given", ExitCode.REFUSED)


def _read(path: Path, label: str, device: str, clock: Clock, refusals: Refusals) -> Iterator[pb.JoinLabelsRequest.Truth]:
    """Raises Failure naming the line. Lines without a cell for each column are told to ``refusals``."""
    table = Table(path)
    table.need(label)
    keys = [key for key in _KEYS if key in table.columns]
    if not keys:
        raise refused(f"{path} needs one of the columns {', '.join(_KEYS)} to say what a label is about")
    for line in table.rows(refusals):
        row = dict(zip(table.columns, line.cells, strict=True))
        try:
            at_ms = to_ms(clock.seconds(row["captured_at"])) if row.get("captured_at") else 0
        except ValueError as error:
            raise refused(f"{path}, line {line.number}: {error}") from error
        yield pb.JoinLabelsRequest.Truth(
            sample_id=row.get("sample_id", ""),
            digest=row.get("digest", ""),
            name=row.get("name", ""),
            device_id=row.get(device, ""),
            at_ms=at_ms,
            label=row[label],
        )
