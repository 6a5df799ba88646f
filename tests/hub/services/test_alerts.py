"""What fires, once, and who is told: over real databases and across restarts."""

import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine, func, select, text
from sqlalchemy import event as sqlalchemy_event

from cloud_hub.core.alert_rules import Severity
from cloud_hub.core.alerts import AlertState, Matcher
from cloud_hub.core.config import AlertsConfig
from cloud_hub.core.errors import Conflict, Exhausted, Invalid, NotFound, NotReady
from cloud_hub.core.model import JobState, StreamWindow
from cloud_hub.core.notices import SinkDown
from cloud_hub.core.pages import Page
from cloud_hub.services import alert_rounds, alert_rules, alerts, silences
from cloud_hub.services.alerts import AlertService
from cloud_hub.store import alert_states, episodes, events, notices, quarantine, training
from cloud_hub.store import alerts as store
from cloud_hub.store.alerts import Query
from protos.contract import ids
from protos.contract.ids import DeviceId
from protos.contract.telemetry import Event, to_ms
from protos.contract.twin import Presence
from tests.hub.alert_parts import KeptSink, Watched, routed
from tests.hub.databases import PostgresServer
from tests.hub.fleet_parts import ADMIN, START, STRANGER, TENANT, Hub
from tests.hub.mqtt_parts import wait_for

FIRING, ACKNOWLEDGED, RESOLVED = AlertState.FIRING, AlertState.ACKNOWLEDGED, AlertState.RESOLVED


@pytest.fixture
def site(tmp_path: Path, database_url: str) -> Iterator[Watched]:
    made = Watched(tmp_path, database_url)
    yield made
    made.close()


def test_a_device_that_goes_fires_once_is_acknowledged_comes_back_and_resolves_whatever_restarts_in_between(
    site: Watched,
) -> None:
    device = site.device("cam-1", site="gate")
    device.online(Presence.OFFLINE)
    site.tick(299)
    assert site.open() == []
    site.tick(2)
    site.tick(60)
    site.restart()
    site.tick(5)
    [alert] = site.open()
    assert (alert.rule, alert.device, alert.state, alert.labels) == ("offline", "cam-1", FIRING, {"site": "gate"})
    assert alert.summary == "cam-1 has not been heard of for 301 s"
    site.send()
    site.alerts.acknowledge(ADMIN, alert.id, "on my way")
    site.restart()
    site.send()
    site.tick(3600)
    device.on(site.hub).online()
    site.tick(5)
    site.restart()
    site.tick(10)
    site.send()
    site.tick(5)
    assert site.all() == [("cam-1", RESOLVED)]
    assert site.sink.news() == [("offline", "cam-1", news) for news in ("fired", "acknowledged", "resolved")]
    found = site.alerts.get(ADMIN, alert.id)
    assert (found.acknowledged_by, found.comment, found.resolution) == ("ada", "on my way", "clear again")


def test_a_device_that_was_stopped_or_never_came_is_not_offline_unless_a_rule_says_so(site: Watched) -> None:
    site.device("cam-stopped", Presence.STOPPED)
    site.device("cam-new", None)
    site.tick(4000)
    assert site.open() == []
    site.alerts.rules.put(ADMIN, "{name: offline, count_stopped: true}")
    site.tick()
    assert [alert.device for alert in site.open()] == ["cam-stopped"]


def test_nobody_is_offline_for_longer_than_the_hub_has_been_there_to_hear(site: Watched) -> None:
    site.device("cam-1", Presence.OFFLINE).on(site.hub).online()
    site.device("cam-2").online(Presence.OFFLINE)
    site.hub.clock.advance(7200)
    site.restart()
    site.tick(5)
    assert site.open() == []
    site.tick(300)
    assert [alert.device for alert in site.open()] == ["cam-2"]


def test_health_fires_and_clears_at_different_values_and_says_nothing_once_the_device_is_gone(site: Watched) -> None:
    device = site.device("cam-1")
    site.report(device, temperature_c=85.0, disk_free_bytes=40, disk_total_bytes=1000)
    site.tick()
    site.tick(60)
    assert {alert.rule for alert in site.open()} == {"hot", "disk-low"}
    site.report(device, temperature_c=78.0, disk_free_bytes=70, disk_total_bytes=1000)
    site.tick(120)
    assert len(site.open()) == 2  # between the thresholds
    site.report(device, temperature_c=60.0, disk_free_bytes=90, disk_total_bytes=1000)
    device.online(Presence.OFFLINE)
    site.tick(120)
    assert {alert.rule for alert in site.open()} == {"hot", "disk-low"}  # what it said last says nothing of now
    device.online()
    site.tick(5)
    site.tick(60)
    assert site.open() == []


