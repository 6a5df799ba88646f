"""``hubctl telemetry``: what devices said."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer

from cloud_hub.app.hubctl.hub import TIMEOUT_S
from cloud_hub.app.hubctl.output import RowFormat
from cloud_hub.app.hubctl.plain import plain
from cloud_hub.app.hubctl.session import of
from protos.contract.telemetry import to_ms
from protos.v1 import telemetry_service_pb2 as pb

app = typer.Typer(help="Readings, events and what had to be quarantined.")

Device = Annotated[str, typer.Option(help="Of this device only.")]
Limit = Annotated[int, typer.Option(min=1, max=1000, help="Rows at most.")]
_AGO = re.compile(r"(\d{1,9})([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_READING = ("captured_at", "device_id", "lane", "sequence", "label_name", "confidence", "latency_ms", "captured", "uncertain")


@app.command()
def query(
    context: typer.Context,
    device: Device = "",
    since: Annotated[str, typer.Option(help="ISO 8601 time, or how long ago: 90s, 15m, 2h, 7d. Default: the beginning.")] = "",
    until: Annotated[str, typer.Option(help="As --since; exclusive. Default: now.")] = "",
    limit: Annotated[int, typer.Option(min=0, help="Readings at most; 0: as many as the hub gives.")] = 1000,
    output: Annotated[
        RowFormat | None, typer.Option(help="table, json (one line each) or csv; default: the global one.")
    ] = None,
) -> None:
    """Print readings in the order of their time per device."""
    session = of(context)
    request = pb.QueryReadingsRequest(device_id=device, since_ms=_time(since), until_ms=_time(until), limit=limit)
    chosen = output or (RowFormat.JSON if session.out.json else RowFormat.TABLE)
    with session.hub() as hub:
        rows: Iterator[dict[str, Any]] = (
            plain(reading) for page in hub.telemetry.QueryReadings(request) for reading in page.readings
        )
        if chosen is RowFormat.CSV:
            session.out.csv(rows)
        elif chosen is RowFormat.JSON:
            for row in rows:
                session.out.line(row)
        else:
            session.out.table(rows, _READING)


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
def events(context: typer.Context, device: Device = "", limit: Limit = 100) -> None:
    """List what happened on devices, newest first."""
    session = of(context)
    with session.hub() as hub:
        found = hub.telemetry.ListEvents(pb.ListEventsRequest(device_id=device, limit=limit), timeout=TIMEOUT_S).events
    session.out.rows(map(plain, found), ("at", "device_id", "kind", "detail"), empty="no events")


@app.command()
def quarantine(context: typer.Context, limit: Limit = 100) -> None:
    """List messages the hub could not use, with the reason."""
    session = of(context)
    with session.hub() as hub:
        found = hub.telemetry.ListQuarantine(pb.ListQuarantineRequest(limit=limit), timeout=TIMEOUT_S).messages
    session.out.rows(
        map(plain, found), ("id", "topic", "reason", "count", "first_at", "last_at"), empty="nothing in quarantine"
    )


def _time(text: str) -> int:
    """Milliseconds; 0 for none. Raises typer.BadParameter."""
    if not text:
        return 0
    try:
        if ago := _AGO.fullmatch(text):
            at = datetime.now(UTC) - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
        else:
            at = datetime.fromisoformat(text)
        return to_ms(at if at.tzinfo else at.replace(tzinfo=UTC))
    except (ValueError, OverflowError) as error:
        raise typer.BadParameter(
            f"a time is ISO 8601 (2026-01-31T12:00:00Z) or an age (90s, 15m, 2h, 7d), got {text!r}"
        ) from error
