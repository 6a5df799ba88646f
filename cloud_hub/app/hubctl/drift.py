"""``hubctl drift``: episodes and windows."""

from typing import Annotated

import typer

from cloud_hub.app.hubctl.hub import TIMEOUT_S
from cloud_hub.app.hubctl.listing import Limit, listed
from cloud_hub.app.hubctl.plain import plain
from cloud_hub.app.hubctl.session import of
from protos.v1 import drift_pb2 as pb

app = typer.Typer(help="Drift of what devices see away from what their model was validated on.")

Model = Annotated[str, typer.Option(help="Of this model only.")]


@app.command()
def episodes(
    context: typer.Context,
    model: Model = "",
    open: Annotated[bool, typer.Option("--open", help="Open ones only.")] = False,
    limit: Limit = 100,
) -> None:
    """List drift episodes, newest first."""
    session = of(context)
    with session.hub() as hub:
        found = listed(hub.drift.ListEpisodes, pb.ListEpisodesRequest(model=model, open_only=open), "episodes", limit)
    columns = ("id", "device_id", "model", "version", "opened_at", "closed_at", "job_id", "reason")
    session.out.rows(found, columns, empty="no drift")


@app.command()
def windows(
    context: typer.Context,
    model: Model = "",
    device: Annotated[str, typer.Option(help="Of this device only.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Rows at most.")] = 100,
) -> None:
    """List judged windows, newest first."""
    session = of(context)
    request = pb.ListWindowsRequest(model=model, device_id=device, limit=limit)
    with session.hub() as hub:
        found = hub.drift.ListWindows(request, timeout=TIMEOUT_S).windows
    columns = (
        "start",
        "end",
        "device_id",
        "model",
        "version",
        "readings",
        "label_psi",
        "confidence_psi",
        "confidence_shift",
        "drifted",
    )
    session.out.rows(map(plain, found), columns, empty="no windows")