def test_what_was_dropped_or_failed_before_anybody_looked_is_no_news_and_more_of_it_is(site: Watched) -> None:
    device = site.device("cam-1")
    site.dropped("cam-1", 50)
    site.report(device, inferences=1000, inference_errors=500)
    site.tick(5)
    assert site.open() == []
    site.dropped("cam-1", 57)
    site.report(device, inferences=1000, inference_errors=600)
    site.tick(30)
    site.restart()
    site.report(device, inferences=1000, inference_errors=700)
    site.tick(30)
    site.tick(35)
    gap, failing = sorted(site.open(), key=lambda alert: alert.rule)
    assert (gap.rule, gap.value, failing.rule) == ("gap", 7.0, "inference-failing")
    assert gap.summary == "cam-1 dropped 7 records: its spool was full"
    site.report(device, inferences=9000, inference_errors=700)
    site.tick(3700)
    site.tick(5)
    assert site.open() == []


def test_events_fire_by_their_kind_are_counted_while_they_repeat_and_fade(site: Watched) -> None:
    site.device("cam-1")
    site.device("cam-2")
    site.alerts.rules.put(ADMIN, "{name: rolled-back, event: update.*, above: 1, over_s: 600, severity: info}")
    site.event("cam-1", "update.rolled_back")
    site.event("cam-1", "telemetry.cloned")
    site.tick(5)
    assert [(alert.rule, alert.severity) for alert in site.open()] == [("cloned", Severity.CRITICAL)]
    site.event("cam-1", "update.failed")
    site.event("cam-2", "update.failed")
    site.tick(5)
    [alert] = site.open("rolled-back")
    assert (alert.device, alert.value, alert.source) == ("cam-1", 2.0, "update.*")
    site.event("cam-1", "update.failed")
    site.restart()
    site.tick(5)
    assert [(alert.value, alert.repeats) for alert in site.open("rolled-back")] == [(3.0, 1)]
    site.tick(700)
    assert site.open("rolled-back") == []
    with site.hub.db.read() as tx:
        states = alert_states.between(tx, "", None)
    assert not [key for key in states if key.rule == "rolled-back"]  # nothing is kept of what is over


def test_an_event_is_noticed_though_all_before_it_are_forgotten(site: Watched) -> None:
    site.device("cam-1")
    site.event("cam-1", "telemetry.lost")
    site.tick()
    with site.hub.db.write() as tx:
        events.forget(tx, to_ms(site.hub.clock.now()) + 1, 1000)
    site.event("cam-1", "telemetry.cloned")
    site.tick()
    assert {alert.rule for alert in site.open()} == {"lost", "cloned"}


def test_a_clock_that_leaps_ahead_makes_no_alert_old(site: Watched) -> None:
    site.device("cam-1").online(Presence.OFFLINE)
    site.tick(400)
    [alert] = site.open("offline")
    site.alerts.resolve(ADMIN, alert.id)
    site.tick(3600)
    site.hub.clock.leap(400 * 86_400)
    site.tick(3599)
    site.tick(1)
    assert site.alerts.get(ADMIN, alert.id)
    site.tick(3600)
    with pytest.raises(NotFound):
        site.alerts.get(ADMIN, alert.id)


def test_a_clock_that_is_put_back_does_not_hide_who_is_offline(site: Watched) -> None:
    site.hub.clock.leap(400 * 86_400)
    site.device("cam-1").online(Presence.OFFLINE)
    site.restart()
    site.tick()
    site.hub.clock.leap(-400 * 86_400)
    site.tick()
    assert not site.open("offline")
    site.tick(400)
    assert [alert.device for alert in site.open("offline")] == ["cam-1"]


