"""Use cases about streams: which ones a tenant has, and the windows that closed."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from cloud_hub.core import pages
from cloud_hub.core import streams as specs
from cloud_hub.core.errors import Exhausted, NotFound
from cloud_hub.core.model import Principal, StreamWindow, WindowFilter
from cloud_hub.core.pages import FIRST, Page
from cloud_hub.store import stream_specs, stream_states, stream_windows
from cloud_hub.store.database import Database, Tx
from cloud_hub.store.stream_specs import StoredStream
from edge_agent.core.clock import Clock
from protos.contract.ids import TenantId

log = logging.getLogger(__name__)

MAX_STREAMS = 64  # of one tenant: every reading goes through all of them

Numbered = tuple[int, StreamWindow]  # numbers grow in the order windows close


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    name: str
    yaml: str
    across_fleet: bool
    updated_at: datetime


class StreamService:
    """Thread-safe; several processes may share the database."""

    def __init__(self, db: Database, clock: Clock) -> None:
        self._db = db
        self._clock = clock

    def put(self, who: Principal, yaml: str) -> list[Stream]:
        """Make or replace the streams that ``yaml`` names; they see what is folded from now on.

        Where one now cuts, groups or aggregates in another way, the open windows of the old one are dropped.

        Raises:
            Invalid: it names stream and key; nothing was changed.
            Exhausted: the tenant would have more than MAX_STREAMS.
        """
        now = self._clock.now()
        wanted = {
            stream.spec.name: StoredStream(
                tenant=who.tenant, name=stream.spec.name, yaml=stream.yaml, fingerprint=stream.fingerprint, updated_at=now
            )
            for stream in specs.parse(yaml)
        }
        with self._db.write() as tx:
            there = {stored.name: stored for stored in stream_specs.of_tenant(tx, who.tenant)}
            if len(there.keys() | wanted.keys()) > MAX_STREAMS:
                raise Exhausted(f"a tenant can have {MAX_STREAMS} streams: delete one first")
            for name, stored in wanted.items():
                if name in there and there[name].fingerprint != stored.fingerprint:
                    stream_states.remove_stream(tx, who.tenant, name)
            stream_specs.put(tx, list(wanted.values()))
        log.info("streams put", extra={"streams": ", ".join(wanted), "by": who.name})
        return [_stream(stored) for stored in wanted.values()]

    def list(self, who: Principal) -> Sequence[Stream]:
        """By name."""
        with self._db.read() as tx:
            return [_stream(stored) for stored in stream_specs.of_tenant(tx, who.tenant)]

    def get(self, who: Principal, name: str) -> Stream:
        """Raises NotFound."""
        with self._db.read() as tx:
            return _found(tx, who.tenant, name)

    def delete(self, who: Principal, name: str) -> Stream:
        """With its open windows; closed ones stay until they are old. Raises NotFound."""
        with self._db.write() as tx:
            stream = _found(tx, who.tenant, name)
            stream_specs.remove(tx, who.tenant, name)
            stream_states.remove_stream(tx, who.tenant, name)
        log.info("stream deleted", extra={"stream": name, "by": who.name})
        return stream

    def windows(self, who: Principal, wanted: WindowFilter, page: Page = FIRST) -> tuple[Sequence[Numbered], str]:
        """Newest first in the order they closed, and the token of the next page: empty at the end. Raises Invalid."""
        before = pages.number(pages.checked(page))
        with self._db.read() as tx:
            rows = stream_windows.newest(tx, who.tenant, wanted, before=before, limit=page.size + 1)
        return pages.cut([(number, (number, window)) for number, window in rows], page)

    def closed_after(self, who: Principal, wanted: WindowFilter, number: int, limit: int = 500) -> Sequence[Numbered]:
        """Those with higher numbers, oldest first."""
        with self._db.read() as tx:
            return stream_windows.after(tx, who.tenant, wanted, number, limit)

    def last_number(self) -> int:
        """Of any window so far; windows that close from now on have higher ones."""
        with self._db.read() as tx:
            return stream_windows.last_number(tx)


def _found(tx: Tx, tenant: TenantId, name: str) -> Stream:
    for stored in stream_specs.of_tenant(tx, tenant):
        if stored.name == name:
            return _stream(stored)
    raise NotFound(f"no stream {name!r}")


def _stream(stored: StoredStream) -> Stream:
    across = specs.parsed(stored.yaml).across
    return Stream(name=stored.name, yaml=stored.yaml, across_fleet=across is specs.Across.FLEET, updated_at=stored.updated_at)
