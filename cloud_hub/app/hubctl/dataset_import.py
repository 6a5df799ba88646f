"""``hubctl dataset import``: what it takes, what it tells."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cloud_hub.app.hubctl.failure import ExitCode, Failure
from cloud_hub.app.hubctl.hub import TIMEOUT_S, Hub
from cloud_hub.app.hubctl.imports.opening import Format, Options, Target, open_source, pattern
from cloud_hub.app.hubctl.imports.sending import Requests
from cloud_hub.app.hubctl.imports.table import MISSING
from cloud_hub.app.hubctl.output import Output
from cloud_hub.app.hubctl.plain import plain
from cloud_hub.app.hubctl.session import of
from protos.v1 import datasets_pb2 as pb

if TYPE_CHECKING:  # numpy and Pillow: loaded when something is imported
    from cloud_hub.app.hubctl.imports.piece import Source

Name = Annotated[str, typer.Argument(help="Dataset name.")]
_MANY = 20  # refusals of one reason that are told one by one


def import_(
    context: typer.Context,
    name: Name,
    path: Annotated[Path | None, typer.Argument(help="File or folder.")] = None,
    format: Annotated[
        Format, typer.Option(help="Default: by the path and the dataset; plain and gtsrb go with --index.")
    ] = Format.AUTO,
    dir: Annotated[Path | None, typer.Option(help="Images: LABEL/IMAGE, {train,val,test}/LABEL/IMAGE, COCO's.")] = None,
    npz: Annotated[Path | None, typer.Option(help="Arrays: images u8 (N,H,W[,3]), labels; optional source, split.")] = None,
    index: Annotated[Path | None, typer.Option(help="CSV of images in --dir, which may hold them in tar archives.")] = None,
    path_column: Annotated[str, typer.Option(help="--index: relative path.")] = "",
    label_column: Annotated[str | None, typer.Option(help="Label; several numbers comma-separated.")] = None,
    source_column: Annotated[str, typer.Option(help="Track, device or person; several joined: class_id,track.")] = "",
    split_column: Annotated[str, typer.Option(help="train, val or test.")] = "",
    only_split: Annotated[str, typer.Option(help="--index: rows of these splits, renamed: train_day=train,val_day=val.")] = "",
    source_pattern: Annotated[str, typer.Option(help="Images: regular expression; its first group is the source.")] = "",
    time_column: Annotated[str, typer.Option(help="When it was read.")] = "",
    time_unit: Annotated[str, typer.Option(help="Of times that are numbers: s, ms, us, ns.")] = "s",
    time_format: Annotated[str, typer.Option(help="Of times that are not ISO 8601: as %d/%m/%Y %H:%M:%S.")] = "",
    name_column: Annotated[str, typer.Option(help="What a row is called: its line, otherwise.")] = "",
    text_column: Annotated[str, typer.Option(help="Tables of texts: the text.")] = "",
    drop: Annotated[str, typer.Option(help="Columns that are left out.")] = "",
    numeric: Annotated[str, typer.Option(help="Columns of numbers, where it is not plain from the file.")] = "",
    category: Annotated[str, typer.Option(help="Columns of categories that look like numbers.")] = "",
    separator: Annotated[str, typer.Option(help="A character or comma, semicolon, tab, pipe, blank.")] = "",
    header: Annotated[bool, typer.Option(help="Whether the first line names the columns.")] = True,
    columns: Annotated[str, typer.Option(help="Names of the columns of a file without a header.")] = "",
    missing: Annotated[str, typer.Option(help="What stands for a missing value.")] = ",".join(MISSING),
    label_map: Annotated[str, typer.Option(help="Labels in the file to labels of the dataset: 1=good,2=bad.")] = "",
    steps: Annotated[int, typer.Option(min=0, help="Series: readings of a window.")] = 0,
    stride: Annotated[int, typer.Option(min=0, help="Series: readings from one window to the next; default: --steps.")] = 0,
    block: Annotated[int, typer.Option(min=0, help="Series: readings that no window crosses; default: ten windows.")] = 0,
    every: Annotated[float, typer.Option(min=0, help="Series: average over so many seconds first.")] = 0.0,
    channels: Annotated[str, typer.Option(help="Series: columns that are channels; default: all of numbers.")] = "",
    join: Annotated[list[Path] | None, typer.Option(help="Series: another file of the same clock, for more channels.")] = None,
    label: Annotated[str, typer.Option(help="Series: label of every window.")] = "",
    events: Annotated[Path | None, typer.Option(help="Series: CSV of events that label the windows.")] = None,
    event_columns: Annotated[str, typer.Option(help="Series: event, its start and its end.")] = "event,start,end",
    events_from_start: Annotated[bool, typer.Option(help="Series: events count seconds from the first reading.")] = False,
    background: Annotated[str, typer.Option(help="Series: label of windows without an event; else they are left out.")] = "",
    whole_files: Annotated[bool, typer.Option(help="Series: a file's windows stay together in one split.")] = False,
) -> None:
    """Add samples. Importing the same again adds nothing, so a broken import is simply run again."""
    if (index is not None and dir is None) or sum(
        given is not None for given in (path, npz, dir if path is None else None)
    ) != 1:
        raise typer.BadParameter("give PATH, --dir, --npz, or --index with --dir")
    session = of(context)
    options = Options(
        dir=dir,
        source_pattern=source_pattern,
        label_columns=tuple(label_column.split(",")) if label_column is not None else (),
        source_columns=_words(source_column),
        split_column=split_column,
        time_column=time_column,
        time_unit=time_unit,
        time_format=time_format,
        name_column=name_column,
        text_column=text_column,
        drop=_words(drop),
        numeric=_words(numeric),
        category=_words(category),
        separator=separator,
        header=header,
        columns=_words(columns),
        missing=tuple(word.strip() for word in missing.split(",")),
        labels=_mapping(label_map),
        steps=steps,
        stride=stride,
        block=block,
        every_s=every,
        channels=_words(channels),
        join=tuple(join or ()),
        label=label,
        events=events,
        event_columns=_words(event_columns),
        events_from_start=events_from_start,
        background=background,
        whole_files=whole_files,
    )
    pattern(source_pattern)
    with session.hub() as hub:
        target = _target(hub, name)
        source: Source
        if index is not None and dir is not None:
            source = _index(index, dir, format, options, path_column, only_split)
        elif npz is not None:
            source = open_source(npz, Format.NPZ, target, options)
        else:
            source = open_source(path or dir or Path(), format if path else Format.IMAGES, target, options)
        with session.out.progress(f"importing into {name}", len(source)) as bar:
            requests = Requests(name, source, bar)
            reply = hub.datasets.ImportSamples(iter(requests))
    _report(session.out, name, source, reply)
    if requests.error is not None:
        raise requests.error
    if missed := source.refusals.count + reply.refused_count:
        raise Failure(f"{missed} samples were refused", ExitCode.REFUSED)


def _report(out: Output, name: str, source: "Source", reply: pb.ImportReply) -> None:
    told = [*source.refusals.told, *((each.name, each.reason) for each in reply.refused)]
    shown: Counter[str] = Counter()
    for piece, reason in told:
        shown[reason] += 1
        if shown[reason] <= _MANY:
            out.note(f"refused {piece}: {reason}")
    for reason, count in shown.items():
        if count > _MANY:
            out.note(f"refused {count - _MANY} more: {reason}")
    for note in source.refusals.notes:
        out.note(note)
    missed = source.refusals.count + reply.refused_count
    done: dict[str, Any] = {"added": reply.added, "duplicates": reply.duplicates, "refused_count": missed}
    done["refused"] = [{"name": piece, "reason": reason} for piece, reason in told]
    done["notes"] = list(source.refusals.notes)
    out.done(f"{name}: {reply.added} added, {reply.duplicates} there already, {missed} refused", done)


def _target(hub: Hub, name: str) -> Target:
    for dataset in hub.datasets.ListDatasets(pb.ListDatasetsRequest(), timeout=TIMEOUT_S).datasets:
        if dataset.name == name:
            told = plain(dataset)
            return Target(name=name, kind=told["kind"], annotation=told["annotation"], labels=list(dataset.labels))
    raise Failure(f"no dataset {name}: create it first", ExitCode.NOT_FOUND)


def _index(index: Path, folder: Path, format: Format, options: Options, path_column: str, only_split: str) -> "Source":
    from cloud_hub.app.hubctl.sources import GTSRB, Columns, IndexSource

    preset = GTSRB if format is Format.GTSRB else Columns()
    columns = Columns(
        path=path_column or preset.path,
        label=options.label_columns[0] if options.label_columns else preset.label,
        source=options.source_columns or preset.source,
        split=options.split_column or preset.split,
    )
    return IndexSource(index, folder, columns, _mapping(only_split))


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())


def _mapping(text: str) -> dict[str, str]:
    """``a=b,c`` as ``{"a": "b", "c": ""}``: a split without a new name is imported unpinned."""
    return {old: new for old, _, new in (item.strip().partition("=") for item in text.split(",") if item.strip())}