def test_an_event_whose_writer_is_slower_than_that_of_the_next_one_is_not_left_out(
    tmp_path: Path, postgres_server: PostgresServer
) -> None:
    """PostgreSQL numbers rows when they are inserted; others may commit before."""
    name = postgres_server.migrated()
    site = Watched(tmp_path, postgres_server.url(name))
    site.device("cam-1")
    site.device("cam-2")
    now = site.hub.clock.now()
    with site.hub.db.append() as slow:
        events.add(slow, [(TENANT, DeviceId("cam-1"), Event(sequence=1, at=now, kind="telemetry.lost"), to_ms(now))])
        with site.hub.db.append() as quick:
            events.add(quick, [(TENANT, DeviceId("cam-2"), Event(sequence=1, at=now, kind="telemetry.lost"), to_ms(now))])
        looking = threading.Thread(target=site.tick)
        looking.start()
        wait_for(lambda: _waits_for_lock(site), "the look waits for the slow writer")
    looking.join(20)
    assert sorted(alert.device for alert in site.open("lost")) == ["cam-1", "cam-2"]
    site.close()
    postgres_server.empty(name)


def _waits_for_lock(site: Watched) -> bool:
    with site.hub.db.read() as tx:
        found = tx.execute(text("SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'device_events'::regclass"))
        return bool(found.scalar())


def test_events_of_before_the_first_look_are_history(tmp_path: Path, database_url: str) -> None:
    hub = Hub(tmp_path, database_url=database_url)
    hub.device("cam-1")
    hub.db.close()
    site = Watched(tmp_path, database_url)
    site.event("cam-1", "telemetry.lost")
    site.tick()
    assert [alert.rule for alert in site.open()] == ["lost"]
    with site.hub.db.write() as tx:
        tx.execute(store.alert_cursors.delete().where(store.alert_cursors.c.name == store.EVENTS))
        tx.execute(store.alerts.delete())
        tx.execute(alert_states.alert_states.delete())
    site.tick()
    assert site.open() == []
    site.close()


def test_a_message_nobody_can_use_is_its_devices_or_else_the_tenants(site: Watched) -> None:

    site.device("cam-1")
    for topic in ("tl/v1/default/cam-1/up/status", "tl/v1/default/nobody/up/status", "what/ever"):
        with site.hub.db.write() as tx:
            quarantine.add(tx, TENANT, topic, b"\x00", "not a status", to_ms(site.hub.clock.now()))
    site.tick()
    assert sorted((alert.device, alert.value) for alert in site.open("quarantine")) == [("", 2.0), ("cam-1", 1.0)]
    site.tick(3700)
    assert site.open() == []


def test_drift_fires_while_an_episode_is_open(site: Watched) -> None:

    site.device("cam-1")
    with site.hub.db.write() as tx:
        episodes.add(tx, TENANT, DeviceId("cam-1"), ids.model_name("signs"), 1, START, "labels moved")
    site.tick()
    assert [alert.rule for alert in site.open()] == ["drift"]
    with site.hub.db.write() as tx:
        episodes.close_all(tx, DeviceId("cam-1"), START, "quiet")
    site.tick()
    assert site.open() == []


def test_a_models_failed_job_fires_until_another_one_ends_well(site: Watched) -> None:
    def job(state: JobState) -> None:
        with site.hub.db.write() as tx:
            made = training.add_job(
                tx, TENANT, ids.model_name("signs"), trigger="manual", detail="", spec_yaml="", at=site.hub.clock.now()
            )
            training.set_job(tx, made.id, only=[JobState.QUEUED], state=int(state), ended_at=site.hub.clock.now())

    job(JobState.FAILED)
    site.tick()
    [alert] = site.open()
    assert (alert.rule, alert.device, alert.key, alert.summary) == (
        "job-failed",
        "",
        "signs",
        "the last training job of signs failed",
    )
    job(JobState.CANCELLED)
    site.tick()
    assert len(site.open()) == 1
    job(JobState.REJECTED)
    site.tick()
    assert site.open() == []


def test_the_hub_itself_is_watched_and_shown_to_the_default_tenant_only(site: Watched) -> None:
    site.figures |= {"hub.broker_down": 1.0, "hub.certificate_days": 5.0}
    site.tick()
    site.tick(30)
    assert {alert.rule for alert in site.open()} == {"broker-down", "certificate-expiring"}
    assert site.alerts.list(STRANGER, Query())[0] == []
    site.figures["hub.broker_down"] = 0.0
    del site.figures["hub.certificate_days"]
    site.tick()
    assert {alert.rule for alert in site.open()} == {"certificate-expiring"}  # not known is not well


