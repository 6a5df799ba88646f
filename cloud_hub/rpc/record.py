"""What the audit log is told of calls."""

import asyncio
import logging

import grpc
from google.protobuf.message import Message

from cloud_hub.core.audit import Audited, AuditLog
from cloud_hub.core.errors import Exhausted
from cloud_hub.core.model import Role
from cloud_hub.rpc.admission import Open
from cloud_hub.rpc.refusals import Allowances, Denials, Guesses, network
from cloud_hub.rpc.subjects import subject_of
from cloud_hub.rpc.threads import Threads
from edge_agent.core.clock import Clock

log = logging.getLogger(__name__)

DENIED = (grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNAUTHENTICATED)
_WRONG = (*DENIED, grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.RESOURCE_EXHAUSTED)
_STRANGER_TRIES, _STRANGER_TRIES_PER_S = 50, 1.0
_STRANGER_CALLS, _STRANGER_CALLS_PER_S = 1000, 1.0  # right or wrong, of one address: a site's devices may share one


class Record:
    """Belongs to the event loop."""

    def __init__(self, audit: AuditLog, threads: Threads, clock: Clock) -> None:
        self._audit = audit
        self._threads = threads
        self._denials = Denials(clock)
        self._strangers = Guesses(_STRANGER_TRIES, _STRANGER_TRIES_PER_S, clock)  # the log must not be theirs to fill
        # nor that of a device, which renews here and is answered the same as often as it asks
        self._stranger_calls: Allowances[str] = Allowances(_STRANGER_CALLS, _STRANGER_CALLS_PER_S, clock)
        self._late: set[asyncio.Task[None]] = set()

    async def begin(self, call: Open, request: Message | None) -> None:
        """Before the effect, which must not happen where this raises."""
        if call.who.role is Role.ANONYMOUS:
            self._strangers.check(call.source)
            if not self._stranger_calls.take(network(call.source)):
                raise Exhausted("too many calls came from this address: wait some seconds")
        entry = _entry(call, "" if request is None else subject_of(request))
        writing = asyncio.ensure_future(self._threads.call(self._audit.begin, entry))
        try:
            await asyncio.shield(writing)
        except asyncio.CancelledError:
            call.entry = entry  # it is being written, so it must get its end
            raise
        call.entry = entry

    async def end(self, call: Open, code: grpc.StatusCode, details: str) -> None:
        """What came of it; it never raises, since the effect is there."""
        if call.entry is not None:
            entry, call.entry = call.entry, None
            if call.who.role is Role.ANONYMOUS and code in _WRONG:
                self._strangers.wrong(call.source)
            await asyncio.shield(self._later(entry, code, details))
        elif code in DENIED:
            await self._denied(call, code, details)

    def abandoned(self, call: Open) -> None:
        """The caller left before the end: what it asked for may have happened or not."""
        if call.entry is not None:
            entry, call.entry = call.entry, None
            self._later(entry, grpc.StatusCode.CANCELLED, "the caller did not wait for the end")

    async def settle(self) -> None:
        """Wait for what is still being written."""
        await asyncio.gather(*self._late)

    def _later(self, entry: Audited, code: grpc.StatusCode, details: str) -> asyncio.Task[None]:
        """It is written whether or not anybody waits for it."""
        task = asyncio.create_task(self._end(entry, code, details))
        self._late.add(task)
        task.add_done_callback(self._late.discard)
        return task

    async def _end(self, entry: Audited, code: grpc.StatusCode, details: str) -> None:
        try:
            await self._threads.call(self._audit.end, entry, code.name, details)
        except Exception:  # the entry that it has begun stays: it says that the result is not known
            log.exception("the end of a call is not in the audit log", extra={"method": entry.action, "result": code.name})

    async def _denied(self, call: Open, code: grpc.StatusCode, details: str) -> None:
        who = call.whose if call.who.role is Role.ANONYMOUS else call.who
        entry = _entry(call, "")
        if (before := self._denials.line()) is not None:
            fields = {"method": entry.action, "role": entry.role.value, "caller": entry.who, "notlogged": before}
            log.warning("call refused", extra=fields | {"source": entry.source, "code": code.name})
        if (left_out := self._denials.entry(who)) is None:
            return
        try:
            await self._threads.call(self._audit.denied, entry, code.name, details, left_out)
        except Exception:  # it is refused all the same
            log.exception("a denied call is not in the audit log", extra={"method": entry.action})


def _entry(call: Open, subject: str) -> Audited:
    who = call.whose or call.who
    return Audited(tenant=who.tenant, role=who.role, who=who.name, source=call.source, action=call.path, subject=subject)
