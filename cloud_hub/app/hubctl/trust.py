"""``hubctl trust``: the keys behind what devices believe. Root keys are made and used here; the hub never sees one."""

import os
import sys
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import grpc
import typer

from cloud_hub.app.hubctl.failure import refused
from cloud_hub.app.hubctl.hub import TIMEOUT_S
from cloud_hub.app.hubctl.plain import plain
from cloud_hub.app.hubctl.session import Session, of
from protos.v1 import trust_pb2 as pb

app = typer.Typer(help="Root keys, signing keys, and what devices can verify.")

ENV_PASSPHRASE = "TIDELINE_ROOT_PASSPHRASE"

Keys = Annotated[Path, typer.Option("--keys", file_okay=False, help="Folder of the root keys.")]
RootFile = Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="As 'hubctl trust rotate' wrote it.")]


class OnlineName(StrEnum):
    TIMESTAMP = "timestamp"
    SNAPSHOT = "snapshot"
    TARGETS = "targets"
    BINS = "bins"
    DIRECTOR = "director"
    ALL = "all"


@app.command()
def init(
    context: typer.Context,
    keys: Annotated[Path, typer.Option("--keys", file_okay=False, help="New folder for the three root keys.")],
) -> None:
    """Make three root keys and the first roots. From then on the hub can sign releases, and devices can verify them.

    The keys are encrypted with the passphrase in $TIDELINE_ROOT_PASSPHRASE, or the one that is asked for on a terminal.
    """
    from cloud_hub.app.hubctl import roots

    session = of(context)
    with session.hub() as hub:
        drafts, files = roots.first(hub, keys, _new_passphrase(session), datetime.now(UTC))
        try:
            status = roots.put(hub, drafts)
        except grpc.RpcError:
            session.out.note(f"the keys stay in {keys}: before you remove them, look whether 'hubctl trust status' names them")
            raise
    session.out.done("the hub can sign releases now", {**_document(status), "keys": [str(file) for file in files]})
    session.out.note("Three root keys were made; any two of them together decide what every device believes:")
    for file in files:
        session.out.note(f"  {file}")
    session.out.note(
        "Move each to a place of its own that is not on the network, such as three USB sticks with three people; leave none "
        "here. One may be lost or stolen: replace it with 'hubctl trust rotate --replace'. With two lost, every device has to "
        "be enrolled anew. They are needed again before the roots expire, in a year."
    )


@app.command()
def rotate(
    context: typer.Context,
    keys: Keys,
    online: Annotated[
        list[OnlineName] | None, typer.Option(help="Give the hub a new key for this role; may be repeated.")
    ] = None,
    replace: Annotated[
        list[str] | None, typer.Option(metavar="KEY", help="A root key that goes (its id's beginning); a new one is made.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(dir_okay=False, help="For roots that need more signatures; default: roots-VERSION.json.")
    ] = None,
) -> None:
    """Make the next roots: good for another year, with new keys where asked. Two root keys have to sign.

    With fewer in --keys the roots are saved, to be signed elsewhere with 'hubctl trust sign' and put with 'hubctl trust put'.
    """
    from cloud_hub.app.hubctl import roots

    session = of(context)
    names = [name.value for name in OnlineName if name is not OnlineName.ALL] if OnlineName.ALL in (online or ()) else online
    with session.hub() as hub:
        passphrase = _passphrase(keys, new=bool(replace))
        drafts = roots.following(hub, keys, passphrase, datetime.now(UTC), [str(name) for name in names or ()], replace or ())
        for line in roots.described(drafts):
            session.out.note(line)
        if missing := roots.missing(drafts):
            path = _free(out or Path(f"roots-{roots.version(drafts)}.json"))
            roots.save(path, drafts)
            _tell_missing(session, path, missing)
            return
        status = roots.put(hub, drafts)
    session.out.done(f"roots {roots.version(drafts)} are in force", _document(status))


@app.command()
def sign(context: typer.Context, file: RootFile, keys: Keys) -> None:
    """Sign roots that somebody else made; no hub is needed. What they change is shown: compare it with what was agreed."""
    from cloud_hub.app.hubctl import roots

    session = of(context)
    drafts = roots.load(file)
    for line in roots.described(drafts):
        session.out.note(line)
    roots.sign(drafts, keys, _passphrase(keys))
    roots.save(file, drafts)
    _tell_missing(session, file, roots.missing(drafts))


@app.command()
def put(context: typer.Context, file: RootFile) -> None:
    """Hand signed roots to the hub, which checks every signature and then signs everything with the keys that they name."""
    from cloud_hub.app.hubctl import roots

    session = of(context)
    drafts = roots.load(file)
    with session.hub() as hub:
        status = roots.put(hub, drafts)
    session.out.done(f"roots {roots.version(drafts)} are in force", _document(status))


@app.command()
def status(context: typer.Context) -> None:
    """Show which keys are in force, when metadata expires, and what waits to be signed."""
    session = of(context)
    with session.hub() as hub:
        found = hub.trust.GetTrust(pb.GetTrustRequest(), timeout=TIMEOUT_S)
    document = _document(found)
    if session.out.json:
        session.out.document(document)
        return
    rows = [{**role, "keys": [id[:16] for id in role["key_ids"]]} for role in document["roles"]]
    columns = ("repository", "role", "version", "expires_at", "days_left", "threshold", "keys")
    session.out.rows(rows, columns, empty="no root yet")
    session.out.note(f"{found.targets} targets signed, {found.waiting} waiting")
    if found.problem:
        session.out.note(f"releases cannot be signed: {found.problem}")


def _tell_missing(session: Session, path: Path, missing: int) -> None:
    if missing:
        sentence = (
            f"{path}: {missing} more signature{'s are' if missing > 1 else ' is'} needed; "
            f"next: hubctl trust sign {path} --keys DIR, where another root key is"
        )
    else:
        sentence = f"{path}: every signature is there; next: hubctl trust put {path}"
    session.out.done(sentence, {"file": str(path), "missing": missing})


def _document(status: pb.TrustStatus) -> dict[str, Any]:
    now = datetime.now(UTC).timestamp() * 1000
    document = plain(status)
    for role, said in zip(document["roles"], status.roles, strict=True):
        role["days_left"] = round((said.expires_at_ms - now) / 86_400_000, 1) if said.expires_at_ms else None
    return document


def _new_passphrase(session: Session) -> str:
    """For keys that are about to be made; empty: they are not encrypted."""
    passphrase = os.environ.get(ENV_PASSPHRASE, "")
    if not passphrase and sys.stdin.isatty():
        passphrase = typer.prompt(
            "Passphrase of the root keys (empty: none)",
            default="",
            show_default=False,
            hide_input=True,
            confirmation_prompt=True,
        )
    if not passphrase:
        session.out.note(f"the root keys are not encrypted: set {ENV_PASSPHRASE}, or run this on a terminal, for a passphrase")
    return passphrase


def _passphrase(folder: Path, *, new: bool = False) -> str:
    """Of keys that are there, if they need one. ``new``: a key is made beside them, with the same."""
    from cloud_hub.app.hubctl import roots

    passphrase = os.environ.get(ENV_PASSPHRASE, "")
    if passphrase or not roots.encrypted(folder):
        return passphrase
    if not sys.stdin.isatty():
        raise refused(f"the keys in {folder} are encrypted: set {ENV_PASSPHRASE}")
    return str(typer.prompt("Passphrase of the root keys", hide_input=True, confirmation_prompt=new))


def _free(path: Path) -> Path:
    if path.exists():
        raise refused(f"{path} is there already: give another --out, or remove it")
    return path