def _window(minute: int, value: float, *, key: str = "", holds: bool | None = None, complete: bool = True) -> StreamWindow:
    start = START + timedelta(minutes=minute)
    return StreamWindow(
        stream="rate", device=DeviceId("cam-1"), origin="hub", key=key, start=start, end=start + timedelta(minutes=1),
        readings=10, values={"mean": value}, holds=holds, complete=complete,
    )  # fmt: skip


def _say(site: Watched, *windows: StreamWindow, device: str | None = "cam-1") -> None:
    with site.hub.db.write() as tx:
        site.alerts.on_windows(tx, TENANT, DeviceId(device) if device else None, windows)


def test_windows_of_a_backlog_fire_by_event_time_for_each_key_and_older_ones_change_nothing(site: Watched) -> None:
    site.tick(3600)
    site.device("cam-1", site="gate")
    site.alerts.rules.put(
        ADMIN, "{name: busy, stream: rate, value: mean, above: 5, clear: 3, for_s: 120, selector: {site: gate}}"
    )
    _say(site, _window(0, 9), _window(1, 9, key="label=7"), _window(1, 9))
    assert site.open() == []
    _say(site, _window(2, 9, complete=False), _window(3, 9), _window(3, 1, key="label=7"))
    [alert] = site.open()
    assert (alert.rule, alert.key, alert.source) == ("busy", "", "rate")
    _say(site, _window(2, 1), _window(4_000_000, 1))  # repeated, or out of its order; from far ahead
    assert len(site.open()) == 1
    _say(site, _window(4, 4), _window(5, 2))
    assert site.open() == []


def test_a_streams_own_condition_and_its_silence_are_seen_and_fleet_windows_have_no_device(site: Watched) -> None:
    site.alerts.rules.put(ADMIN, "{name: busy, stream: rate, over_s: 3600}")
    _say(site, _window(0, 1, holds=True), device=None)
    assert [(alert.device, alert.value) for alert in site.open()] == [("", 1.0)]
    site.tick(3500)
    assert len(site.open()) == 1
    site.tick(200)
    assert site.open() == []
    assert site.alerts.list(ADMIN, Query())[0][0].resolution == "no word of it for long"
    _say(site, _window(1, 1, holds=True))  # of a device nobody knows
    assert site.open() == []


def test_one_rule_fires_for_so_many_keys_and_no_more(site: Watched) -> None:
    site.tick(7200)
    site.device("cam-1")
    site.alerts.rules.put(ADMIN, "{name: busy, stream: rate, value: mean, above: 5}")
    _say(site, *(_window(number, 9, key=f"label={number}\0") for number in range(alerts.MAX_KEYS + 5)))
    assert len(site.alerts.list(ADMIN, Query(), Page(size=500))[0]) == alerts.MAX_KEYS


def test_an_alert_ends_with_its_device_its_rule_and_its_rules_selector(site: Watched) -> None:
    for number in range(3):
        site.device(f"cam-{number}", site="gate").online(Presence.OFFLINE)
    site.tick(400)
    assert len(site.open()) == 3
    site.hub.fleet.delete(ADMIN, ids.device_id("cam-2"))
    site.tick()
    site.hub.fleet.set_labels(ADMIN, ids.device_id("cam-1"), {"site": "yard"})
    site.alerts.rules.put(ADMIN, "{name: offline, selector: {site: gate}}")
    site.tick()
    assert [alert.device for alert in site.open()] == ["cam-0"]
    site.alerts.rules.put(ADMIN, "{name: offline, enabled: false}")
    assert site.open() == []
    site.tick(100)
    assert site.open() == []
    site.alerts.rules.delete(ADMIN, "offline")
    site.tick()
    assert sorted(alert.device for alert in site.open()) == ["cam-0", "cam-1"]
    ends = {alert.resolution for alert in site.alerts.list(ADMIN, Query(state=RESOLVED))[0]}
    assert ends == {"the device is gone", "no rule asks for it any more", "the rule was changed by ada"}


