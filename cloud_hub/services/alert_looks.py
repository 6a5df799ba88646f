"""One look of one rule at one subject, decided without a database; and what a transaction writes of many looks."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from cloud_hub.core.alert_rules import AlertRule, render
from cloud_hub.core.alerts import Alert, AlertState, Change, Growth, Silence, Subject, step
from cloud_hub.core.notices import News, Route
from cloud_hub.store import alert_states, alerts, notices, silences
from cloud_hub.store.alert_states import AlertMemory, StateKey
from cloud_hub.store.database import Tx

_REFRESH_S = 60.0  # how often the value of an open alert is written while nothing else changes
_SILENCE_CHECK_S = 60.0  # how often an alert that is silenced is looked at again


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """Something that is to be written."""

    key: StateKey
    before: AlertMemory | None
    after: AlertMemory
    change: Change | None = None
    value: float | None = None
    repeats: int = 0
    rule: AlertRule | None = None  # None: it is gone or does not apply any more
    subject: Subject | None = None  # None likewise
    why: str = ""  # an alert ends; empty: because it is clear again


def look(
    rule: AlertRule,
    subject: Subject,
    key: StateKey,
    before: AlertMemory | None,
    value: float | None,
    now: datetime,
    *,
    at: datetime | None = None,
    growth: Growth | None = None,
    repeats: int = 0,
) -> Look | None:
    """None: there is nothing to write. ``at`` is when the value was so, where that is not now."""
    standing, change = step(rule, before.standing if before else None, value, at or now)
    if before is None and standing is None and growth is None:
        return None
    if before is not None and change is None and not repeats and at is None and standing == before.standing:
        stale = value is not None and value != before.value and now - before.looked_at >= timedelta(seconds=_REFRESH_S)
        if growth == before.growth and not (standing is not None and stale):
            return None
    after = AlertMemory(
        standing=standing,
        value=value if value is not None else before.value if before else None,
        at=at or now,
        looked_at=now,
        alert=before.alert if before and standing else "",
        growth=growth,
    )
    repeats += change is Change.AGAIN
    return Look(key=key, before=before, after=after, change=change, value=value, repeats=repeats, rule=rule, subject=subject)


def over(key: StateKey, before: AlertMemory, now: datetime, why: str) -> Look:
    """Nobody looks there any more: what is remembered is forgotten, what is open ends."""
    change = Change.RESOLVED if before.alert else None
    return Look(key=key, before=before, after=AlertMemory(at=now, looked_at=now), change=change, why=why)


class Writer:
    """Writes looks and what follows from them into one transaction: it holds all of a transition or nothing."""

    def __init__(self, tx: Tx, now: datetime, routes: Sequence[Route], repeat_s: float) -> None:
        self._tx = tx
        self._now = now
        self._routes = routes
        self._repeat_s = repeat_s
        self._silences: list[Silence] | None = None
        self._fired: list[alerts.New] = []
        self._told: list[tuple[str, News, Alert]] = []

    def write(self, looks: Iterable[Look]) -> None:
        states: list[tuple[StateKey, AlertMemory]] = []
        seen: list[tuple[str, float, int, datetime]] = []
        for one in looks:
            after = one.after
            if one.change is Change.FIRED and one.rule is not None and one.subject is not None and one.value is not None:
                after = replace(after, alert=self._fire(one.rule, one.subject, one.key, one.value))
            elif one.change is Change.RESOLVED and one.before is not None:
                self._resolve(one.before.alert, one.why or "clear again", one.value)
            elif after.alert and after.value is not None:
                seen.append((after.alert, after.value, one.repeats, self._now))
            states.append((one.key, after))
        alerts.seen(self._tx, seen)
        alert_states.put(self._tx, states)
        self._flush()

    def resolve(self, id: str, why: str) -> Alert | None:
        """None: it is not open."""
        ended = self._resolve(id, why)
        self._flush()
        return ended

    def acknowledge(self, found: Alert, by: str, comment: str) -> Alert:
        acknowledged = replace(
            found,
            state=AlertState.ACKNOWLEDGED,
            acknowledged_at=self._now,
            acknowledged_by=by,
            comment=comment,
            updated_at=self._now,
        )
        alerts.set_alert(
            self._tx,
            found.id,
            transition=True,
            state=int(AlertState.ACKNOWLEDGED),
            acknowledged_at=self._now,
            acknowledged_by=by,
            comment=comment,
            updated_at=self._now,
            notice_at=None,
        )
        if alerts.was_told(self._tx, found.id):
            self._tell(News.ACKNOWLEDGED, acknowledged)
        self._flush()
        return acknowledged

    def remind(self, limit: int) -> int:
        """Tell again what still fires, and for the first time what was silenced until now; how many were looked at."""
        due = alerts.due(self._tx, self._now, limit)
        for alert in due:
            if self._silenced(alert):
                alerts.set_alert(self._tx, alert.id, notice_at=self._now + timedelta(seconds=_SILENCE_CHECK_S))
                continue
            self._tell(News.REPEATED if alerts.was_told(self._tx, alert.id) else News.FIRED, alert)
            alerts.set_alert(self._tx, alert.id, told=True, notice_at=self._next_notice())
        self._flush()
        return len(due)

    def _resolve(self, id: str, why: str, value: float | None = None) -> Alert | None:
        found = alerts.find(self._tx, id)
        if found is None or found.state is AlertState.RESOLVED:
            return None
        ended = replace(
            found,
            state=AlertState.RESOLVED,
            resolved_at=self._now,
            updated_at=self._now,
            resolution=why,
            value=found.value if value is None else value,
        )
        told = alerts.was_told(self._tx, id)
        alerts.set_alert(
            self._tx,
            id,
            transition=True,
            state=int(ended.state),
            resolved_at=self._now,
            updated_at=self._now,
            resolution=why,
            value=ended.value,
            notice_at=None,
        )
        if told:  # also in a silence: who has opened an incident must learn that it is over
            self._tell(News.RESOLVED, ended)
        return ended

    def _fire(self, rule: AlertRule, subject: Subject, key: StateKey, value: float) -> str:
        alert = Alert(
            id=alerts.new_id(),
            tenant=key.tenant,
            rule=rule.name,
            device=key.device,
            key=key.key,
            source=rule.event or rule.stream or rule.source,
            severity=rule.level,
            state=AlertState.FIRING,
            summary=render(rule, device=key.device, key=key.key, value=value),
            value=value,
            threshold=rule.threshold,
            labels=subject.labels,
            repeats=0,
            fired_at=self._now,
            updated_at=self._now,
        )
        silenced = self._silenced(alert)
        self._fired.append(alerts.New(alert, not silenced, self._now if silenced else self._next_notice()))
        if not silenced:
            self._tell(News.FIRED, alert)
        return alert.id

    def _next_notice(self) -> datetime:
        return self._now + timedelta(seconds=self._repeat_s)

    def _silenced(self, alert: Alert) -> bool:
        if self._silences is None:
            self._silences = silences.active(self._tx, self._now)
        return any(one.covers(alert, self._now) for one in self._silences)

    def _tell(self, news: News, alert: Alert) -> None:
        self._told += [(route.sink, news, alert) for route in self._routes if route.takes(alert)]

    def _flush(self) -> None:
        """A storm is a few statements."""
        alerts.add(self._tx, self._fired)
        notices.add(self._tx, self._told, self._now)
        self._fired, self._told = [], []
