"""The audit log for those who may read it; the ``Admin`` service delegates to this."""

from collections.abc import AsyncGenerator

from cloud_hub.core import audit
from cloud_hub.core.audit import Anchor, AuditFilter, Entry
from cloud_hub.core.errors import Invalid
from cloud_hub.rpc.guard import Call
from cloud_hub.rpc.requests import page_from_pb
from cloud_hub.rpc.threads import Threads
from cloud_hub.services.audit import AuditService
from protos.v1 import admin_pb2 as pb


class AuditServicer:
    def __init__(self, audit: AuditService, threads: Threads) -> None:
        self._audit = audit
        self._threads = threads

    async def ListAudit(self, request: pb.ListAuditRequest, call: Call) -> pb.ListAuditReply:
        page = page_from_pb(request.page_size, request.page_token)
        found, following = await self._threads.call(self._audit.list, call.who, filter_from_pb(request), page)
        return pb.ListAuditReply(entries=map(entry_to_pb, found), next_page_token=following)

    async def ExportAudit(self, request: pb.ExportAuditRequest, call: Call) -> AsyncGenerator[pb.AuditEntry, None]:
        async for batch in self._threads.each(lambda: self._audit.export(call.who, request.after)):
            for entry in batch:
                yield entry_to_pb(entry)

    async def VerifyAudit(self, request: pb.VerifyAuditRequest, call: Call) -> pb.VerifyAuditReply:
        verdict = await self._threads.call(self._audit.verify, call.who, noted_from_pb(request))
        return pb.VerifyAuditReply(entries=verdict.entries, head=verdict.head.hash, problem=verdict.problem)


def filter_from_pb(request: pb.ListAuditRequest) -> AuditFilter:
    """Raises Invalid."""
    if request.since_ms < 0 or request.until_ms < 0:
        raise Invalid("a time must not be negative")
    return AuditFilter(
        who=request.who, action=request.action, result=request.result, since_ms=request.since_ms, until_ms=request.until_ms
    )


def noted_from_pb(request: pb.VerifyAuditRequest) -> Anchor | None:
    """Raises Invalid."""
    return audit.checked_anchor(request.number, request.hash) if request.number or request.hash else None


def entry_to_pb(entry: Entry) -> pb.AuditEntry:
    made = pb.AuditEntry(
        number=entry.number,
        at_ms=entry.at_ms,
        tenant=entry.tenant,
        role=entry.role,
        who=entry.who,
        action=entry.action,
        subject=entry.subject,
        result=entry.result,
        detail=entry.detail,
        previous=entry.previous,
        hash=entry.hash,
    )
    setattr(made, "from", entry.source)  # a word of Python
    return made
