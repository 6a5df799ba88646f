"""Alerts over the wire: every field, and a watch that follows."""

from datetime import timedelta

import grpc
import pytest

from cloud_hub.store import events
from edge_agent.core.clock import SystemClock
from protos.contract.ids import DeviceId, TenantId
from protos.contract.telemetry import Event, to_ms
from protos.v1 import alerts_pb2 as pb
from protos.v1 import alerts_pb2_grpc
from tests.hub.rpc.running import RunningHub


@pytest.fixture
def stub(hub: RunningHub) -> alerts_pb2_grpc.AlertsStub:
    return alerts_pb2_grpc.AlertsStub(hub.channel(hub.user))  # type: ignore[no-untyped-call]


def clone(hub: RunningHub, device: str) -> None:
    """Something that fires at once."""
    hub.services.alerts.tick()
    hub.device(device)
    now = SystemClock().now()
    with hub.db.write() as tx:
        events.add(
            tx, [(TenantId("default"), DeviceId(device), Event(sequence=1, at=now, kind="telemetry.cloned"), to_ms(now))]
        )
    hub.services.alerts.tick()


def test_an_alert_is_listed_got_acknowledged_and_resolved(hub: RunningHub, stub: alerts_pb2_grpc.AlertsStub) -> None:
    clone(hub, "cam-fields")
    [listed] = stub.ListAlerts(pb.ListAlertsRequest(open_only=True, device_id="cam-fields")).alerts
    assert stub.GetAlert(pb.GetAlertRequest(id=listed.id)) == listed
    assert (listed.rule, listed.severity, listed.state) == ("cloned", pb.ALERT_SEVERITY_CRITICAL, pb.ALERT_STATE_FIRING)
    assert (listed.value, listed.threshold, listed.source) == (1.0, 0.0, "telemetry.cloned")
    acknowledged = stub.AckAlert(pb.AckAlertRequest(id=listed.id, comment="mine"))
    assert (acknowledged.acknowledged_by, acknowledged.comment) == ("ada", "mine") and acknowledged.acknowledged_at_ms
    with pytest.raises(grpc.RpcError) as twice:
        stub.AckAlert(pb.AckAlertRequest(id=listed.id))
    assert twice.value.code() is grpc.StatusCode.ALREADY_EXISTS
    resolved = stub.ResolveAlert(pb.ResolveAlertRequest(id=listed.id))
    assert resolved.state == pb.ALERT_STATE_RESOLVED and resolved.resolution == "by ada"
    assert list(stub.ListAlerts(pb.ListAlertsRequest(open_only=True, device_id="cam-fields")).alerts) == []
    with pytest.raises(grpc.RpcError) as unknown:
        stub.ListAlerts(pb.ListAlertsRequest(min_severity=9))  # type: ignore[arg-type]
    assert unknown.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_a_watch_tells_what_is_open_then_every_change_and_goes_on_where_it_broke_off(
    hub: RunningHub, stub: alerts_pb2_grpc.AlertsStub
) -> None:
    clone(hub, "cam-first")
    stream = stub.WatchAlerts(pb.WatchAlertsRequest(), timeout=30)
    first = next(one.alert for one in stream if one.alert.device_id == "cam-first")
    clone(hub, "cam-second")
    last = next(one for one in stream if one.alert.device_id == "cam-second")
    second = last.alert
    assert (first.state, second.state) == (pb.ALERT_STATE_FIRING, pb.ALERT_STATE_FIRING)
    stream.cancel()
    stub.AckAlert(pb.AckAlertRequest(id=first.id))
    stub.ResolveAlert(pb.ResolveAlertRequest(id=second.id))
    stream = stub.WatchAlerts(pb.WatchAlertsRequest(token=last.token), timeout=30)
    changes = [next(stream).alert for _ in range(2)]
    assert [(one.id, one.state) for one in changes] == [
        (first.id, pb.ALERT_STATE_ACKNOWLEDGED), (second.id, pb.ALERT_STATE_RESOLVED),
    ]  # fmt: skip
    stream.cancel()
    with pytest.raises(grpc.RpcError) as refused:
        next(stub.WatchAlerts(pb.WatchAlertsRequest(token="x"), timeout=30))
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_rules_silences_and_sinks_go_over_the_wire(hub: RunningHub, stub: alerts_pb2_grpc.AlertsStub) -> None:
    [rule] = stub.PutRule(pb.PutRuleRequest(yaml="{name: moved, event: camera.*, severity: info}")).rules
    assert (rule.source, rule.severity, rule.built_in) == ("event camera.*", pb.ALERT_SEVERITY_INFO, False)
    assert rule.changed_by == "ada"
    rules = {one.name: one for one in stub.ListRules(pb.ListRulesRequest()).rules}
    assert rules["moved"] == rule and rules["offline"].built_in and not rules["offline"].changed_at_ms
    stub.DeleteRule(pb.DeleteRuleRequest(name="moved"))
    request = pb.CreateSilenceRequest(
        rule="hot", severity=pb.ALERT_SEVERITY_WARNING, labels={"site": "gate"}, duration_s=3600, reason="heat"
    )
    silence = stub.CreateSilence(request)
    assert silence.until_ms - silence.starts_at_ms == timedelta(hours=1) // timedelta(milliseconds=1)
    assert (dict(silence.labels), silence.severity, silence.reason) == ({"site": "gate"}, pb.ALERT_SEVERITY_WARNING, "heat")
    assert list(stub.ListSilences(pb.ListSilencesRequest(active_only=True)).silences) == [silence]
    stub.ExpireSilence(pb.ExpireSilenceRequest(id=silence.id))
    assert list(stub.ListSilences(pb.ListSilencesRequest(active_only=True)).silences) == []
    assert list(stub.ListSinks(pb.ListSinksRequest()).names) == ["log"]
    stub.TestSink(pb.TestSinkRequest(name="log"))
