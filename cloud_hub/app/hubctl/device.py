"""``hubctl device`` and ``hubctl board``."""

import json
import os
from pathlib import Path
from typing import Annotated, Any

import typer

import firmware_images
from cloud_hub.app.hubctl.failure import refused
from cloud_hub.app.hubctl.hub import TIMEOUT_S
from cloud_hub.app.hubctl.listing import listed
from cloud_hub.app.hubctl.plain import plain
from cloud_hub.app.hubctl.session import of, pairs
from protos.v1 import fleet_pb2 as pb

app = typer.Typer(help="Devices and their twins.")
boards = typer.Typer(help="Hardware that models are built for.")

Id = Annotated[str, typer.Argument(help="Device id.")]


@app.command()
def create(
    context: typer.Context,
    id: Id,
    board: Annotated[str, typer.Option(help="See `hubctl board list`.")],
    label: Annotated[list[str] | None, typer.Option(help="KEY=VALUE; repeat for more.")] = None,
    ticket: Annotated[Path | None, typer.Option(help="Write what `edge-agent enroll --ticket` needs here, mode 0600.")] = None,
    token_ttl: Annotated[int, typer.Option(help="Seconds the token lives; 0: the hub's default.")] = 0,
) -> None:
    """Register a device and get its one-time enrolment token."""
    session = of(context)
    request = pb.CreateDeviceRequest(id=id, board=board, labels=pairs(label or (), "--label"), token_ttl_s=token_ttl)
    with session.hub() as hub:
        if ticket is None:
            reply = hub.fleet.CreateDevice(request, timeout=TIMEOUT_S)
            found = plain(reply)
            if not session.out.json:
                del found["ca_pem"]  # for files, not for eyes
            session.out.record(found)
            return
        with _Ticket(ticket) as file:
            reply = hub.fleet.CreateDevice(request, timeout=TIMEOUT_S)
            file.write(reply)
    session.out.done(f"created device {id}; ticket in {ticket}", {"device": plain(reply.device), "ticket": str(ticket)})


@app.command("list")
def list_(
    context: typer.Context,
    select: Annotated[
        list[str] | None, typer.Option(help="KEY=VALUE over labels, id, board or model; repeat for more.")
    ] = None,
) -> None:
    """List devices."""
    session = of(context)
    with session.hub() as hub:
        selector = pb.Selector(match=pairs(select or (), "--select"))
        devices = listed(hub.fleet.ListDevices, pb.ListDevicesRequest(selector=selector), "devices")
    columns = ("id", "board", "labels", "enrolled", "presence", "last_seen", "model", "update")
    rows = devices if session.out.json else map(_row, devices)
    session.out.rows(rows, columns, empty="no devices")


@app.command()
def get(context: typer.Context, id: Id) -> None:
    """Show one device with its desired and reported twin."""
    session = of(context)
    with session.hub() as hub:
        session.out.record(plain(hub.fleet.GetDevice(pb.GetDeviceRequest(id=id), timeout=TIMEOUT_S)))


@app.command()
def label(
    context: typer.Context,
    id: Id,
    changes: Annotated[list[str], typer.Argument(help="KEY=VALUE sets a label, KEY- removes it.")],
) -> None:
    """Change labels; the others stay."""
    session = of(context)
    gone = {change.removesuffix("-") for change in changes if "=" not in change and change.endswith("-")}
    new = pairs((change for change in changes if "=" in change or not change.endswith("-")), "label")
    with session.hub() as hub:
        now = dict(hub.fleet.GetDevice(pb.GetDeviceRequest(id=id), timeout=TIMEOUT_S).labels)
        labels = {key: value for key, value in (now | new).items() if key not in gone}
        device = plain(hub.fleet.UpdateDevice(pb.UpdateDeviceRequest(id=id, labels=labels), timeout=TIMEOUT_S))
    session.out.done(f"labels of {id}: " + (" ".join(f"{k}={v}" for k, v in device["labels"].items()) or "none"), device)


@app.command()
def delete(context: typer.Context, id: Id) -> None:
    """Remove a device; its certificate is refused from now on."""
    session = of(context)
    with session.hub() as hub:
        hub.fleet.DeleteDevice(pb.DeleteDeviceRequest(id=id), timeout=TIMEOUT_S)
    session.out.done(f"deleted device {id}", {"deleted": id})


@boards.command("list")
def list_boards(context: typer.Context) -> None:
    """List the boards this version knows; needs no hub."""
    known = sorted(firmware_images.boards().values(), key=lambda board: board.name)
    columns = ("name", "kind", "architecture", "runtimes", "memory_mb", "storage_mb", "max_model_bytes", "description")
    rows = [{name: getattr(board, name) for name in columns} | {"runtimes": list(board.runtimes)} for board in known]
    of(context).out.rows(rows, columns, empty="no boards")


def _row(device: dict[str, Any]) -> dict[str, Any]:
    reported = device["reported"] or {}
    model, update = reported.get("model"), reported.get("update")
    return {
        **device,
        "model": f"{model['name']}:{model['version']}" if model else None,
        "update": update["state"] if update else None,
    }


class _Ticket:
    """A file that is made before the hub is asked, so that a token is never lost to a full or foreign folder."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._written = False

    def __enter__(self) -> "_Ticket":
        try:
            self._descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError as error:
            raise refused(f"{self._path} exists already: name a new file, or remove it") from error
        return self

    def write(self, reply: pb.CreateDeviceReply) -> None:
        ticket = {
            "device_id": reply.device.id,
            "board": reply.device.board,
            "token": reply.token,
            "ca_pem": reply.ca_pem,
            "enroll_address": reply.enroll_address,
        }
        os.write(self._descriptor, (json.dumps(ticket, indent=2) + "\n").encode())
        os.fsync(self._descriptor)
        self._written = True

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)
        if not self._written:
            self._path.unlink(missing_ok=True)
