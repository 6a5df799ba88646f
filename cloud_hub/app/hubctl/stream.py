"""``hubctl stream``: windows over telemetry, and what they said."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from cloud_hub.app.hubctl import texts
from cloud_hub.app.hubctl.hub import TIMEOUT_S
from cloud_hub.app.hubctl.listing import Limit, listed
from cloud_hub.app.hubctl.output import RowFormat
from cloud_hub.app.hubctl.plain import plain
from cloud_hub.app.hubctl.session import Session, of
from cloud_hub.app.hubctl.times import Since, Until, time_ms
from cloud_hub.app.hubctl.watch import watch as watched
from protos.v1 import streams_pb2 as pb

app = typer.Typer(help="Streams: windows over what devices send.")

Name = Annotated[str, typer.Argument(help="Name of the stream.")]
Stream = Annotated[str, typer.Option(help="Of this stream only.")]
Device = Annotated[str, typer.Option(help="Of this device only.")]
Output = Annotated[RowFormat | None, typer.Option(help="table, json (one line each) or csv; default: the global one.")]

_WINDOW = ("end", "stream", "device_id", "origin", "key", "readings", "values", "condition", "complete")


@app.command()
def put(
    context: typer.Context,
    file: Annotated[Path, typer.Option("--file", "-f", help="YAML file; - for standard input.")],
) -> None:
    """Make or replace the streams that a file names; they see what comes from now on."""
    session = of(context)
    yaml = texts.read(file)
    with session.hub() as hub:
        stored = hub.streams.PutStreams(pb.PutStreamsRequest(yaml=yaml), timeout=TIMEOUT_S)
    names = ", ".join(stream.name for stream in stored.streams)
    session.out.done(f"stored {names}", plain(stored))


@app.command("list")
def list_(context: typer.Context) -> None:
    """List streams by name."""
    session = of(context)
    with session.hub() as hub:
        found = hub.streams.ListStreams(pb.ListStreamsRequest(), timeout=TIMEOUT_S).streams
    session.out.rows(map(plain, found), ("name", "across_fleet", "updated_at"), empty="no streams")


@app.command()
def get(context: typer.Context, name: Name) -> None:
    """Print a stream's YAML."""
    session = of(context)
    with session.hub() as hub:
        stored = hub.streams.GetStream(pb.GetStreamRequest(name=name), timeout=TIMEOUT_S)
    session.out.done(stored.yaml.rstrip("\n"), plain(stored))


@app.command()
def delete(context: typer.Context, name: Name) -> None:
    """Delete a stream with its open windows; closed ones stay until they are old."""
    session = of(context)
    with session.hub() as hub:
        gone = hub.streams.DeleteStream(pb.GetStreamRequest(name=name), timeout=TIMEOUT_S)
    session.out.done(f"deleted {gone.name}", plain(gone))


@app.command()
def windows(
    context: typer.Context,
    stream: Stream = "",
    device: Device = "",
    since: Since = "",
    until: Until = "",
    limit: Limit = 100,
    output: Output = None,
) -> None:
    """List closed windows, newest first in the order they closed: the hub's own, and those that devices made."""
    session = of(context)
    request = pb.ListStreamWindowsRequest(stream=stream, device_id=device, since_ms=time_ms(since), until_ms=time_ms(until))
    with session.hub() as hub:
        found = listed(hub.streams.ListWindows, request, "windows", limit)
    if _format(session, output) is RowFormat.CSV:
        session.out.csv(_flat(found))
    elif output is RowFormat.JSON:
        for row in found:
            session.out.line(row)
    else:
        session.out.rows(found, _WINDOW, empty="no windows")


@app.command()
def watch(context: typer.Context, stream: Stream = "", device: Device = "") -> None:
    """Print windows as they close, until interrupted; --output json gives a line each."""
    session = of(context)
    with session.hub() as hub:
        for row in _closing(hub, stream, device):
            session.out.each(_sentence(row), row)


def _closing(hub: Any, stream: str, device: str) -> Iterator[dict[str, Any]]:
    """None is told twice and none is left out when the hub goes and comes again."""
    request = pb.WatchStreamWindowsRequest(stream=stream, device_id=device)
    for reply in watched(lambda: hub.streams.WatchWindows(request)):
        request.after_number = reply.number
        yield from map(plain, reply.windows)


def _sentence(row: dict[str, Any]) -> str:
    whose = " ".join(part for part in (row["device_id"] or "fleet", row["key"]) if part)
    values = " ".join(f"{name}={value:.4g}" for name, value in row["values"].items())
    marks = [row["condition"] or "", "" if row["complete"] else "incomplete"]
    return " ".join(part for part in (row["end"], row["stream"], whose, f"n={row['readings']}", values, *marks) if part)


def _flat(rows: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """A column for each aggregate of any row; histograms are left to JSON."""
    names = sorted({name for row in rows for name in row["values"]})
    for row in rows:
        plain_fields = {name: value for name, value in row.items() if name not in ("values", "histograms")}
        yield plain_fields | {name: row["values"].get(name) for name in names}


def _format(session: Session, output: RowFormat | None) -> RowFormat:
    return output or (RowFormat.JSON if session.out.json else RowFormat.TABLE)
