"""Alerts: rules, what fires, silences, and where it is told."""

from asyncio import sleep
from collections.abc import AsyncGenerator

from cloud_hub.core import alert_rules, pages
from cloud_hub.core.alert_rules import AlertRule, Severity
from cloud_hub.core.alerts import Alert, AlertState, Matcher, Silence
from cloud_hub.core.errors import Invalid
from cloud_hub.core.pages import Page
from cloud_hub.rpc.guard import Call
from cloud_hub.rpc.requests import page_from_pb
from cloud_hub.rpc.threads import Threads
from cloud_hub.rpc.times import opt_to_ms
from cloud_hub.services.alert_rules import RuleView
from cloud_hub.services.alerts import AlertService
from cloud_hub.store.alerts import Query
from protos.contract.telemetry import to_ms
from protos.v1 import alerts_pb2 as pb

SERVICE = pb.DESCRIPTOR.services_by_name["Alerts"]
_POLL_S = 0.5


class AlertsServicer:
    def __init__(self, alerts: AlertService, threads: Threads) -> None:
        self._alerts = alerts
        self._threads = threads

    async def PutRule(self, request: pb.PutRuleRequest, call: Call) -> pb.PutRuleReply:
        return pb.PutRuleReply(rules=map(rule_to_pb, await self._threads.call(self._alerts.rules.put, call.who, request.yaml)))

    async def ListRules(self, request: pb.ListRulesRequest, call: Call) -> pb.ListRulesReply:
        return pb.ListRulesReply(rules=map(rule_to_pb, await self._threads.call(self._alerts.rules.list, call.who)))

    async def DeleteRule(self, request: pb.DeleteRuleRequest, call: Call) -> pb.DeleteRuleReply:
        await self._threads.call(self._alerts.rules.delete, call.who, request.name)
        return pb.DeleteRuleReply()

    async def ListAlerts(self, request: pb.ListAlertsRequest, call: Call) -> pb.ListAlertsReply:
        page = page_from_pb(request.page_size, request.page_token)
        alerts, following = await self._threads.call(self._alerts.list, call.who, query_from_pb(request), page)
        return pb.ListAlertsReply(alerts=map(alert_to_pb, alerts), next_page_token=following)

    async def GetAlert(self, request: pb.GetAlertRequest, call: Call) -> pb.Alert:
        return alert_to_pb(await self._threads.call(self._alerts.get, call.who, request.id))

    async def AckAlert(self, request: pb.AckAlertRequest, call: Call) -> pb.Alert:
        return alert_to_pb(await self._threads.call(self._alerts.acknowledge, call.who, request.id, request.comment))

    async def ResolveAlert(self, request: pb.ResolveAlertRequest, call: Call) -> pb.Alert:
        return alert_to_pb(await self._threads.call(self._alerts.resolve, call.who, request.id, request.comment))

    async def WatchAlerts(self, request: pb.WatchAlertsRequest, call: Call) -> AsyncGenerator[pb.AlertChange, None]:
        revision = pages.number(Page(token=request.token))
        while True:
            alerts, revision = await self._threads.call(self._alerts.changes, call.who, revision)
            for number, alert in enumerate(alerts, start=1):
                yield pb.AlertChange(alert=alert_to_pb(alert), token=str(revision) if number == len(alerts) else "")
            await sleep(_POLL_S)

    async def CreateSilence(self, request: pb.CreateSilenceRequest, call: Call) -> pb.Silence:
        args = (matcher_from_pb(request), float(request.duration_s), request.reason)
        return silence_to_pb(await self._threads.call(self._alerts.silences.add, call.who, *args))

    async def ListSilences(self, request: pb.ListSilencesRequest, call: Call) -> pb.ListSilencesReply:
        page = page_from_pb(request.page_size, request.page_token)
        silences, following = await self._threads.call(self._alerts.silences.list, call.who, request.active_only, page)
        return pb.ListSilencesReply(silences=map(silence_to_pb, silences), next_page_token=following)

    async def ExpireSilence(self, request: pb.ExpireSilenceRequest, call: Call) -> pb.Silence:
        return silence_to_pb(await self._threads.call(self._alerts.silences.expire, call.who, request.id))

    async def ListSinks(self, request: pb.ListSinksRequest, call: Call) -> pb.ListSinksReply:
        return pb.ListSinksReply(names=await self._threads.call(self._alerts.sinks, call.who))

    async def TestSink(self, request: pb.TestSinkRequest, call: Call) -> pb.TestSinkReply:
        await self._threads.call(self._alerts.test, call.who, request.name)
        return pb.TestSinkReply()


def query_from_pb(request: pb.ListAlertsRequest) -> Query:
    """Raises Invalid."""
    try:
        state = AlertState(request.state) if request.state else None
    except ValueError as error:
        raise Invalid(f"no alert state has the number {request.state}") from error
    return Query(
        open_only=request.open_only,
        rule=request.rule,
        device=request.device_id,
        min_severity=severity_from_pb(request.min_severity) or Severity.INFO,
        state=state,
    )


def matcher_from_pb(request: pb.CreateSilenceRequest) -> Matcher:
    """Raises Invalid."""
    severity = severity_from_pb(request.severity)
    return Matcher(rule=request.rule, device=request.device_id, severity=severity, labels=dict(request.labels))


def severity_from_pb(number: int) -> Severity | None:
    """None for 0. Raises Invalid."""
    try:
        return Severity(number) if number else None
    except ValueError as error:
        raise Invalid(f"no severity has the number {number}") from error


def alert_to_pb(alert: Alert) -> pb.Alert:
    return pb.Alert(
        id=alert.id,
        rule=alert.rule,
        device_id=alert.device,
        key=alert.key,
        source=alert.source,
        severity=alert.severity,  # type: ignore[arg-type]  # numbers are the wire's
        state=alert.state,  # type: ignore[arg-type]
        summary=alert.summary,
        value=alert.value,
        threshold=alert.threshold,
        labels=dict(alert.labels),
        repeats=alert.repeats,
        fired_at_ms=to_ms(alert.fired_at),
        updated_at_ms=to_ms(alert.updated_at),
        acknowledged_at_ms=opt_to_ms(alert.acknowledged_at),
        acknowledged_by=alert.acknowledged_by,
        comment=alert.comment,
        resolved_at_ms=opt_to_ms(alert.resolved_at),
        resolution=alert.resolution,
    )


def rule_to_pb(view: RuleView) -> pb.AlertRule:
    rule = view.rule
    return pb.AlertRule(
        name=rule.name,
        source=_source(rule),
        severity=rule.level,  # type: ignore[arg-type]  # numbers are the wire's
        enabled=rule.enabled,
        built_in=view.built_in,
        changed_at_ms=opt_to_ms(view.changed_at),
        changed_by=view.changed_by,
        yaml=alert_rules.dump(rule),
    )


def silence_to_pb(silence: Silence) -> pb.Silence:
    return pb.Silence(
        id=silence.id,
        rule=silence.what.rule,
        device_id=silence.what.device,
        severity=silence.what.severity or 0,  # type: ignore[arg-type]  # numbers are the wire's
        labels=dict(silence.what.labels),
        starts_at_ms=to_ms(silence.starts_at),
        until_ms=to_ms(silence.until),
        reason=silence.reason,
        created_by=silence.created_by,
    )


def _source(rule: AlertRule) -> str:
    return " ".join(word for word in (rule.source, rule.event, rule.stream, rule.value) if word)
