"""``hubctl telemetry``: what devices said."""

from collections.abc import Iterator, Sequence
from typing import Annotated, Any

import grpc
import typer

from cloud_hub.app.hubctl import quarantine
from cloud_hub.app.hubctl.hub import TIMEOUT_S
from cloud_hub.app.hubctl.output import Row, RowFormat
from cloud_hub.app.hubctl.plain import plain
from cloud_hub.app.hubctl.session import Session, of, pairs
from cloud_hub.app.hubctl.times import Since, Until, span_ms, time_ms
from protos.v1 import telemetry_service_pb2 as pb

app = typer.Typer(help="Readings, events and what had to be quarantined.")
app.add_typer(quarantine.app, name="quarantine")

Device = Annotated[str, typer.Option(help="Of this device only.")]
Select = Annotated[list[str] | None, typer.Option("--select", "-l", help="KEY=VALUE: of devices with this label; repeatable.")]
Group = Annotated[str, typer.Option(help="Of the devices of this group: short for --select group=NAME.")]
Rows = Annotated[
    RowFormat | None, typer.Option("--output", help="table, json (one line each) or csv; default: the global one.")
]
_READING = (
    "captured_at", "device_id", "lane", "sequence", "label_name", "value", "confidence", "latency_ms", "captured", "uncertain",
)  # fmt: skip
_KEY_COLUMNS = {"device": "device_id"}
_SUMS = ("readings", "uncertain", "captured")


@app.command()
def query(
    context: typer.Context,
    device: Device = "",
    select: Select = None,
    group: Group = "",
    since: Since = "",
    until: Until = "",
    model: Annotated[str, typer.Option(help="NAME, NAME:VERSION, or the digest of a manifest.")] = "",
    uncertain: Annotated[
        bool | None, typer.Option("--uncertain/--certain", help="Only those, by the device's threshold.")
    ] = None,
    captured: Annotated[bool | None, typer.Option("--captured/--not-captured", help="Only those whose frame was kept.")] = None,
    window: Annotated[
        str, typer.Option(help="Sums over windows of this length instead: 30s, 5m, 1h, 1d; 0s: one window.")
    ] = "",
    field: Annotated[list[str] | None, typer.Option(help="Of a sum: confidence, latency_ms; default: both.")] = None,
    by: Annotated[list[str] | None, typer.Option(help="Of a sum: a row for each device, model, label; repeatable.")] = None,
    limit: Annotated[int, typer.Option(min=0, help="Rows at most; 0: as many as the hub gives.")] = 1000,
    output: Rows = None,
) -> None:
    """Print readings in the order of their time per device, or with --window what they sum up to.

    Where readings are older than the hub keeps them, sums come from hourly roll-ups; their percentiles are approximate.
    """
    session = of(context)
    common: dict[str, Any] = {
        "device_id": device,
        "selector": _selector(select, group),
        "since_ms": time_ms(since),
        "until_ms": time_ms(until),
        "model": model,
        "limit": limit,
    }
    if window:
        if uncertain is not None or captured is not None:
            raise typer.BadParameter("--window counts uncertain and captured readings, it cannot leave others out")
        sums = pb.AggregateRequest(**common, window_ms=span_ms(window), fields=_words(field), by=_words(by))
        with session.hub() as hub:
            rows = (_sum(row) for page in hub.telemetry.Aggregate(sums) for row in page.rows)
            _print(session, output, rows, _sum_columns(sums))
        return
    if field or by:
        raise typer.BadParameter("--field and --by are of sums: give --window too")
    request = pb.QueryReadingsRequest(**common, uncertain=uncertain, captured=captured)
    with session.hub() as hub:
        _print(session, output, _readings(hub.telemetry.QueryReadings(request)), _READING)


