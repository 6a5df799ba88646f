"""From the outbox to sinks: at least once, in order, each sink for itself; and all the way to a real web server."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloud_hub.alerting.dispatcher import Dispatcher
from cloud_hub.alerting.webhook import WebhookSink
from cloud_hub.core.notices import Letter, SinkDown, SinkRefused
from cloud_hub.services import notices as outbox_module
from cloud_hub.store.notices import NoticeState
from protos.contract.twin import Presence
from tests.hub.alert_parts import GIVE_UP_S, KeptSink, Watched, routed
from tests.hub.alerting.parts import Site, http_site
from tests.hub.fleet_parts import ADMIN
from tests.hub.mqtt_parts import wait_for


@pytest.fixture
def site(tmp_path: Path, database_url: str) -> Iterator[Watched]:
    made = Watched(tmp_path, database_url)
    yield made
    made.close()


def go(site: Watched, *ids: str) -> None:
    for id in ids:
        site.device(id).online(Presence.OFFLINE)
    site.tick(400)


def fired(*ids: str) -> list[tuple[str, str, str]]:
    return [("offline", id, "fired") for id in ids]


def test_a_storm_is_one_letter_and_what_is_more_is_the_next(site: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    go(site, *(f"cam-{number:02}" for number in range(12)))
    site.send(0)
    assert site.sink.letters == []  # it waits for others
    monkeypatch.setattr(outbox_module, "MAX_LETTER", 8)
    site.send()
    assert [len(letter.notices) for letter in site.sink.letters] == [8, 4]
    site.send(100)
    assert site.sink.tries == 2


def test_a_sink_that_is_down_is_tried_again_with_longer_pauses_and_gets_everything_in_order(site: Watched) -> None:
    down = True
    site.sink.trouble = lambda letter: SinkDown("HTTP 500") if down else None
    go(site, "cam-1")
    site.send()
    for pause_s, tries in ((0.9, 1), (0.2, 2), (1.8, 2), (0.3, 3)):
        site.send(pause_s)
        assert site.sink.tries == tries
    site.alerts.resolve(ADMIN, site.open()[0].id)
    down = False
    site.restart()
    site.send(60)
    assert site.sink.news() == [*fired("cam-1"), ("offline", "cam-1", "resolved")]


def test_a_sink_that_says_when_is_not_asked_before(site: Watched) -> None:
    site.sink.trouble = lambda letter: SinkDown("HTTP 429", 120.0) if site.sink.tries == 1 else None
    go(site, "cam-1")
    site.send()
    site.send(119)
    assert site.sink.tries == 1
    site.send(2)
    assert site.sink.news() == fired("cam-1")


def test_a_clock_that_is_put_back_does_not_hold_up_what_is_to_be_told(site: Watched) -> None:
    site.hub.clock.leap(400 * 86_400)
    site.sink.trouble = lambda letter: SinkDown("HTTP 500") if site.sink.tries == 1 else None
    go(site, "cam-1")
    site.send()
    assert site.sink.tries == 1
    go(site, "cam-2")
    site.hub.clock.leap(-400 * 86_400)
    site.send()
    assert site.sink.news() == fired("cam-1", "cam-2")


def test_one_notice_that_is_refused_does_not_take_the_others_with_it(site: Watched) -> None:
    def refuse(letter: Letter) -> Exception | None:
        return SinkRefused("HTTP 400") if any(one.alert.device == "cam-2" for one in letter.notices) else None

    site.sink.trouble = refuse
    go(site, "cam-1", "cam-2", "cam-3")
    site.send()
    assert site.sink.news() == fired("cam-1", "cam-3")
    assert site.alerts.figures().notices[("kept", NoticeState.DEAD)] == 1


def test_what_nobody_takes_for_too_long_is_given_up_and_that_is_an_alert_of_its_own(site: Watched) -> None:
    site.sink.trouble = lambda letter: SinkDown("HTTP 500")
    go(site, "cam-1")
    site.send()
    site.send(GIVE_UP_S)
    assert site.alerts.figures().notices == {("kept", NoticeState.DEAD): 1}
    site.tick()
    [alert] = site.open("notices-dead")
    assert alert.value == 1.0
    tries = site.sink.tries
    site.send(0)
    assert site.sink.tries == tries


def test_a_bug_in_a_sink_costs_time_and_no_notice(site: Watched, caplog: pytest.LogCaptureFixture) -> None:
    site.sink.trouble = lambda letter: ZeroDivisionError() if site.sink.tries == 1 else None
    go(site, "cam-1")
    site.send()
    site.send(5)
    assert site.sink.news() == fired("cam-1")
    assert "unexpected error of a sink" in caplog.text


def test_a_crash_after_sending_sends_again_under_the_same_id(site: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    go(site, "cam-1")
    with monkeypatch.context() as patched, pytest.raises(OSError, match="power cut"):
        patched.setattr(site.outbox, "told", lambda letter: (_ for _ in ()).throw(OSError("power cut")))
        site.send()
    site.restart()
    site.send()
    assert site.sink.news() == fired("cam-1", "cam-1")
    assert len({letter.notices[0].id for letter in site.sink.letters}) == 1


def test_what_waits_for_a_sink_that_is_gone_is_given_up_at_the_start(site: Watched) -> None:
    go(site, "cam-1")
    site.outbox.open(["other"])
    site.send()
    assert site.sink.letters == []
    assert site.alerts.figures().notices == {("kept", NoticeState.DEAD): 1}


def test_a_sink_that_hangs_holds_up_nobody_else_and_not_the_alerts_either(tmp_path: Path) -> None:
    release = threading.Event()
    slow, quick = KeptSink(routed("slow")), KeptSink(routed("quick"))

    def hang(letter: Letter) -> Exception | None:
        release.wait(20)
        return None

    slow.trouble = hang
    site = Watched(tmp_path, sinks=[slow, quick])
    go(site, "cam-1")
    site.hub.clock.advance(10)
    site.dispatcher.start()
    try:
        assert quick.arrived.wait(10)
        wait_for(lambda: slow.tries == 1, "the slow sink is being told")
        go(site, "cam-2")  # the database is free meanwhile
        site.hub.clock.advance(10)
        wait_for(lambda: len(quick.letters) == 2, "the quick sink is told more")
        assert slow.letters == [] and site.dispatcher.alive()
    finally:
        release.set()
        site.dispatcher.stop()
        site.close()
    assert not site.dispatcher.alive()


def test_a_web_server_learns_of_each_transition_once_though_it_fails_and_the_hub_is_restarted_in_between(
    tmp_path: Path, database_url: str
) -> None:
    with http_site(Site(answers=[(500, {}, b""), (200, {}, b"")])) as web:
        hook = WebhookSink(routed("hook"), url=web.url, secret=None, ca_file=None, timeout_s=5.0)
        site = Watched(tmp_path, database_url, sinks=[hook])

        def run_dispatcher(expected: int) -> None:
            """A process that lives until the server has been asked so often."""
            site.restart()
            dispatcher = Dispatcher(site.outbox, [hook])
            dispatcher.start()
            site.hub.clock.advance(10)
            wait_for(lambda: len(web.requests) == expected, f"request {expected}")
            dispatcher.stop()

        device = site.device("cam-1")
        device.online(Presence.OFFLINE)
        site.tick(400)
        run_dispatcher(1)  # which fails
        site.alerts.acknowledge(ADMIN, site.open()[0].id)
        run_dispatcher(2)
        device.on(site.hub).online()
        site.tick(5)
        site.restart()
        site.tick(10)
        run_dispatcher(3)
        site.tick(5)
        site.close()
    told = [[one["event"] for one in json.loads(body)["alerts"]] for _, _, body in web.requests]
    assert told == [["fired"], ["fired", "acknowledged"], ["resolved"]]
