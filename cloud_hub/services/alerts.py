"""Alerts: rules and silences of tenants, what fires, and who has been told.

A transition of an alert, its state and the notices of it are one transaction: after a crash it has happened whole, once, or not
at all. ``cloud_hub.alerting`` sends the notices.
"""

import builtins
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from cloud_hub.core import pages
from cloud_hub.core.alert_rules import AlertRule, Kind, Severity
from cloud_hub.core.alerts import Alert, AlertState, Growth, Subject, window_value
from cloud_hub.core.config import AlertsConfig
from cloud_hub.core.errors import Conflict, Invalid, NotFound, NotReady
from cloud_hub.core.model import Principal, StreamWindow
from cloud_hub.core.notices import Letter, News, Notice, Sink, SinkDown, SinkRefused
from cloud_hub.core.pages import FIRST, Page
from cloud_hub.core.steady import SteadyTime
from cloud_hub.services.alert_looks import Look, Writer, look
from cloud_hub.services.alert_rounds import Figures, Round
from cloud_hub.services.alert_rules import AlertRules
from cloud_hub.services.silences import Silences
from cloud_hub.store import alert_states, alerts, notices, observed
from cloud_hub.store import silences as silence_store
from cloud_hub.store.alert_states import StateKey
from cloud_hub.store.alerts import Query
from cloud_hub.store.database import Database, Tx
from cloud_hub.store.notices import NoticeState
from edge_agent.core.clock import Clock
from protos.contract.ids import DeviceId, TenantId

log = logging.getLogger(__name__)

MAX_COMMENT = 1024
MAX_KEYS = 64  # of one stream rule on one device that may be off at once
KEEP_ALERTS = 200_000  # of all tenants; the oldest resolved ones go first
KEEP_WAITING = 20_000  # notices for one sink
CHANGES = 200  # in one answer to who watches
_PURGE_S = 3600.0
_AHEAD = timedelta(minutes=5)  # a window from further ahead would make all honest ones after it late


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertFigures:
    """For metrics."""

    open: Mapping[Severity, int]
    notices: Mapping[tuple[str, NoticeState], int]  # by sink; ended ones until they are forgotten