@app.command()
def tail(
    context: typer.Context,
    device: Device = "",
    select: Select = None,
    group: Group = "",
    last: Annotated[int, typer.Option(min=0, max=10_000, help="Begin with about so many that came before.")] = 10,
    output: Rows = None,
) -> None:
    """Print readings as the hub stores them, until Ctrl-C."""
    session = of(context)
    chosen = output or (RowFormat.JSON if session.out.json else RowFormat.TABLE)
    request = pb.TailReadingsRequest(device_id=device, selector=_selector(select, group), last=last)
    try:
        with session.hub() as hub:
            while True:
                try:
                    pages = hub.telemetry.TailReadings(request)
                    next(pages)
                    session.out.note("waiting for readings; Ctrl-C ends it")
                    _follow(session, chosen, _readings(pages))
                except grpc.RpcError as error:
                    if error.code() is not grpc.StatusCode.DEADLINE_EXCEEDED:
                        raise
                session.out.note("the hub ended the tail after its longest time: it begins again, and something may be between")
                request.last = 0
    except KeyboardInterrupt:
        return


@app.command()
def stats(context: typer.Context, device: Device = "") -> None:
    """Show how much each device has sent, and how much of it was stored."""
    session = of(context)
    with session.hub() as hub:
        found = plain(hub.telemetry.GetStats(pb.GetStatsRequest(device_id=device), timeout=TIMEOUT_S))
    if session.out.json:
        session.out.document(found)
        return
    columns = ("device_id", "batches", "records", "duplicate_batches", "gap_records", "payload_bytes", "last_captured_at")
    session.out.rows(found["devices"], columns, empty="no telemetry")
    session.out.note(f"quarantined messages: {found['quarantined']}")


@app.command()
def events(
    context: typer.Context,
    device: Device = "",
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Rows at most.")] = 100,
) -> None:
    """List what happened on devices, newest first."""
    session = of(context)
    with session.hub() as hub:
        found = hub.telemetry.ListEvents(pb.ListEventsRequest(device_id=device, limit=limit), timeout=TIMEOUT_S).events
    session.out.rows(map(plain, found), ("at", "device_id", "kind", "detail"), empty="no events")


def _readings(pages: Iterator[pb.Readings]) -> Iterator[Row]:
    return (plain(reading) for page in pages for reading in page.readings)


def _sum(row: pb.Aggregates.Aggregate) -> Row:
    """Fields by their names, so that they are columns."""
    values = plain(row)
    for field in values.pop("fields"):
        name = field.pop("name")
        values |= {f"{name}_{key}": value for key, value in field.items()}
    return values


def _sum_columns(request: pb.AggregateRequest) -> list[str]:
    fields = request.fields or ("confidence", "latency_ms")
    told = [f"{field}_{key}" for field in fields for key in ("mean", "min", "max", "p50", "p95")]
    return ["start", *(_KEY_COLUMNS.get(key, key) for key in request.by), *_SUMS, *told]


def _print(session: Session, output: RowFormat | None, rows: Iterator[Row], columns: Sequence[str]) -> None:
    chosen = output or (RowFormat.JSON if session.out.json else RowFormat.TABLE)
    if chosen is RowFormat.CSV:
        session.out.csv(rows)
    elif chosen is RowFormat.JSON:
        for row in rows:
            session.out.line(row)
    else:
        session.out.table(rows, columns)


def _follow(session: Session, chosen: RowFormat, rows: Iterator[Row]) -> None:
    """Each row goes out at once."""
    if chosen is RowFormat.CSV:
        session.out.csv(rows, at_once=True)
        return
    for row in rows:
        if chosen is RowFormat.JSON:
            session.out.line(row)
        else:
            name = row["label_name"] or row["label"]
            kept = " ".join(word for word in ("captured", "uncertain") if row[word])
            sentence = f"{row['captured_at']} {row['device_id']} {row['lane']} {row['sequence']}"
            value = "" if row["value"] is None else f" {row['value']:.6g}"
            session.out.told(f"{sentence} {name}{value} {row['confidence']:.3f} {row['latency_ms']:.4g} ms {kept}".rstrip())


def _selector(select: list[str] | None, group: str) -> dict[str, str]:
    return pairs([*(select or []), *([f"group={group}"] if group else [])], "--select")


def _words(options: list[str] | None) -> list[str]:
    """An option may be repeated, or name several at once."""
    return [word for option in options or [] for word in option.split(",") if word]
