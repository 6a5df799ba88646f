"""``hubctl token``: bearer tokens, for where a certificate is too much."""

from pathlib import Path
from typing import Annotated

import typer

from cloud_hub.app.hubctl import identity
from cloud_hub.app.hubctl.hub import TIMEOUT_S
from cloud_hub.app.hubctl.plain import plain
from cloud_hub.app.hubctl.session import of
from cloud_hub.app.hubctl.times import span_ms
from protos.v1 import admin_pb2 as pb

app = typer.Typer(help="Bearer tokens: what a user may do, or less, for a time.")

_COLUMNS = ("id", "user", "scope", "created_at", "expires_at", "revoked_at", "used_at", "note")


@app.command()
def create(
    context: typer.Context,
    user: Annotated[str, typer.Option(help="Whose; default: your own. For others: admins only.")] = "",
    scope: Annotated[str, typer.Option(help="A role that is not above the user's; default: all that it may be.")] = "",
    ttl: Annotated[str, typer.Option(help="How long it is good: 1h, 30d; default: the hub's.")] = "",
    note: Annotated[str, typer.Option(help="What it is for.")] = "",
    out: Annotated[
        Path | None, typer.Option(help="Folder for token, ca.pem and hubctl.yaml, only for you; default: the token is shown.")
    ] = None,
) -> None:
    """Make a token. The hub shows it once and keeps only its digest."""
    session = of(context)
    ttl_s = max(1, span_ms(ttl) // 1000) if ttl else 0
    folder = identity.new_folder(out) if out is not None else None
    with session.hub() as hub:
        request = pb.CreateTokenRequest(user=user, scope=scope, ttl_s=ttl_s, note=note)
        reply = hub.admin.CreateToken(request, timeout=TIMEOUT_S)
    found = {**plain(reply.token), "address": reply.address}
    if folder is None:
        session.out.record({**found, "secret": reply.secret})
        return
    files = {"token": reply.secret + "\n", "ca.pem": session.ca_pem.decode()}
    config = identity.write(folder, files, {"hub": reply.address, "ca": "ca.pem", "token_file": "token"})
    session.out.done(f"token {reply.token.id} in {folder}: use it with --config {config}", {**found, "config": str(config)})


@app.command("list")
def list_(context: typer.Context, user: Annotated[str, typer.Option(help="Of this user only.")] = "") -> None:
    """List tokens, newest first: your own, and for admins everyone's."""
    session = of(context)
    with session.hub() as hub:
        found = hub.admin.ListTokens(pb.ListTokensRequest(user=user), timeout=TIMEOUT_S).tokens
    session.out.rows(map(plain, found), _COLUMNS, empty="no tokens")


@app.command()
def revoke(context: typer.Context, id: Annotated[str, typer.Argument(help="Its public id, as `token list` shows it.")]) -> None:
    """End a token at once, on open connections too."""
    session = of(context)
    with session.hub() as hub:
        gone = plain(hub.admin.RevokeToken(pb.RevokeTokenRequest(id=id), timeout=TIMEOUT_S))
    session.out.done(f"revoked token {id} of {gone['user']}", gone)
