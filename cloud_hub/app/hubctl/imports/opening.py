"""Which source reads what a user names."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from cloud_hub.app.hubctl.failure import refused
from cloud_hub.app.hubctl.imports.piece import Source
from cloud_hub.app.hubctl.imports.table import MISSING


class Format(StrEnum):
    AUTO = "auto"  # by the path's name and what the data set holds
    PLAIN = "plain"  # of --index
    GTSRB = "gtsrb"  # of --index
    IMAGES = "images"
    NPZ = "npz"
    CSV = "csv"
    JSONL = "jsonl"
    TEXTS = "texts"
    SERIES = "series"
    COCO = "coco"
    YOLO = "yolo"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The data set that it goes into."""

    name: str
    kind: str  # "image", "window", "row", "text"
    annotation: str  # "class", "boxes", "values", "none"
    labels: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """As ``hubctl dataset import`` takes them; empty: not given."""

    dir: Path | None = None
    source_pattern: str = ""
    label_columns: tuple[str, ...] = ()
    source_columns: tuple[str, ...] = ()
    split_column: str = ""
    time_column: str = ""
    time_unit: str = "s"
    time_format: str = ""
    name_column: str = ""
    text_column: str = ""
    drop: tuple[str, ...] = ()
    numeric: tuple[str, ...] = ()
    category: tuple[str, ...] = ()
    separator: str = ""
    header: bool = True
    columns: tuple[str, ...] = ()
    missing: tuple[str, ...] = MISSING
    labels: Mapping[str, str] = field(default_factory=dict)
    steps: int = 0
    stride: int = 0
    block: int = 0
    every_s: float = 0.0
    channels: tuple[str, ...] = ()
    join: tuple[Path, ...] = ()
    label: str = ""
    events: Path | None = None
    event_columns: tuple[str, ...] = ("event", "start", "end")
    events_from_start: bool = False
    background: str = ""
    whole_files: bool = False


def open_source(path: Path, format: Format, target: Target, options: Options) -> Source:
    """Raises Failure naming what is missing, or what is wrong with the file."""
    if not path.exists():
        raise refused(f"{path}: no such file or folder")
    format = _guessed(path, target) if format in (Format.AUTO, Format.PLAIN, Format.GTSRB) else format
    holds = {
        Format.CSV: "row text",
        Format.TEXTS: "text",
        Format.SERIES: "window",
        Format.JSONL: "row text window",
    }.get(format, "image")
    if target.kind not in holds.split():
        raise refused(f"data set {target.name} holds {target.kind}s: the format {format} gives {holds.split()[0]}s")
    if format in (Format.IMAGES, Format.NPZ, Format.COCO, Format.YOLO):
        return _images(path, format, target, options)
    if format is Format.SERIES:
        return _series(path, target, options)
    if format is Format.JSONL:
        from cloud_hub.app.hubctl.imports.lines import LineSource
        from cloud_hub.app.hubctl.imports.times import Clock

        clock = Clock(options.time_unit, options.time_format)
        return LineSource(path, annotated=target.annotation, clock=clock)
    if format is Format.TEXTS and not options.text_column:
        from cloud_hub.app.hubctl.imports.texts import TextSource

        return TextSource(path, labels=options.labels)
    return _rows(path, target, options)


def _guessed(path: Path, target: Target) -> Format:
    if path.is_dir():
        yolo = target.annotation == "boxes"
        return Format.SERIES if target.kind == "window" else Format.YOLO if yolo else Format.IMAGES
    if path.suffix == ".npz":
        return Format.NPZ
    if path.suffix in (".jsonl", ".ndjson"):
        return Format.JSONL
    if path.suffix == ".json" and target.annotation == "boxes":
        return Format.COCO
    guess = {"row": Format.CSV, "text": Format.TEXTS, "window": Format.SERIES}.get(target.kind)
    if guess is None:
        raise refused(f"cannot tell what {path} is for a data set of {target.kind}s: say --format")
    return guess


def _images(path: Path, format: Format, target: Target, options: Options) -> Source:
    from cloud_hub.app.hubctl.imports.boxes import CocoSource, YoloSource
    from cloud_hub.app.hubctl.sources import FolderSource

    if format is Format.NPZ:
        from cloud_hub.app.hubctl.imports.arrays import ArraySource

        return ArraySource(path, target.labels)
    if format is Format.COCO:
        return CocoSource(path, options.dir or path.parent)
    return YoloSource(path, target.labels) if format is Format.YOLO else FolderSource(path, pattern(options.source_pattern))


def _rows(path: Path, target: Target, options: Options) -> Source:
    from cloud_hub.app.hubctl.imports.rows import Reading, RowColumns, RowSource
    from cloud_hub.app.hubctl.imports.table import Table
    from cloud_hub.app.hubctl.imports.times import Clock

    if target.kind == "text" and not options.text_column:
        raise refused("a table of texts needs --text-column")
    if target.annotation in ("class", "values") and not options.label_columns:
        raise refused("a table needs --label-column; of unlabelled rows give --label-column ''")
    columns = RowColumns(
        label=tuple(name for name in options.label_columns if name),
        source=options.source_columns,
        split=options.split_column,
        time=options.time_column,
        name=options.name_column,
        drop=options.drop,
        text=options.text_column,
    )
    reading = Reading(
        numeric=options.numeric,
        category=options.category,
        missing=options.missing,
        labels=options.labels,
        values=target.annotation == "values",
        clock=Clock(options.time_unit, options.time_format),
    )
    table = Table(path, separator=options.separator, header=options.header, columns=options.columns)
    return RowSource(table, columns, reading)


def _series(path: Path, target: Target, options: Options) -> Source:
    from cloud_hub.app.hubctl.imports.series import Cut, Naming, SeriesSource
    from cloud_hub.app.hubctl.imports.times import Clock

    if not options.steps:
        raise refused("a series needs --steps: the readings of a window")
    if len(options.label_columns) > 1 or len(options.event_columns) != 3:
        raise refused("a series takes one --label-column, and --event-columns EVENT,START,END")
    cut = Cut(
        steps=options.steps,
        stride=options.stride,
        block=options.block,
        every_s=options.every_s,
        channels=options.channels,
        time=options.time_column,
        clock=Clock(options.time_unit, options.time_format),
    )
    event, start, end = options.event_columns
    naming = Naming(
        constant=options.label,
        column=options.label_columns[0] if options.label_columns else "",
        events=options.events,
        event_columns=(event, start, end),
        from_start=options.events_from_start,
        background=options.background,
        labels=options.labels,
        values=target.annotation == "values",
    )
    return SeriesSource(path, cut, naming, separator=options.separator, join=options.join, groups=options.whole_files)


def pattern(text: str) -> re.Pattern[str] | None:
    """Raises Failure."""
    try:
        return re.compile(text) if text else None
    except re.error as error:
        raise refused(f"--source-pattern is no regular expression: {error}") from error
