"""``hubctl shadow``: a version beside the model that runs, on a share of the frames."""

from typing import Annotated, Any

import typer

from cloud_hub.app.hubctl.hub import TIMEOUT_S
from cloud_hub.app.hubctl.listing import Limit, listed
from cloud_hub.app.hubctl.plain import plain
from cloud_hub.app.hubctl.session import of, pairs
from protos.v1 import fleet_pb2
from protos.v1 import shadows_pb2 as pb

app = typer.Typer(help="Challengers: versions that look at a share of the frames, and decide nothing.")

_LONG_S = 10 * TIMEOUT_S  # thousands of devices are asked one by one
Name = Annotated[str, typer.Argument(help="Model name.")]
Select = Annotated[list[str] | None, typer.Option(help="KEY=VALUE over labels, id, board or model; none: every device.")]


@app.command()
def start(
    context: typer.Context,
    name: Name,
    version: Annotated[int, typer.Option(help="Version number.")],
    select: Select = None,
    target: Annotated[str, typer.Option(help="A variant of it, as onnx-fp32; none: the one the device would run.")] = "",
    share: Annotated[float, typer.Option(min=0.0001, max=1.0, help="Of the frames.")] = 0.1,
    max_share_of_time: Annotated[float, typer.Option(min=0.0001, max=1.0, help="Of the device's inference time.")] = 0.25,
    limit: Annotated[int, typer.Option(min=0, help="Devices at most; 0: all that match.")] = 0,
) -> None:
    """Give the matching devices this challenger, in place of the one they have."""
    session = of(context)
    request = pb.StartShadowRequest(
        model=name,
        version=version,
        selector=fleet_pb2.Selector(match=pairs(select or (), "--select")),
        target=target,
        share=share,
        max_share_of_time=max_share_of_time,
        limit=limit,
    )
    with session.hub() as hub:
        reply = hub.shadows.StartShadow(request, timeout=_LONG_S)
    session.out.done(f"{name} version {version} is the challenger on {reply.devices} devices", plain(reply))
    if not session.out.json and reply.passed_over:
        session.out.rows(map(plain, reply.passed_over), ("device_id", "reason"), empty="")


@app.command()
def stop(
    context: typer.Context,
    name: Name,
    version: Annotated[int, typer.Option(help="Version number; 0: whichever there is.")] = 0,
    select: Select = None,
) -> None:
    """Take the challenger off the matching devices; what it did stays to be read."""
    session = of(context)
    selector = fleet_pb2.Selector(match=pairs(select or (), "--select"))
    with session.hub() as hub:
        reply = hub.shadows.StopShadow(pb.StopShadowRequest(model=name, version=version, selector=selector), timeout=_LONG_S)
    session.out.done(f"the challenger of {name} is off {reply.devices} devices", plain(reply))


@app.command()
def status(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Model name; none: every challenger.")] = "",
    version: Annotated[int, typer.Option(help="Version number.")] = 0,
    limit: Limit = 100,
) -> None:
    """How challengers do: all of them, or one with its devices."""
    if bool(name) != bool(version):
        raise typer.BadParameter("give a model's name and --version, or neither")
    session = of(context)
    with session.hub() as hub:
        if not name:
            shadows = hub.shadows.ListShadows(pb.ListShadowsRequest(), timeout=TIMEOUT_S).shadows
            columns = ("model", "version", "active", "reporting", "troubled", "frames", "agreement", "captured", "started_at")
            session.out.rows(map(_totals, shadows), columns, empty="no challengers")
            return
        total = hub.shadows.GetShadow(pb.GetShadowRequest(model=name, version=version, page_size=1), timeout=TIMEOUT_S).total
        devices = listed(hub.shadows.GetShadow, pb.GetShadowRequest(model=name, version=version), "devices", limit)
    if session.out.json:
        session.out.document({"total": _totals(total), "devices": devices})
        return
    session.out.record(_totals(total))
    session.out.rows(map(_device, devices), _DEVICE, empty="no devices")


_DEVICE = (
    "device_id", "target", "state", "frames", "agreement", "champion_confidence", "challenger_confidence", "champion_p95_ms",
    "challenger_p95_ms", "skipped", "errors", "captured", "problem",
)  # fmt: skip


def _totals(shadow: pb.Shadow) -> dict[str, Any]:
    values = plain(shadow)
    return values | {"agreement": _share(values["agreed"], values["frames"])}


def _device(device: dict[str, Any]) -> dict[str, Any]:
    report = device["report"] or {}
    state = "stopped" if device["stopped_at"] else "unheard" if not report else "troubled" if report["problem"] else "compares"
    return device | report | {"state": state, "agreement": _share(report.get("agreed", 0), report.get("frames", 0))}


def _share(agreed: int, frames: int) -> float | None:
    """None: nothing was compared."""
    return round(agreed / frames, 4) if frames else None
