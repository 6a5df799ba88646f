"""``hubctl user`` and ``hubctl whoami``: who may administer the fleet."""

from pathlib import Path
from typing import Annotated

import typer

from cloud_hub.app.hubctl import identity
from cloud_hub.app.hubctl.hub import TIMEOUT_S
from cloud_hub.app.hubctl.listing import Limit, listed
from cloud_hub.app.hubctl.plain import plain
from cloud_hub.app.hubctl.session import of
from protos.v1 import admin_pb2 as pb

app = typer.Typer(help="Users, their roles and certificates.")

Name = Annotated[str, typer.Argument(help="User name.")]
_ROLES = "viewer, labeller, operator, releaser or admin"
_COLUMNS = ("name", "role", "disabled", "created_at")


@app.command()
def create(context: typer.Context, name: Name, role: Annotated[str, typer.Option(help=f"{_ROLES}.")]) -> None:
    """Add a user to your tenant; `user certificate` or `token create` lets the user in."""
    session = of(context)
    with session.hub() as hub:
        made = plain(hub.admin.CreateUser(pb.CreateUserRequest(name=name, role=role), timeout=TIMEOUT_S))
    session.out.done(f"created {role} {name} in tenant {made['tenant']}", made)


@app.command("list")
def list_(context: typer.Context, limit: Limit = 0) -> None:
    """List the users of your tenant."""
    session = of(context)
    with session.hub() as hub:
        found = listed(hub.admin.ListUsers, pb.ListUsersRequest(), "users", limit)
    session.out.rows(found, _COLUMNS, empty="no users")


@app.command()
def get(context: typer.Context, name: Name) -> None:
    """Show one user."""
    session = of(context)
    with session.hub() as hub:
        session.out.record(plain(hub.admin.GetUser(pb.GetUserRequest(name=name), timeout=TIMEOUT_S)))


@app.command()
def update(context: typer.Context, name: Name, role: Annotated[str, typer.Option(help=f"{_ROLES}.")]) -> None:
    """Change a user's role; open connections follow within a second."""
    session = of(context)
    with session.hub() as hub:
        changed = plain(hub.admin.UpdateUser(pb.UpdateUserRequest(name=name, role=role), timeout=TIMEOUT_S))
    session.out.done(f"{name} is {changed['role']}", changed)


@app.command()
def disable(context: typer.Context, name: Name) -> None:
    """Let a user do nothing, until enabled again; certificates and tokens are kept."""
    _set_disabled(context, name, True)


@app.command()
def enable(context: typer.Context, name: Name) -> None:
    """Let a disabled user in again."""
    _set_disabled(context, name, False)


@app.command()
def certificate(
    context: typer.Context,
    name: Name,
    out: Annotated[Path, typer.Option(help="Folder for key.pem, cert.pem, ca.pem and hubctl.yaml; only you can read it.")],
    days: Annotated[int, typer.Option(min=0, help="How long it is good; 0: the hub's default.")] = 0,
) -> None:
    """Make a key here and have the hub sign it; the key leaves this machine only if you carry it."""
    session = of(context)
    key_pem, csr_pem = identity.make_key()
    folder = identity.new_folder(out)
    with session.hub() as hub:
        request = pb.IssueCertificateRequest(name=name, csr_pem=csr_pem, days=days)
        reply = hub.admin.IssueCertificate(request, timeout=TIMEOUT_S)
    files = {"key.pem": key_pem, "cert.pem": reply.certificate_pem, "ca.pem": reply.ca_pem}
    config = identity.write(folder, files, {"hub": reply.address, "ca": "ca.pem", "cert": "cert.pem", "key": "key.pem"})
    session.out.done(f"identity of {name} in {folder}: use it with --config {config}", {"user": name, "config": str(config)})


@app.command()
def revoke(context: typer.Context, name: Name, reason: Annotated[str, typer.Option(help="For the record.")] = "") -> None:
    """End every certificate of a user at once, on open connections too; tokens: `hubctl token revoke`."""
    session = of(context)
    with session.hub() as hub:
        request = pb.RevokeCertificatesRequest(name=name, reason=reason)
        count = hub.admin.RevokeCertificates(request, timeout=TIMEOUT_S).revoked
    session.out.done(f"revoked {count} certificates of {name}", {"user": name, "revoked": count})


def whoami(context: typer.Context) -> None:
    """Show who you are to the hub, and what you may do."""
    session = of(context)
    with session.hub() as hub:
        session.out.record(plain(hub.admin.WhoAmI(pb.WhoAmIRequest(), timeout=TIMEOUT_S)))


def _set_disabled(context: typer.Context, name: str, disabled: bool) -> None:
    session = of(context)
    with session.hub() as hub:
        changed = plain(hub.admin.UpdateUser(pb.UpdateUserRequest(name=name, disabled=disabled), timeout=TIMEOUT_S))
    session.out.done(f"{'disabled' if disabled else 'enabled'} {name}", changed)
