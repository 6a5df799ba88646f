"""The round over the fleet: what rules see of every device, of every tenant and of the hub itself.

A page of devices is looked at in a snapshot, and only where that finds something to write is it looked at again in a writing
transaction, which then holds the states, the alerts and the notices of the whole page.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta

from cloud_hub.core.alert_rules import AlertRule, Kind
from cloud_hub.core.alerts import Growth, Subject
from cloud_hub.core.model import DEFAULT_TENANT
from cloud_hub.core.notices import Route
from cloud_hub.services.alert_looks import Look, Writer, look, over
from cloud_hub.services.alert_values import Moment, Twins, counters, grown, level
from cloud_hub.store import alert_states, alerts, notices, observed, stream_states
from cloud_hub.store.alert_states import AlertMemory, StateKey
from cloud_hub.store.database import Database, Tx
from cloud_hub.store.observed import Observed
from protos.contract.ids import TenantId
from protos.contract.telemetry import to_ms

log = logging.getLogger(__name__)

Rules = Callable[[TenantId], Mapping[str, AlertRule]]  # those that are switched on, by name
Figures = Callable[[], Mapping[str, float]]  # of the hub: source -> value; one that is not known is left out
States = Mapping[StateKey, AlertMemory]

PAGE_DEVICES = 500
PAGE_EVENTS = 1000
REMIND = 500  # alerts told again in one transaction

_UNSEEN = "no word of it for long"
_NOT_APPLIED = "no rule asks for it any more"
_NO_DEVICE = "the device is gone"


class Round:
    """One thread at a time."""

    def __init__(
        self, db: Database, rules: Rules, figures: Figures, routes: Sequence[Route], *, repeat_s: float, started_at: datetime
    ) -> None:
        self._db = db
        self._rules = rules
        self._figures = figures
        self._routes = routes
        self._repeat_s = repeat_s
        self._started_at = started_at
        self._twins = Twins()

    def run(self, now: datetime) -> None:
        self._started_at = min(self._started_at, now)  # a clock that was put back must not make us newly started for years
        self.events(now)
        moment = self._moment(now)
        visited: set[tuple[TenantId, str]] = set()
        after: str | None = ""
        while after is not None:
            after = self._page(after, moment, visited)
        self._twins.forget_others()
        self._rest(moment, visited)
        while self._remind(now) == REMIND:
            pass

    def events(self, now: datetime) -> None:
        """What happened on devices since the last time, each event once."""
        while self._page_of_events(now) == PAGE_EVENTS:
            pass

    # -- devices --------------------------------------------------------------------------------------------------------

    def _page(self, after: str, moment: Moment, visited: set[tuple[TenantId, str]]) -> str | None:
        """Where the next page starts; None: there is none."""
        with self._db.read() as tx:
            page, looks = self._look_at_page(tx, after, moment)
        if looks:
            with self._db.write() as tx:
                page, looks = self._look_at_page(tx, after, moment)
                self._writer(tx, moment.now).write(looks)
        visited.update((TenantId(seen.subject.tenant), seen.subject.device) for seen in page)
        return page[-1].subject.device if page else None

    def _look_at_page(self, tx: Tx, after: str, moment: Moment) -> tuple[list[Observed], list[Look]]:
        page = observed.page(tx, after, PAGE_DEVICES)
        states = alert_states.between(tx, after, page[-1].subject.device if page else None)
        looks: list[Look] = []
        kept: set[StateKey] = set()
        subjects: dict[tuple[TenantId, str], Subject] = {}
        for seen in page:
            subject = seen.subject
            subjects[subject.tenant, subject.device] = subject
            for rule in self._rules(subject.tenant).values():
                if rule.kind in (Kind.LEVEL, Kind.GROWTH) and (not rule.selector or subject.matches(rule.selector)):
                    key = StateKey(subject.tenant, rule.name, subject.device)
                    kept.add(key)
                    found = self._look_at(rule, seen, key, states.get(key), moment)
                    if found is not None:
                        looks.append(found)
        rest = {key: memory for key, memory in states.items() if key not in kept}
        looks += self._look_at_rest(rest, subjects, moment.now)
        return page, looks

    def _look_at(
        self, rule: AlertRule, seen: Observed, key: StateKey, before: AlertMemory | None, moment: Moment
    ) -> Look | None:
        told = self._twins.of(seen)
        if rule.kind is Kind.LEVEL:
            return look(rule, seen.subject, key, before, level(rule, seen, told, moment), moment.now)
        values, now_ms = counters(rule, seen, told), to_ms(moment.now)
        growth = before.growth if before else None
        if values is None:
            return None
        if growth is None:  # what was counted before anybody looked is no news
            growth = Growth(last=values, at_ms=now_ms)
        growth = growth.told(values, now_ms, rule.span_s)
        value = grown(rule, growth.total(now_ms, rule.span_s))
        return look(rule, seen.subject, key, before, value, moment.now, growth=growth)

    def _look_at_rest(self, states: States, subjects: Mapping[tuple[TenantId, str], Subject], now: datetime) -> Iterator[Look]:
        """States that no rule of this round asked for: of events and streams, or left over."""
        for key, before in states.items():
            subject, rule = subjects.get((key.tenant, key.device)), self._rules(key.tenant).get(key.rule)
            found: Look | None = None
            if subject is None:
                found = over(key, before, now, _NO_DEVICE)
            elif rule is None or rule.kind not in (Kind.EVENTS, Kind.STREAM) or not subject.matches(rule.selector):
                found = over(key, before, now, _NOT_APPLIED)
            elif rule.kind is Kind.STREAM:
                if now - before.looked_at > timedelta(seconds=rule.span_s):
                    found = over(key, before, now, _UNSEEN)
            else:
                found = _fade(rule, subject, key, before, now)
            if found is not None:
                yield found

    # -- events ---------------------------------------------------------------------------------------------------------

    def _page_of_events(self, now: datetime) -> int:
        with self._db.read() as tx:
            cursor, last = alerts.cursor(tx, alerts.EVENTS), observed.last_event(tx)
        if cursor is not None and last <= cursor:
            return 0
        with self._db.write() as tx:
            cursor = alerts.cursor(tx, alerts.EVENTS)
            if cursor is None:  # what happened before anybody looked is no news
                alerts.put_cursor(tx, alerts.EVENTS, observed.last_event(tx))
                return 0
            found = observed.events(tx, cursor, PAGE_EVENTS)
            if found:
                self._writer(tx, now).write(self._look_at_events(tx, found, now))
                alerts.put_cursor(tx, alerts.EVENTS, found[-1].id)
            return len(found)

    def _look_at_events(self, tx: Tx, found: Sequence[observed.Noticed], now: datetime) -> Iterator[Look]:
        counts: dict[StateKey, int] = {}
        for event in found:
            for rule in self._rules(event.tenant).values():
                if rule.of_event(event.kind):
                    key = StateKey(event.tenant, rule.name, event.device)
                    counts[key] = counts.get(key, 0) + 1
        states = alert_states.of_devices(tx, {key.device for key in counts}, {key.rule for key in counts})
        for key, count in counts.items():
            rule, seen, before = self._rules(key.tenant)[key.rule], observed.one(tx, key.device), states.get(key)
            if seen is None or seen.subject.tenant != key.tenant or not seen.subject.matches(rule.selector):
                continue
            growth = (before.growth if before else None) or Growth()
            growth = growth.added((float(count),), to_ms(now), rule.span_s)
            value = grown(rule, growth.total(to_ms(now), rule.span_s))
            repeats = count if before and before.alert else 0
            made = look(rule, seen.subject, key, before, value, now, growth=growth, repeats=repeats)
            if made is not None:
                yield made

    # -- tenants and the hub --------------------------------------------------------------------------------------------

    def _rest(self, moment: Moment, visited: set[tuple[TenantId, str]]) -> None:
        """What has no device."""
        figures = dict(self._figures())
        with self._db.read() as tx:
            looks = self._look_at_tenants(tx, moment, visited, figures)
        if looks:
            with self._db.write() as tx:
                self._writer(tx, moment.now).write(self._look_at_tenants(tx, moment, visited, figures))

    def _look_at_tenants(
        self, tx: Tx, moment: Moment, visited: set[tuple[TenantId, str]], figures: Mapping[str, float]
    ) -> list[Look]:
        states, failed = alert_states.without_device(tx), observed.failed_models(tx)
        values: dict[StateKey, float | None] = {}
        for tenant in {*observed.tenants(tx), *(key.tenant for key in states), DEFAULT_TENANT}:
            for rule in self._rules(tenant).values():
                if rule.source == "job.failed":
                    models = {model for owner, model in failed if owner == tenant}
                    models |= {key.key for key in states if (key.tenant, key.rule) == (tenant, rule.name)}
                    for model in models:
                        values[StateKey(tenant, rule.name, "", model)] = float(failed.get((tenant, model), False))
                elif rule.source == "telemetry.quarantine" and not rule.selector:
                    counts = moment.quarantined[rule.span_s].items()
                    strange = sum(count for owner, count in counts if owner[0] == tenant and owner not in visited)
                    values[StateKey(tenant, rule.name, "")] = float(strange)
                elif rule.kind is Kind.HUB and tenant == DEFAULT_TENANT:
                    values[StateKey(tenant, rule.name, "")] = self._figure(tx, rule, figures, moment.now)
        looks = [
            look(self._rules(key.tenant)[key.rule], Subject(tenant=key.tenant), key, states.get(key), value, moment.now)
            for key, value in values.items()
        ]
        rest = {key: memory for key, memory in states.items() if key not in values}
        tenants = {(key.tenant, ""): Subject(tenant=key.tenant) for key in rest}
        return [one for one in looks if one is not None] + list(self._look_at_rest(rest, tenants, moment.now))

    def _figure(self, tx: Tx, rule: AlertRule, figures: Mapping[str, float], now: datetime) -> float | None:
        if rule.source == "hub.dead_notices":
            return float(notices.dead_since(tx, now - timedelta(seconds=rule.span_s)))
        if rule.source == "hub.ingest_lag_s":
            _, oldest_ms = stream_states.lag(tx)
            return 0.0 if oldest_ms is None else max(0.0, (to_ms(now) - oldest_ms) / 1000)
        return figures.get(rule.source)

    # -- all ------------------------------------------------------------------------------------------------------------

    def _remind(self, now: datetime) -> int:
        with self._db.read() as tx:
            if not alerts.due(tx, now, 1):
                return 0
        with self._db.write() as tx:
            return self._writer(tx, now).remind(REMIND)

    def _moment(self, now: datetime) -> Moment:
        with self._db.read() as tx:
            everyone = {*observed.tenants(tx), DEFAULT_TENANT}
            spans = {rule.span_s for rule in _all(self._rules, everyone) if rule.source == "telemetry.quarantine"}
            counts = {span_s: observed.quarantined(tx, now - timedelta(seconds=span_s)) for span_s in spans}
        return Moment(now=now, started_at=self._started_at, quarantined=counts)

    def _writer(self, tx: Tx, now: datetime) -> Writer:
        return Writer(tx, now, self._routes, self._repeat_s)


def _fade(rule: AlertRule, subject: Subject, key: StateKey, before: AlertMemory, now: datetime) -> Look | None:
    """Events fall out of the span that counts."""
    total = before.growth.total(to_ms(now), rule.span_s) if before.growth else ()
    growth = before.growth if total else None
    if growth is None and before.standing is None:
        return over(key, before, now, "")
    return look(rule, subject, key, before, grown(rule, total), now, growth=growth)


def _all(rules: Rules, tenants: Iterable[TenantId]) -> Iterator[AlertRule]:
    for tenant in tenants:
        yield from rules(tenant).values()
