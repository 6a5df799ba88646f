"""``hubctl audit``: who did what, and whether that record is whole."""

from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, TextIO

import typer

from cloud_hub.app.hubctl.failure import ExitCode, Failure, refused
from cloud_hub.app.hubctl.hub import TIMEOUT_S, Hub
from cloud_hub.app.hubctl.listing import Limit, listed
from cloud_hub.app.hubctl.session import Session, of
from cloud_hub.app.hubctl.times import Since, Until, time_ms
from cloud_hub.core import audit
from cloud_hub.core.audit import Anchor, Entry, Verdict
from cloud_hub.core.errors import Invalid
from protos.contract.ids import TenantId
from protos.v1 import admin_pb2 as pb

app = typer.Typer(help="The audit log: every change and every refused call.")

Noted = Annotated[
    str, typer.Option("--anchor", metavar="NUMBER:HASH", help="What the chain must hold, from the hub's log or an export.")
]

_COLUMNS = ("number", "at", "who", "role", "from", "action", "subject", "result", "detail")
_SAME = ("number", "at_ms", "role", "who", "action", "subject", "result", "detail", "previous", "hash")  # on the wire
_VERIFY_TIMEOUT_S = 3600.0
_MAX_LINE = 64 << 10  # characters; the longest entry takes about a sixth
_SHOWN_EVERY = 1000  # entries


@app.command("list")
def list_(
    context: typer.Context,
    who: Annotated[str, typer.Option(help="Of this user or device only.")] = "",
    action: Annotated[str, typer.Option(help="Part of the method's name, as DeleteDevice or Fleet/.")] = "",
    result: Annotated[str, typer.Option(help="OK, BEGUN, PERMISSION_DENIED, ...")] = "",
    since: Since = "",
    until: Until = "",
    limit: Limit = 100,
) -> None:
    """List entries, newest first."""
    session = of(context)
    request = pb.ListAuditRequest(
        who=who, action=action, result=result.upper(), since_ms=time_ms(since), until_ms=time_ms(until)
    )
    with session.hub() as hub:
        found = listed(hub.admin.ListAudit, request, "entries", limit)
    session.out.rows(found, _COLUMNS, empty="no entries")


@app.command()
def verify(
    context: typer.Context,
    anchor: Noted = "",
    file: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="Verify an exported file instead, without a hub.")
    ] = None,
) -> None:
    """Look for changed, missing and moved entries; fail where the chain does not hold.

    Without --anchor nobody can see that its end was cut off, or that all of it was made anew.
    """
    session, noted = of(context), _noted(anchor)
    if file is not None:
        first, verdict = _of_file(file, noted)
        words = f"{file}: {verdict.entries} entries from number {first} hold"
        entries, head, problem = verdict.entries, verdict.head.hash, verdict.problem
    else:
        request = pb.VerifyAuditRequest(number=noted.number if noted else 0, hash=noted.hash if noted else "")
        with session.hub() as hub:
            reply = hub.admin.VerifyAudit(request, timeout=_VERIFY_TIMEOUT_S)
        entries, head, problem = reply.entries, reply.head, reply.problem
        words = f"{entries} entries hold; anchor {entries}:{head}" if entries else "the audit log is empty"
    found = {"entries": entries, "head": head, "problem": problem}
    if problem and session.out.json:
        session.out.document(found)
    if problem:
        raise Failure(f"the audit log does not hold: {problem}", ExitCode.FAILED)
    session.out.done(words, found)


@app.command()
def export(
    context: typer.Context,
    out: Annotated[Path, typer.Option(dir_okay=False, help="File to write: one JSON object per entry and line.")],
    after: Annotated[int, typer.Option(min=0, help="Number of the last entry there is already.")] = 0,
) -> None:
    """Write entries to a new file, oldest first, and verify them on the way."""
    session = of(context)
    if out.exists():
        raise refused(f"{out} exists: an export never replaces a file")
    part = out.with_name(f"{out.name}.part")
    part.touch(mode=0o600, exist_ok=False)
    with session.hub() as hub, part.open("w", encoding="ascii") as file:
        try:
            written = _written(session, hub, after, file)
            verdict = audit.verify(written, whole=after == 0)
            entries = verdict.entries + bool(verdict.problem) + sum(1 for _ in written)  # what follows a break is wanted too
        except BaseException:
            part.unlink()
            raise
    part.rename(out)
    found = {"file": str(out), "entries": entries, "anchor": str(verdict.head), "problem": verdict.problem}
    if session.out.json or not verdict.problem:
        session.out.done(f"{entries} entries in {out}; anchor {verdict.head}", found)
    if verdict.problem:
        raise Failure(f"{entries} entries in {out}, but the audit log does not hold: {verdict.problem}", ExitCode.FAILED)


def _written(session: Session, hub: Hub, after: int, file: TextIO) -> Iterator[Entry]:
    """Each entry, once it is in the file."""
    newest = hub.admin.ListAudit(pb.ListAuditRequest(page_size=1), timeout=TIMEOUT_S).entries
    total = max(0, (newest[0].number if newest else 0) - after)
    with session.out.progress("exporting", total) as bar:
        for done, message in enumerate(hub.admin.ExportAudit(pb.ExportAuditRequest(after=after)), start=1):
            entry = _entry(message)
            file.write(audit.dump(entry) + "\n")
            if done % _SHOWN_EVERY == 0:
                bar.at(min(done, total))
            yield entry
        bar.at(total)


def _entry(message: pb.AuditEntry) -> Entry:
    values: dict[str, Any] = {name: getattr(message, name) for name in _SAME}
    return Entry(tenant=TenantId(message.tenant), source=getattr(message, "from"), **values)


def _of_file(path: Path, noted: Anchor | None) -> tuple[int, Verdict]:
    """Number of its first entry, and what is to be said of it. Raises Failure, also where it has none."""
    with path.open(encoding="ascii", errors="surrogateescape") as file:
        entries = _lines(path, file)
        first = next(entries, None)
        if first is None:
            raise Failure(f"{path} is empty: it shows nothing of an audit log", ExitCode.FAILED)
        if noted is not None and noted.number < first.number - 1:
            raise refused(f"{path} begins with entry {first.number}: it cannot show what entry {noted.number} was")
        verdict = audit.verify(chain((first,), entries), noted, whole=first.number == 1)
    if noted is not None and noted.number == first.number - 1 and noted.hash != first.previous:
        problem = f"replaced: entry {first.number} was not made after the entry {noted.number} that was noted earlier"
        return first.number, Verdict(entries=0, head=noted, problem=problem)
    return first.number, verdict


def _lines(path: Path, file: TextIO) -> Iterator[Entry]:
    number = 0
    while line := file.readline(_MAX_LINE):
        number += 1
        try:
            yield audit.load(line)
        except Invalid as error:
            raise Failure(f"{path}, line {number}: {error}", ExitCode.FAILED) from error


def _noted(text: str) -> Anchor | None:
    """Raises typer.BadParameter."""
    try:
        return audit.anchor(text) if text else None
    except Invalid as error:
        raise typer.BadParameter(str(error)) from error
