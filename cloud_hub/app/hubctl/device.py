"""``hubctl device`` and ``hubctl board``."""

import base64
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

import firmware_images
from cloud_hub.app.hubctl.failure import refused
from cloud_hub.app.hubctl.hub import TIMEOUT_S, Hub
from cloud_hub.app.hubctl.listing import listed
from cloud_hub.app.hubctl.plain import plain
from cloud_hub.app.hubctl.session import Session, of, pairs
from protos.v1 import fleet_pb2 as pb

app = typer.Typer(help="Devices and their twins.")
boards = typer.Typer(help="Hardware that models are built for.")

Id = Annotated[str, typer.Argument(help="Device id.")]
TicketFile = Annotated[Path | None, typer.Option(help="Write what `edge-agent enroll --ticket` needs here, mode 0600.")]
TokenTtl = Annotated[int, typer.Option(help="Seconds the token lives; 0: the hub's default.")]
Approval = Annotated[bool, typer.Option("--approval", help="The token alone is not enough: an admin must `approve` the key.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


@app.command()
def create(
    context: typer.Context,
    id: Id,
    board: Annotated[str, typer.Option(help="See `hubctl board list`.")],
    label: Annotated[list[str] | None, typer.Option(help="KEY=VALUE; repeat for more.")] = None,
    ticket: TicketFile = None,
    token_ttl: TokenTtl = 0,
    approval: Approval = False,
) -> None:
    """Register a device and get its one-time enrolment token."""
    labels = pairs(label or (), "--label")
    request = pb.CreateDeviceRequest(id=id, board=board, labels=labels, token_ttl_s=token_ttl, needs_approval=approval)
    _hand_out(of(context), lambda hub: hub.fleet.CreateDevice(request, timeout=TIMEOUT_S), ticket, f"created device {id}")


@app.command()
def enroll(
    context: typer.Context, id: Id, ticket: TicketFile = None, token_ttl: TokenTtl = 0, approval: Approval = False
) -> None:
    """Get a new token for a registered device; certificates it has stay good until the token is used."""
    request = pb.EnrollDeviceRequest(id=id, token_ttl_s=token_ttl, needs_approval=approval)
    _hand_out(of(context), lambda hub: hub.fleet.EnrollDevice(request, timeout=TIMEOUT_S), ticket, f"new token for {id}")


@app.command()
def approve(
    context: typer.Context,
    id: Id,
    fingerprint: Annotated[
        str, typer.Argument(help="As the device shows it. Without it the one that waits is shown, and you are asked.")
    ] = "",
) -> None:
    """Let the key that waits have its certificate, if it is the device's own."""
    session = of(context)
    with session.hub() as hub:
        if not fingerprint:
            fingerprint = hub.fleet.GetDevice(pb.GetDeviceRequest(id=id), timeout=TIMEOUT_S).pending_fingerprint
            if not fingerprint:
                raise refused(f"no key of {id} waits for approval: start `edge-agent enroll` on the device first")
            _confirm(f"The key that waits is {fingerprint}. Does the device itself show the same?")
        request = pb.ApproveDeviceRequest(id=id, fingerprint=fingerprint)
        device = hub.fleet.ApproveDevice(request, timeout=TIMEOUT_S)
    session.out.done(f"approved {id}: it gets its certificate when it asks again", plain(device))


@app.command()
def revoke(
    context: typer.Context,
    id: Id,
    reason: Annotated[str, typer.Option(help="For the audit log and for whoever looks at the device.")] = "",
    yes: Yes = False,
) -> None:
    """End every certificate and token of a device at once; it stays registered."""
    session = of(context)
    if not yes:
        _confirm(f"{id} will be cut off until it is enrolled anew, on the device itself. Revoke it?")
    with session.hub() as hub:
        device = hub.fleet.RevokeDevice(pb.RevokeDeviceRequest(id=id, reason=reason), timeout=TIMEOUT_S)
    session.out.done(f"revoked {id}", plain(device))


@app.command()
def rotate(context: typer.Context, id: Id) -> None:
    """Ask a device to renew its certificate now, with a new key."""
    session = of(context)
    with session.hub() as hub:
        device = hub.fleet.RotateDevice(pb.RotateDeviceRequest(id=id), timeout=TIMEOUT_S)
    session.out.done(f"asked {id} to renew its certificate", plain(device))


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
    columns = ("id", "board", "labels", "certificate", "presence", "last_seen", "model", "update")
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
        "certificate": _certificate(device),
        "model": f"{model['name']}:{model['version']}" if model else None,
        "update": update["state"] if update else None,
    }


def _certificate(device: dict[str, Any]) -> str | None:
    if device["pending_fingerprint"]:
        return "waits for approval"
    credential = device["credential"]
    if credential is None:
        return None
    return "revoked" if credential["revoked_at"] else f"until {credential['expires_at'][:10]}"


def _confirm(question: str) -> None:
    """Asked on stderr, for stdout may be a script's. Where nobody answers, the answer is no."""
    typer.echo(f"{question} [y/N] ", nl=False, err=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise refused("not confirmed: nothing was done")


def _hand_out(session: Session, ask: Callable[[Hub], pb.CreateDeviceReply], ticket: Path | None, done: str) -> None:
    """Print the token, or write it into a ticket."""
    with session.hub() as hub:
        if ticket is None:
            reply = ask(hub)
            found = plain(reply)
            if not session.out.json:
                found = {"token": reply.token, "enroll_address": reply.enroll_address, "device": found["device"]}
            session.out.record(found)  # certificates and roots are for files, not for eyes
            return
        with _Ticket(ticket) as file:
            reply = ask(hub)
            file.write(reply)
    if not reply.image_root:
        session.out.note("the hub has no trust roots yet (`hubctl trust init`): with this ticket a device takes no updates")
    session.out.done(f"{done}; ticket in {ticket}", {"device": plain(reply.device), "ticket": str(ticket)})


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
            "image_root": base64.b64encode(reply.image_root).decode(),
            "director_root": base64.b64encode(reply.director_root).decode(),
        }
        os.write(self._descriptor, (json.dumps(ticket, indent=2) + "\n").encode())
        os.fsync(self._descriptor)
        self._written = True

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)
        if not self._written:
            self._path.unlink(missing_ok=True)