def test_rules_are_a_tenants_own_and_changed_all_or_none(site: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Invalid, match="rule 'b'"):
        site.alerts.rules.put(ADMIN, "rules: [{name: a, source: drift}, {name: b, source: drfit}]")
    names = {view.rule.name for view in site.alerts.rules.list(ADMIN)}
    assert "a" not in names and {"offline", "gap", "hot"} <= names
    [view] = site.alerts.rules.put(ADMIN, "{name: hot, above: 70, clear: 60}")
    assert (view.built_in, view.changed_by, view.rule.above) == (True, "ada", 70.0)
    assert next(v.rule.above for v in site.alerts.rules.list(STRANGER) if v.rule.name == "hot") == 80.0
    with pytest.raises(Conflict, match="built in.*enabled: false"):
        site.alerts.rules.delete(ADMIN, "gap")
    with pytest.raises(NotFound):
        site.alerts.rules.delete(STRANGER, "nothing")
    monkeypatch.setattr(alert_rules, "MAX_RULES", 2)
    with pytest.raises(Exhausted):
        site.alerts.rules.put(ADMIN, "rules: [{name: a, source: drift}, {name: b, source: drift}]")
    bare = AlertService(site.hub.db, AlertsConfig(defaults=False), site.hub.clock)
    assert [view.rule.name for view in bare.rules.list(ADMIN)] == ["hot"]


def test_a_rule_that_was_stored_by_a_newer_hub_takes_only_itself_out(site: Watched, caplog: pytest.LogCaptureFixture) -> None:
    with site.hub.db.write() as tx:
        store.put_rule(tx, TENANT, "hot", "{name: hot, source: device.mood, above: 1}", START, "ada")
    site.restart()
    site.device("cam-1").online(Presence.OFFLINE)
    site.tick(400)
    assert [alert.rule for alert in site.open()] == ["offline"]
    assert "stored alert rule cannot be used" in caplog.text


def test_who_is_silenced_is_not_told_until_the_silence_ends_and_then_once(site: Watched) -> None:
    quiet = site.alerts.silences.add(ADMIN, Matcher(rule="offline", labels={"site": "gate"}), 3600, "maintenance")
    site.alerts.silences.add(STRANGER, Matcher(severity=Severity.WARNING), 3600, "not ours")
    site.device("cam-gate", site="gate").online(Presence.OFFLINE)
    site.device("cam-yard", site="yard").online(Presence.OFFLINE)
    site.tick(400)
    site.send()
    assert len(site.open()) == 2
    assert site.sink.news() == [("offline", "cam-yard", "fired")]
    site.tick(600)
    ended = site.alerts.silences.expire(ADMIN, quiet.id)
    assert ended.until == site.hub.clock.now()
    site.tick(61)
    site.send()
    site.tick(61)
    site.send()
    assert site.sink.news() == [("offline", "cam-yard", "fired"), ("offline", "cam-gate", "fired")]


def test_what_ended_in_silence_is_never_told_and_what_was_told_before_it_is_told_to_have_ended(site: Watched) -> None:
    early = site.device("cam-1")
    early.online(Presence.OFFLINE)
    site.tick(400)
    site.send()
    site.alerts.silences.add(ADMIN, Matcher(rule="offline"), 3600, "storm")
    late = site.device("cam-2")
    late.online(Presence.OFFLINE)
    site.tick(400)
    early.online()
    late.online()
    site.tick(5)
    site.tick(10)
    site.send()
    assert site.sink.news() == [("offline", "cam-1", "fired"), ("offline", "cam-1", "resolved")]