class AlertService:
    """``tick`` may run in one thread at a time, and in one process only; users see their own tenant's alerts."""

    def __init__(
        self,
        db: Database,
        config: AlertsConfig,
        clock: Clock,
        sinks: Sequence[Sink] = (),
        figures: Figures = lambda: {},
    ) -> None:
        """``figures`` tells of the hub: source -> value, as "hub.broker_down"; what is not known is left out."""
        self._db = db
        self._config = config
        self._clock = clock
        self._sinks = {sink.route.sink: sink for sink in sinks}
        self._routes = [sink.route for sink in sinks]
        self.rules = AlertRules(db, clock, self._writer, defaults=config.defaults)
        self.silences = Silences(db, clock)
        self._next_purge_s = float("-inf")
        self._time = SteadyTime(clock)
        self._round = Round(db, self.rules.enabled, figures, self._routes, repeat_s=config.repeat_s, started_at=clock.now())

    # -- what is seen ---------------------------------------------------------------------------------------------------

    def tick(self, now: datetime | None = None) -> None:
        """Look at everything once."""
        now = now or self._clock.now()
        self._round.run(now)
        self._purge(now)

    def on_windows(self, tx: Tx, tenant: TenantId, device: DeviceId | None, windows: Sequence[StreamWindow]) -> None:
        """Closed windows of one device's streams, or of the fleet's (None), within the caller's writing transaction.

        Call it once for each window, in the order of their ends for each stream and key: one that ends no later than the last
        is left out. How long a condition has held is measured in event time.
        """
        rules = [rule for rule in self.rules.enabled(tenant).values() if rule.kind is Kind.STREAM]
        wanted = [(rule, window) for window in windows for rule in rules if rule.stream == window.stream]
        if not wanted:
            return
        subject = self._subject(tx, tenant, device)
        if subject is None:
            return
        now = self._clock.now()
        states = alert_states.of_devices(tx, [device or ""], {rule.name for rule, _ in wanted})
        for rule, window in sorted(wanted, key=lambda pair: pair[1].end):
            found = self._look_at_window(rule, window, subject, states, now)
            if found is not None:
                self._writer(tx, now).write([found])
                states = alert_states.of_devices(tx, [device or ""], {rule.name for rule, _ in wanted})

    # -- alerts ---------------------------------------------------------------------------------------------------------

    def get(self, who: Principal, id: str) -> Alert:
        """Raises NotFound."""
        with self._db.read() as tx:
            return _owned(tx, who, id)

    def list(self, who: Principal, query: Query, page: Page = FIRST) -> tuple[builtins.list[Alert], str]:
        """Newest first, and the token of the next page: empty at the end. Raises Invalid."""
        before = pages.number(pages.checked(page))
        with self._db.read() as tx:
            rows = alerts.newest(tx, who.tenant, query, before=before, limit=page.size + 1)
        return pages.cut(rows, page)

    def changes(self, who: Principal, revision: int | None) -> tuple[builtins.list[Alert], int]:
        """Alerts that changed after ``revision`` (None: the open ones), oldest change first, and what to ask for next."""
        with self._db.read() as tx:
            if revision is None:
                found = alerts.still_open(tx, who.tenant)
                return [alert for _, alert in found], alerts.cursor(tx, alerts.REVISION) or 0
            found = alerts.changed_after(tx, who.tenant, revision, CHANGES)
        return [alert for _, alert in found], found[-1][0] if found else revision

    def acknowledge(self, who: Principal, id: str, comment: str = "") -> Alert:
        """Somebody sees to it: it is not told again until it is resolved. Raises NotFound, Conflict, Invalid."""
        comment = _checked(comment)
        with self._db.write() as tx:
            found = _owned(tx, who, id)
            if found.state is AlertState.RESOLVED:
                raise Conflict(f"alert {id} is resolved already")
            if found.state is AlertState.ACKNOWLEDGED:
                raise Conflict(f"alert {id} is acknowledged already, by {found.acknowledged_by}")
            acknowledged = self._writer(tx, self._clock.now()).acknowledge(found, who.name, comment)
        log.info("alert acknowledged", extra={"alert": id, "by": who.name})
        return acknowledged

    def resolve(self, who: Principal, id: str, comment: str = "") -> Alert:
        """End it by hand. A condition that still holds fires anew; of events, only new ones do. Raises NotFound, Conflict."""
        why = f"by {who.name}" + (f": {comment}" if _checked(comment) else "")
        now = self._clock.now()
        with self._db.write() as tx:
            found = _owned(tx, who, id)
            ended = self._writer(tx, now).resolve(id, why)
            if ended is None:
                raise Conflict(f"alert {id} is resolved already")
            key = StateKey(found.tenant, found.rule, found.device, found.key)
            memory = alert_states.of_rule(tx, found.tenant, found.rule).get(key)
            if memory is not None:
                last = memory.growth if memory.growth and memory.growth.last else None
                growth = Growth(last=last.last, at_ms=last.at_ms) if last else None
                alert_states.put(tx, [(key, replace(memory, standing=None, alert="", growth=growth, looked_at=now))])
        return ended

    # -- sinks ----------------------------------------------------------------------------------------------------------

    def sinks(self, who: Principal) -> builtins.list[str]:
        return sorted(name for name, sink in self._sinks.items() if sink.route.serves(who.tenant))

    def test(self, who: Principal, sink: str) -> None:
        """Send one letter of a made-up alert, now. Raises NotFound, NotReady with what the sink said."""
        if sink not in self.sinks(who):
            raise NotFound(f"no sink {sink}; there are: {', '.join(self.sinks(who)) or 'none'}")
        now = self._clock.now()
        alert = _made_up(who, now)
        notice = Notice(id=f"test-{alert.id}", news=News.TEST, alert=alert)
        try:
            self._sinks[sink].send(Letter(id=notice.id, tenant=who.tenant, notices=(notice,), at=now))
        except (SinkDown, SinkRefused) as error:
            raise NotReady(f"sink {sink} did not take it: {error}") from error

    def figures(self) -> AlertFigures:
        with self._db.read() as tx:
            return AlertFigures(open=alerts.open_count(tx), notices=notices.counts(tx))

    # -------------------------------------------------------------------------------------------------------------------

    def _look_at_window(
        self,
        rule: AlertRule,
        window: StreamWindow,
        subject: Subject,
        states: Mapping[StateKey, alert_states.AlertMemory],
        now: datetime,
    ) -> Look | None:
        key = StateKey(subject.tenant, rule.name, subject.device, window.key.replace("\0", "\ufffd"))
        before, value = states.get(key), window_value(rule, window)
        if value is None or not subject.matches(rule.selector) or window.end > now + _AHEAD:
            return None
        if before is not None and window.end <= before.at:
            return None
        if before is None and sum(other.rule == rule.name for other in states) >= MAX_KEYS:
            log.warning("too many keys of a stream are off", extra={"rule": rule.name, "device": subject.device})
            return None
        return look(rule, subject, key, before, value, now, at=window.end)

    def _subject(self, tx: Tx, tenant: TenantId, device: DeviceId | None) -> Subject | None:
        """None: the device is gone, or another tenant's."""
        if device is None:
            return Subject(tenant=tenant)
        seen = observed.one(tx, device)
        return seen.subject if seen is not None and seen.subject.tenant == tenant else None

    def _writer(self, tx: Tx, now: datetime) -> Writer:
        return Writer(tx, now, self._routes, self._config.repeat_s)

    def _purge(self, now: datetime) -> None:
        steady = self._time.believes(now)
        if self._clock.monotonic() < self._next_purge_s:
            return
        self._next_purge_s = self._clock.monotonic() + _PURGE_S
        before = now - timedelta(days=self._config.keep_days)
        with self._db.write() as tx:
            removed = 0
            if steady:
                removed += alerts.remove_resolved(tx, before, KEEP_ALERTS)
                removed += silence_store.remove_ended(tx, before) + notices.remove_ended(tx, before)
            given_up = sum(notices.overflow(tx, name, KEEP_WAITING, now) for name in self._sinks)
        if removed or given_up:
            log.info("old alerts removed", extra={"rows": removed, "notices_given_up": given_up})


def _owned(tx: Tx, who: Principal, id: str) -> Alert:
    found = alerts.find(tx, id, who.tenant)
    if found is None:
        raise NotFound(f"no alert {id}")
    return found


def _checked(comment: str) -> str:
    if len(comment) > MAX_COMMENT:
        raise Invalid(f"a comment is longer than {MAX_COMMENT} characters")
    return comment


def _made_up(who: Principal, now: datetime) -> Alert:
    return Alert(
        id=alerts.new_id(),
        tenant=who.tenant,
        rule="test",
        device="",
        key="",
        source="test",
        severity=Severity.INFO,
        state=AlertState.FIRING,
        summary=f"{who.name} tests this sink",
        value=0.0,
        threshold=0.0,
        labels={},
        repeats=0,
        fired_at=now,
        updated_at=now,
    )
