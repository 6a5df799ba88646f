"""``hubctl telemetry quarantine``: messages the hub could not use."""

from pathlib import Path
from typing import Annotated

import typer

from cloud_hub.app.hubctl.failure import ExitCode, Failure, refused
from cloud_hub.app.hubctl.hub import TIMEOUT_S
from cloud_hub.app.hubctl.plain import plain
from cloud_hub.app.hubctl.session import of
from protos.v1 import telemetry_service_pb2 as pb

app = typer.Typer(help="Messages the hub could not use.", no_args_is_help=True)

_COLUMNS = ("id", "topic", "reason", "count", "first_at", "last_at")
_REPLAY_TIMEOUT_S = 600.0


@app.command("list")
def list_(context: typer.Context, limit: Annotated[int, typer.Option(min=1, max=1000, help="Rows at most.")] = 100) -> None:
    """List them with the reason, newest first."""
    session = of(context)
    with session.hub() as hub:
        found = hub.telemetry.ListQuarantine(pb.ListQuarantineRequest(limit=limit), timeout=TIMEOUT_S).messages
    session.out.rows(map(plain, found), _COLUMNS, empty="nothing in quarantine")


@app.command()
def show(
    context: typer.Context,
    id: Annotated[int, typer.Argument(min=1, help="As the list gives it.")],
    payload: Annotated[Path | None, typer.Option(dir_okay=False, help="Write the message's bytes to this file.")] = None,
) -> None:
    """Show one message; JSON holds its bytes in base64."""
    session = of(context)
    with session.hub() as hub:
        message = hub.telemetry.GetQuarantined(pb.GetQuarantinedRequest(id=id), timeout=TIMEOUT_S)
    if payload is not None:
        try:
            payload.write_bytes(message.payload)
        except OSError as error:
            raise refused(f"cannot write {payload}: {error.strerror}") from error
        session.out.note(f"{len(message.payload)} bytes written to {payload}")
    found = plain(message)
    if not session.out.json:
        found["payload"] = f"{len(message.payload)} bytes: {message.payload[:32].hex(' ')}"
    session.out.record(found)


@app.command()
def replay(
    context: typer.Context,
    ids: Annotated[list[int] | None, typer.Argument(min=1, help="Which messages.")] = None,
    all: Annotated[bool, typer.Option("--all", help="All telemetry in quarantine.")] = False,
) -> None:
    """Take messages in as if they had just come; what still cannot be used stays, and the command fails."""
    if bool(ids) == all:
        raise typer.BadParameter("give ids, or --all")
    session = of(context)
    with session.hub() as hub:
        reply = hub.telemetry.ReplayQuarantined(pb.ReplayQuarantinedRequest(ids=ids or []), timeout=_REPLAY_TIMEOUT_S)
    session.out.done(f"taken in: {reply.replayed}", plain(reply))
    for one in reply.refused:
        session.out.note(f"{one.id} stays: {one.reason}")
    if reply.refused:
        raise Failure(f"{len(reply.refused)} messages stay in quarantine", ExitCode.REFUSED)
