"""Use cases of the audit log. Nothing is ever removed from it: an entry takes about 300 bytes of the database."""

import builtins
import logging
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime

from cloud_hub.core import audit, pages
from cloud_hub.core.audit import BEGUN, Anchor, Audited, AuditFilter, Entry, Verdict
from cloud_hub.core.errors import Exhausted, Unavailable
from cloud_hub.core.model import Principal
from cloud_hub.core.pages import FIRST, Page
from cloud_hub.store import audit as store
from cloud_hub.store.database import Database
from edge_agent.core.clock import Clock
from protos.contract.ids import TenantId
from protos.contract.telemetry import to_ms

log = logging.getLogger(__name__)

HEADS_EVERY_S = 3600.0
_BATCH = 1000  # entries in memory at once, about 1 MB
_GROUP = 256  # entries in one transaction


@dataclass(slots=True, kw_only=True)
class _Draft:
    call: Audited
    result: str
    detail: str
    taken: bool = False  # by the thread that writes, or wrote
    written: bool = False


class AuditService:
    """Keeps the promise of ``AuditLog``. Users see their own tenant's entries.

    Threads that come while one writes have their entries written together, so that they wait for two commits at most.
    """

    def __init__(self, db: Database, clock: Clock) -> None:
        self._db = db
        self._clock = clock
        self._drafts: builtins.list[_Draft] = []
        self._drafting = threading.Lock()
        self._writing = threading.Lock()
        self._verifying = threading.Lock()
        self._noted: dict[TenantId, Anchor] = {}  # heads that were logged; only the tick looks at them
        self._noted_at: datetime | None = None
        self._broken: set[TenantId] = set()

    # -- append -------------------------------------------------------------------------------------------------------

    def begin(self, call: Audited) -> None:
        self._append(call, BEGUN, "")

    def end(self, call: Audited, result: str, detail: str) -> None:
        self._append(call, result, detail)

    def denied(self, call: Audited, result: str, detail: str, left_out: int) -> None:
        self._append(call, result, f"[{left_out} more before this one] {detail}" if left_out else detail)

    def _append(self, call: Audited, result: str, detail: str) -> None:
        mine = _Draft(call=call, result=result, detail=detail)
        with self._drafting:
            self._drafts.append(mine)
        with self._writing:  # held for as long as the database lets a writer wait
            while not mine.taken:  # it may be behind more than one group
                self._write()
        if not mine.written:
            raise Unavailable("the audit log cannot be written: try again")

    def _write(self) -> None:
        with self._drafting:
            group, self._drafts = self._drafts[:_GROUP], self._drafts[_GROUP:]
        for draft in group:
            draft.taken = True
        at_ms = to_ms(self._clock.now())
        with self._db.write() as tx:
            heads = {tenant: store.head(tx, tenant) for tenant in {draft.call.tenant for draft in group}}
            entries = []
            for draft in group:
                last = heads[draft.call.tenant]
                entry = audit.made(draft.call, draft.result, draft.detail, at_ms=at_ms, last=last)
                heads[draft.call.tenant] = entry.anchor
                entries.append(entry)
            store.add(tx, entries)
        for draft in group:
            draft.written = True

    # -- read ---------------------------------------------------------------------------------------------------------

    def list(self, who: Principal, wanted: AuditFilter, page: Page = FIRST) -> tuple[builtins.list[Entry], str]:
        """Newest first, and the token of the next page: empty at the end. Raises Invalid."""
        before = pages.number(pages.checked(page))
        wanted = replace(wanted, who=audit.printable(wanted.who, audit.MAX_NAME))
        with self._db.read() as tx:
            found = store.before(tx, who.tenant, wanted, before, page.size + 1)
        return pages.cut([(entry.number, entry) for entry in found], page)

    def export(self, who: Principal, after: int = 0) -> Iterator[builtins.list[Entry]]:
        """All entries above number ``after`` in order, many at a time, up to the newest there is when it comes there."""
        return self._batches(who.tenant, after)

    def verify(self, who: Principal, noted: Anchor | None = None) -> Verdict:
        """The whole chain; ``noted`` must be in it. One that is not is the caller's to judge: a slip of the pen alerts nobody.

        Raises:
            Exhausted: another one is at it.
        """
        if not self._verifying.acquire(blocking=False):
            raise Exhausted("the audit log is being verified already: wait for that")
        try:
            verdict = audit.verify(self._entries(who.tenant, 0), noted)
        finally:
            self._verifying.release()
        if verdict.problem and not verdict.by_noted:
            self._broken.add(who.tenant)
        if verdict.problem:
            log.error("audit log does not hold", extra={"tenant": who.tenant, "problem": verdict.problem})
        return verdict

    def figures(self) -> dict[str, float]:
        """By the source of alert rules. What was found broken stays so until the hub is started again."""
        return {"hub.audit_broken": float(len(self._broken))}

    def tick(self, now: datetime) -> None:
        """Every hour log the newest entry of each tenant: whoever keeps the log can show later what the chain held.

        What came since the last time is verified, and that what was there then still is.
        """
        if self._noted_at is not None and 0 <= (now - self._noted_at).total_seconds() < HEADS_EVERY_S:
            return
        with self._db.read() as tx:
            tenants = store.tenants(tx)
        for tenant in sorted({*tenants, *self._noted}):
            self._note(tenant)
        self._noted_at = now

    def _note(self, tenant: TenantId) -> None:
        noted = self._noted.get(tenant)
        with self._db.read() as tx:
            head = store.head(tx, tenant)
        if noted is not None:
            verdict = audit.verify(self._entries(tenant, noted.number - 1), noted, whole=False)
            if verdict.problem:
                self._broken.add(tenant)
                log.error("audit log does not hold", extra={"tenant": tenant, "problem": verdict.problem, "noted": str(noted)})
        log.info("audit head", extra={"tenant": tenant, "number": head.number, "anchor": str(head)})
        self._noted[tenant] = head

    def _entries(self, tenant: TenantId, after: int) -> Iterator[Entry]:
        return (entry for batch in self._batches(tenant, after) for entry in batch)

    def _batches(self, tenant: TenantId, after: int) -> Iterator[builtins.list[Entry]]:
        while True:
            with self._db.read() as tx:
                batch = store.after(tx, tenant, after, _BATCH)
            if not batch:
                return
            yield batch
            after = batch[-1].number