def test_a_silence_needs_a_name_a_time_and_a_reason(site: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    silenced = site.alerts.silences
    for what, seconds, reason in (
        (Matcher(), 60, "r"), (Matcher(rule="x"), 0, "r"), (Matcher(rule="x"), 60, " "), (Matcher(rule="x"), 1e9, "r"),
        (Matcher(labels={"Bad": "x"}), 60, "r"), (Matcher(device="x" * 64), 60, "r"),
    ):  # fmt: skip
        with pytest.raises(Invalid):
            silenced.add(ADMIN, what, seconds, reason)
    made = silenced.add(ADMIN, Matcher(rule="x"), 60, "r")
    with pytest.raises(NotFound):
        silenced.expire(STRANGER, made.id)
    silenced.expire(ADMIN, made.id)
    with pytest.raises(Conflict):
        silenced.expire(ADMIN, made.id)
    assert silenced.list(ADMIN, active_only=True)[0] == []
    assert [one.id for one in silenced.list(ADMIN)[0]] == [made.id]
    assert silenced.list(STRANGER)[0] == []
    monkeypatch.setattr(silences, "MAX_ACTIVE", 1)
    silenced.add(ADMIN, Matcher(rule="x"), 60, "r")
    with pytest.raises(Exhausted):
        silenced.add(ADMIN, Matcher(rule="x"), 60, "r")


def test_what_nobody_acknowledges_is_told_again_and_what_somebody_does_is_not(site: Watched) -> None:
    site.device("cam-1").online(Presence.OFFLINE)
    site.device("cam-2").online(Presence.OFFLINE)
    site.tick(400)
    site.send()
    [first] = [alert for alert in site.open() if alert.device == "cam-1"]
    site.alerts.acknowledge(ADMIN, first.id)
    with pytest.raises(Conflict, match="acknowledged already, by ada"):
        site.alerts.acknowledge(ADMIN, first.id)
    for _ in range(3):
        site.tick(4 * 3600)
        site.send()
    assert [news for news in site.sink.news() if news[2] == "repeated"] == [("offline", "cam-2", "repeated")] * 3


def test_what_is_ended_by_hand_fires_anew_only_if_it_still_holds(site: Watched) -> None:
    site.device("cam-1").online(Presence.OFFLINE)
    site.event("cam-1", "telemetry.cloned")
    site.tick(400)
    for alert in site.open():
        ended = site.alerts.resolve(ADMIN, alert.id, "seen to")
        assert (ended.state, ended.resolution) == (RESOLVED, "by ada: seen to")
        with pytest.raises(Conflict, match="resolved already"):
            site.alerts.resolve(ADMIN, alert.id)
        with pytest.raises(Conflict, match="resolved already"):
            site.alerts.acknowledge(ADMIN, alert.id)
    site.tick(5)
    assert [alert.rule for alert in site.open()] == ["offline"]
    site.event("cam-1", "telemetry.cloned")
    site.tick(5)
    assert {alert.rule for alert in site.open()} == {"offline", "cloned"}


def test_nobody_sees_or_touches_another_tenants_alerts(site: Watched) -> None:
    site.device("cam-1").online(Presence.OFFLINE)
    site.tick(400)
    [alert] = site.open()
    for call in (site.alerts.get, site.alerts.acknowledge, site.alerts.resolve):
        with pytest.raises(NotFound):
            call(STRANGER, alert.id)
    assert site.alerts.list(STRANGER, Query())[0] == []
    assert site.alerts.changes(STRANGER, None)[0] == []
    with pytest.raises(Invalid, match="comment"):
        site.alerts.acknowledge(ADMIN, alert.id, "x" * 2000)


def test_lists_are_filtered_and_paged_newest_first(site: Watched) -> None:
    for number in range(5):
        site.device(f"cam-{number}").online(Presence.OFFLINE)
        site.tick(400)
    site.event("cam-3", "telemetry.lost")
    site.tick(5)
    page, token = site.alerts.list(ADMIN, Query(rule="offline"), Page(size=3))
    rest, end = site.alerts.list(ADMIN, Query(rule="offline"), Page(size=3, token=token))
    assert [alert.device for alert in [*page, *rest]] == ["cam-4", "cam-3", "cam-2", "cam-1", "cam-0"] and end == ""
    assert {alert.rule for alert in site.alerts.list(ADMIN, Query(device="cam-3"))[0]} == {"offline", "lost"}
    assert [alert.rule for alert in site.alerts.list(ADMIN, Query(min_severity=Severity.CRITICAL))[0]] == ["lost"]
    assert site.alerts.list(ADMIN, Query(state=RESOLVED))[0] == []


def test_who_watches_sees_what_is_open_and_then_every_change_once(site: Watched) -> None:
    device = site.device("cam-1")
    device.online(Presence.OFFLINE)
    site.tick(400)
    alerts_now, revision = site.alerts.changes(ADMIN, None)
    assert [alert.state for alert in alerts_now] == [FIRING]
    assert site.alerts.changes(ADMIN, revision) == ([], revision)
    site.alerts.acknowledge(ADMIN, alerts_now[0].id)
    site.device("cam-2").online(Presence.OFFLINE)
    site.tick(400)
    changed, revision = site.alerts.changes(ADMIN, revision)
    assert [(alert.device, alert.state) for alert in changed] == [("cam-1", ACKNOWLEDGED), ("cam-2", FIRING)]
    site.tick(120)  # values are refreshed: no transition
    assert site.alerts.changes(ADMIN, revision) == ([], revision)


def test_the_value_of_an_open_alert_is_kept_up_to_date(site: Watched) -> None:
    site.device("cam-1").online(Presence.OFFLINE)
    site.tick(400)
    site.tick(30)
    assert site.open()[0].value == 400.0
    site.tick(60)
    assert site.open()[0].value == 490.0


def test_a_sink_gets_what_is_for_it(tmp_path: Path) -> None:
    loud, other = KeptSink(routed("loud", Severity.CRITICAL)), KeptSink(routed("other", Severity.INFO, "other"))
    site = Watched(tmp_path, sinks=[loud, other])
    site.device("cam-1").online(Presence.OFFLINE)
    site.event("cam-1", "telemetry.lost")
    site.tick(400)
    site.send()
    assert loud.news() == [("lost", "cam-1", "fired")]
    assert other.news() == []
    assert site.alerts.sinks(ADMIN) == ["loud"] and site.alerts.sinks(STRANGER) == ["loud", "other"]
    with pytest.raises(NotFound, match="no sink other; there are: loud"):
        site.alerts.test(ADMIN, "other")
    site.alerts.test(ADMIN, "loud")
    assert loud.news()[-1] == ("test", "", "test")
    loud.trouble = lambda letter: SinkDown("HTTP 503")
    with pytest.raises(NotReady, match="sink loud did not take it: HTTP 503"):
        site.alerts.test(ADMIN, "loud")
    site.close()


def test_a_crash_in_the_middle_of_a_page_leaves_no_half_of_a_transition(site: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(3):
        site.device(f"cam-{number}").online(Presence.OFFLINE)

    def failing(*_: object) -> None:
        raise OSError("power cut")

    monkeypatch.setattr(notices, "add", failing)  # the last thing that is written
    with pytest.raises(OSError, match="power cut"):
        site.tick(400)
    monkeypatch.undo()
    assert site.open() == []
    site.restart()
    site.tick(400)
    site.send()
    assert sorted(site.sink.news()) == [("offline", f"cam-{number}", "fired") for number in range(3)]


def test_a_fleet_that_is_well_is_looked_at_with_a_few_statements_a_page_and_nothing_is_written(
    site: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(30):
        site.report(site.device(f"cam-{number:02}", site="gate"), temperature_c=40.0, inferences=100)
    monkeypatch.setattr(alert_rounds, "PAGE_DEVICES", 10)
    site.tick(5)
    for number in range(30):
        site.report(site.hub.device(f"car-{number:02}", site="gate"), temperature_c=40.0, inferences=200)
    site.tick(5)
    statements: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        statements.append(statement)

    sqlalchemy_event.listen(Engine, "before_cursor_execute", note)
    site.tick(5)
    sqlalchemy_event.remove(Engine, "before_cursor_execute", note)
    assert not [text for text in statements if text.startswith(("INSERT", "UPDATE", "DELETE"))]
    selects = [text for text in statements if text.startswith("SELECT")]
    assert len(selects) <= 7 * 6 + 15  # six pages and an empty one


def test_old_alerts_go_and_open_ones_stay(site: Watched) -> None:
    device = site.device("cam-1")
    device.online(Presence.OFFLINE)
    site.device("cam-2").online(Presence.OFFLINE)
    site.tick(400)
    device.online()
    site.tick(5)
    site.tick(10)
    site.send()
    site.tick(91 * 86_400)
    assert site.all() == [("cam-2", FIRING)]
    with site.hub.db.read() as tx:
        assert tx.execute(select(func.count()).select_from(store.alerts)).scalar() == 1


def test_figures_count_what_is_open_and_what_waits(site: Watched) -> None:
    site.device("cam-1").online(Presence.OFFLINE)
    site.tick(400)
    figures = site.alerts.figures()
    assert figures.open == {Severity.WARNING: 1}
    assert {(sink, state.name): count for (sink, state), count in figures.notices.items()} == {("kept", "WAITING"): 1}
