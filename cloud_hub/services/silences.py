"""Silences: alerts that nobody is to be told of for a while."""

import builtins
import logging
from dataclasses import replace
from datetime import timedelta

from cloud_hub.core import pages
from cloud_hub.core.alerts import Matcher, Silence
from cloud_hub.core.errors import Conflict, Exhausted, Invalid, NotFound
from cloud_hub.core.labels import checked_labels
from cloud_hub.core.model import Principal
from cloud_hub.core.pages import FIRST, Page
from cloud_hub.store import silences as store
from cloud_hub.store.database import Database
from edge_agent.core.clock import Clock

log = logging.getLogger(__name__)

MAX_ACTIVE = 1000  # of a tenant
MAX_DAYS = 366
MAX_NAME = 63  # of a rule or a device
MAX_REASON = 1024


class Silences:
    """Users see and make their own tenant's."""

    def __init__(self, db: Database, clock: Clock) -> None:
        self._db = db
        self._clock = clock

    def add(self, who: Principal, what: Matcher, duration_s: float, reason: str) -> Silence:
        """From now on. Raises Invalid where nothing is named, or no time or no reason is given; Exhausted."""
        now = self._clock.now()
        checked_labels(what.labels)
        if what == Matcher():
            raise Invalid("a silence must name a rule, a device, a severity or labels")
        if not 0 < duration_s <= MAX_DAYS * 86_400:
            raise Invalid(f"a silence must last more than nothing and at most {MAX_DAYS} days, got {duration_s:g} s")
        if not reason.strip() or len(reason) > MAX_REASON or max(len(what.rule), len(what.device)) > MAX_NAME:
            raise Invalid(f"a silence needs a reason of 1..{MAX_REASON} characters, and names of at most {MAX_NAME}")
        until = now + timedelta(seconds=duration_s)
        made = Silence(
            id=store.new_id(),
            tenant=who.tenant,
            what=what,
            starts_at=now,
            until=until,
            reason=reason,
            created_by=who.name,
        )
        with self._db.write() as tx:
            if store.active_count(tx, who.tenant, now) >= MAX_ACTIVE:
                raise Exhausted(f"{MAX_ACTIVE} silences are active: end one first")
            store.add(tx, made)
        log.info("silence made", extra={"silence": made.id, "by": who.name, "until": until.isoformat()})
        return made

    def list(self, who: Principal, active_only: bool = False, page: Page = FIRST) -> tuple[builtins.list[Silence], str]:
        """Newest first, and the token of the next page: empty at the end. Raises Invalid."""
        before, active_at = pages.number(pages.checked(page)), self._clock.now() if active_only else None
        with self._db.read() as tx:
            rows = store.newest(tx, who.tenant, active_at, before=before, limit=page.size + 1)
        return pages.cut(rows, page)

    def expire(self, who: Principal, id: str) -> Silence:
        """It ends now. Raises NotFound, Conflict."""
        now = self._clock.now()
        with self._db.write() as tx:
            found = store.find(tx, who.tenant, id)
            if found is None:
                raise NotFound(f"no silence {id[:80]!r}")
            if found.until <= now:
                raise Conflict(f"silence {id} has ended already")
            store.end(tx, id, now)
        log.info("silence ended", extra={"silence": id, "by": who.name})
        return replace(found, until=now)
