"""The rules that hold for a tenant: built in, changed, switched off, its own."""

import builtins
import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from cloud_hub.core import alert_rules
from cloud_hub.core.alert_defaults import BUILT_IN
from cloud_hub.core.alert_rules import AlertRule
from cloud_hub.core.errors import Conflict, Exhausted, Invalid, NotFound
from cloud_hub.core.model import Principal
from cloud_hub.services.alert_looks import Writer, over
from cloud_hub.store import alert_states, alerts
from cloud_hub.store.database import Database, Tx
from edge_agent.core.clock import Clock
from protos.contract.ids import TenantId

log = logging.getLogger(__name__)

MAX_RULES = 200  # of a tenant

MakeWriter = Callable[[Tx, datetime], Writer]


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleView:
    """A rule as it holds for a tenant."""

    rule: AlertRule
    built_in: bool  # there is a built-in one of this name
    changed_at: datetime | None = None  # None: as built in
    changed_by: str = ""


class AlertRules:
    """Users see and change their own tenant's. The one process that evaluates them is the one that changes them."""

    def __init__(self, db: Database, clock: Clock, writer: MakeWriter, *, defaults: bool) -> None:
        self._db = db
        self._clock = clock
        self._writer = writer
        self._built_in = BUILT_IN if defaults else {}
        self._enabled: dict[TenantId, Mapping[str, AlertRule]] | None = None
        self._loading = threading.Lock()

    def put(self, who: Principal, yaml: str) -> builtins.list[RuleView]:
        """Make or replace the rules of a YAML text, all or none. Raises Invalid naming rule and key, Exhausted."""
        rules, now = alert_rules.parse(yaml, self._built_in), self._clock.now()
        with self._db.write() as tx:
            before = self._own(tx).get(who.tenant, {})
            if len({*before, *(rule.name for rule in rules)}) > MAX_RULES:
                raise Exhausted(f"{who.tenant} has {len(before)} alert rules of its own, and {MAX_RULES} are the most")
            for rule in rules:
                old = before[rule.name].rule if rule.name in before else self._built_in.get(rule.name)
                if old is not None and (old.identity != rule.identity or not rule.enabled):
                    self._end(tx, who.tenant, rule.name, now, f"the rule was changed by {who.name}")
                alerts.put_rule(tx, who.tenant, rule.name, alert_rules.dump(rule), now, who.name)
        self._forget()
        log.info("alert rules put", extra={"rules": [rule.name for rule in rules], "by": who.name})
        names = {rule.name for rule in rules}
        return [view for view in self.list(who) if view.rule.name in names]

    def list(self, who: Principal) -> builtins.list[RuleView]:
        """All that hold or are switched off, by name."""
        with self._db.read() as tx:
            own = self._own(tx).get(who.tenant, {})
        views = {name: RuleView(rule=rule, built_in=True) for name, rule in self._built_in.items()}
        return sorted({**views, **own}.values(), key=lambda view: view.rule.name)

    def delete(self, who: Principal, name: str) -> None:
        """A built-in rule of that name holds again as it was. Raises NotFound, Conflict for a built-in rule nobody changed."""
        now = self._clock.now()
        with self._db.write() as tx:
            if not alerts.remove_rule(tx, who.tenant, name):
                if name in self._built_in:
                    raise Conflict(f"alert rule {name} is built in: put it with 'enabled: false' to switch it off")
                raise NotFound(f"no alert rule {name[:80]!r}")
            self._end(tx, who.tenant, name, now, f"the rule was deleted by {who.name}")
        self._forget()
        log.info("alert rule deleted", extra={"rule": name, "by": who.name})

    def enabled(self, tenant: TenantId) -> Mapping[str, AlertRule]:
        """Those that are evaluated, by name."""
        with self._loading:
            if self._enabled is None:
                with self._db.read() as tx:
                    own = self._own(tx)
                self._enabled = {owner: self._merged(views) for owner, views in own.items()}
            if tenant not in self._enabled:
                self._enabled[tenant] = self._merged({})
            return self._enabled[tenant]

    def _merged(self, own: Mapping[str, RuleView]) -> Mapping[str, AlertRule]:
        rules = {**self._built_in, **{name: view.rule for name, view in own.items()}}
        return {name: rule for name, rule in rules.items() if rule.enabled}

    def _forget(self) -> None:
        with self._loading:
            self._enabled = None

    def _end(self, tx: Tx, tenant: TenantId, rule: str, now: datetime, why: str) -> None:
        states = alert_states.of_rule(tx, tenant, rule)
        self._writer(tx, now).write(over(key, before, now, why) for key, before in states.items())

    def _own(self, tx: Tx) -> dict[TenantId, dict[str, RuleView]]:
        found: dict[TenantId, dict[str, RuleView]] = {}
        for row in alerts.rules(tx):
            try:
                (rule,) = alert_rules.parse(row.yaml, {})
            except Invalid as error:  # a newer hub may have stored it
                log.error("stored alert rule cannot be used", extra={"rule": row.name, "reason": str(error)})
                continue
            view = RuleView(
                rule=rule, built_in=row.name in self._built_in, changed_at=row.updated_at, changed_by=row.updated_by
            )
            found.setdefault(row.tenant, {})[row.name] = view
        return found
