import json
import os
import random
import signal
import subprocess
import sys
import threading
from collections import Counter
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from edge_agent.app import streaming
from edge_agent.app.stream import MAX_SIGNALS
from edge_agent.app.streaming import Streaming, load_device_specs
from edge_agent.core.clock import SystemClock
from edge_agent.core.config import SpoolConfig, StreamsConfig
from edge_agent.core.errors import ConfigError
from edge_agent.core.model import Happening, Outcome
from edge_agent.spool.sqlite import SqliteSpool
from protos.contract.ids import digest_of
from protos.contract.telemetry import Event, Lane, Window
from tests.agent.clocks import ManualClock
from tests.agent.fakes_spool import MemorySpool
from tests.agent.spool.parts import held

SPOOL = SpoolConfig(batch_records=1000, linger_s=0.0)
MODEL = digest_of(b"model")
SPECS = """
streams:
  all:
    window: {kind: tumbling, size_s: 10, lateness_s: 1}
    aggregates: {n: count, mean: mean(confidence)}
"""
UNSURE = """
streams:
  unsure:
    window: {kind: tumbling, size_s: 10, lateness_s: 0}
    by: [label_name]
    aggregates: {n: count, mean: mean(confidence)}
    condition: mean < 0.5
"""


class Clock(ManualClock):
    def set_back(self, seconds: float) -> None:
        self._start -= timedelta(seconds=seconds)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def spool(clock: Clock) -> MemorySpool:
    return MemorySpool(SPOOL, clock)


def streaming_with(folder: Path, spool: MemorySpool, clock: Clock, text: str = SPECS, **config: object) -> Streaming:
    path = folder / "streams.yaml"
    path.write_text(text)
    made = StreamsConfig(specs=path, **config)  # type: ignore[arg-type]
    return Streaming(load_device_specs(made), made, spool, folder, clock)


def reading(at: datetime, confidence: float = 0.75, name: str = "cat", **fields: object) -> Outcome:
    made = Outcome(captured_at=at, model=MODEL, label=0, confidence=confidence, latency_ms=1.5, label_name=name)
    return replace(made, **fields)  # type: ignore[arg-type]


def see(streams: Streaming, clock: Clock, seconds: float, confidence: float = 0.75, name: str = "cat") -> None:
    """Eight readings a second for so long, folded as the thread does it."""
    for i in range(round(seconds * 8)):
        streams.append(reading(clock.now(), confidence, name))
        clock.advance(0.125)
        if i % 4 == 3:
            streams.tick()


def stop(streams: Streaming) -> None:
    streams.stop()
    streams.run()


def windows(spool: MemorySpool) -> list[Window]:
    return [window for batch in held(spool) for window in batch.windows]


def events(spool: MemorySpool) -> list[Event]:
    return [event for batch in held(spool, Lane.CRITICAL) for event in batch.events]


def second(at: datetime) -> float:
    return at.timestamp() % 86_400


def test_a_window_goes_to_the_spool_once_it_is_over(tmp_path: Path, spool: MemorySpool, clock: Clock) -> None:
    streams = streaming_with(tmp_path, spool, clock)
    see(streams, clock, 10.5)
    assert windows(spool) == []
    see(streams, clock, 1)
    (window,) = windows(spool)
    assert (window.stream, second(window.start), second(window.end), window.readings) == ("all", 0, 10, 80)
    assert (window.values, window.key, window.complete) == ((("mean", 0.75), ("n", 80.0)), "", True)
    assert sum(len(batch.inferences) for batch in held(spool)) == 92


@pytest.mark.parametrize(("raw", "sent"), [("all", 4), ("uncertain", 3), ("none", 2)])
def test_readings_are_sent_as_configured_and_those_with_a_frame_always(
    raw: str, sent: int, tmp_path: Path, spool: MemorySpool, clock: Clock
) -> None:
    streams = streaming_with(tmp_path, spool, clock, raw=raw)
    for captured in (False, True):
        for uncertain in (False, True):
            sequence = streams.append(reading(clock.now(), captured=captured, uncertain=uncertain))
            assert (sequence is not None) == (captured or raw == "all" or (uncertain and raw == "uncertain"))
    streams.tick()
    assert sum(len(batch.inferences) for batch in held(spool)) == sent
    assert (streams.stats().readings, streams.stats().left_out) == (4, 4 - sent)


def test_without_streams_readings_can_be_left_out_too(tmp_path: Path, spool: MemorySpool, clock: Clock) -> None:
    streams = Streaming((), StreamsConfig(raw="none"), spool, tmp_path, clock)
    streams.append(reading(clock.now()))
    streams.append(Happening(at=clock.now(), kind="told"), Lane.CRITICAL)
    stop(streams)
    assert held(spool) == [] and [event.kind for event in events(spool)] == ["told"]
    assert (streams.stats().readings, streams.stats().left_out) == (0, 1)


def test_a_condition_is_told_when_it_begins_and_when_it_ceases_to_hold(
    tmp_path: Path, spool: MemorySpool, clock: Clock
) -> None:
    streams = streaming_with(tmp_path, spool, clock, UNSURE)
    for confidence in (0.75, 0.25, 0.375, 0.25, 0.75, 0.75):
        see(streams, clock, 10, confidence)
    see(streams, clock, 0.5)
    assert [window.values[0] for window in windows(spool)] == [("mean", c) for c in (0.75, 0.25, 0.375, 0.25, 0.75, 0.75)]
    begins, ends = events(spool)
    assert (begins.kind, ends.kind) == ("stream.unsure", "stream.unsure")
    assert begins.detail.startswith("holds: label_name=cat; mean=0.25, n=80; 80 readings in 10 s from 2025-01-01T00:00:10.000")
    assert ends.detail.startswith("holds no more: label_name=cat; mean=0.75")


def test_many_keys_that_change_at_once_are_told_a_few_at_a_time(tmp_path: Path, spool: MemorySpool, clock: Clock) -> None:
    streams = streaming_with(tmp_path, spool, clock, UNSURE)
    names = [f"name{i}" for i in range(MAX_SIGNALS + 5)]
    for name in names:
        streams.append(reading(clock.now(), 0.25, name))
    clock.advance(10)
    streams.append(reading(clock.now()))
    streams.tick()
    assert len(events(spool)) == MAX_SIGNALS
    streams.tick()
    assert {event.detail.split(";")[0] for event in events(spool)} == {f"holds: label_name={name}" for name in names}


def test_a_change_that_is_undone_before_it_is_told_is_not_told(tmp_path: Path, spool: MemorySpool, clock: Clock) -> None:
    streams = streaming_with(tmp_path, spool, clock, UNSURE)
    names = sorted(f"name{i}" for i in range(MAX_SIGNALS + 5))
    for name in names:
        streams.append(reading(clock.now(), 0.25, name))
    clock.advance(10)
    for name in names[MAX_SIGNALS:]:
        streams.append(reading(clock.now(), 0.75, name))
    streams.tick()
    clock.advance(10)
    streams.append(reading(clock.now(), 0.75, "other"))
    streams.tick()
    assert [event.detail.split(";")[0] for event in events(spool)] == [f"holds: label_name={n}" for n in names[:MAX_SIGNALS]]


@pytest.mark.parametrize(("send", "sent"), [("all", 3), ("holding", 1), ("none", 0)])
def test_which_windows_are_sent_is_for_the_spec_to_say(
    send: str, sent: int, tmp_path: Path, spool: MemorySpool, clock: Clock
) -> None:
    streams = streaming_with(tmp_path, spool, clock, UNSURE + f"    send: {send}\n")
    for confidence in (0.75, 0.25, 0.75):
        see(streams, clock, 10, confidence)
    see(streams, clock, 0.5)
    assert len(windows(spool)) == sent
    assert len(events(spool)) == 2


def test_windows_close_although_no_frame_comes_any_more(tmp_path: Path, spool: MemorySpool, clock: Clock) -> None:
    streams = streaming_with(tmp_path, spool, clock)
    see(streams, clock, 3)
    clock.advance(streaming.IDLE_S)
    streams.tick()
    assert windows(spool) == []
    clock.advance(3.25)
    streams.tick()
    assert [window.readings for window in windows(spool)] == [24]
    see(streams, clock, 1)
    assert streams.stats().late == 0


def test_a_clean_stop_loses_nothing_and_marks_nothing(tmp_path: Path, spool: MemorySpool, clock: Clock) -> None:
    streams = streaming_with(tmp_path, spool, clock)
    see(streams, clock, 5.5)
    stop(streams)
    see(streaming_with(tmp_path, spool, clock), clock, 10)
    (window,) = windows(spool)
    assert (window.readings, window.complete) == (80, True)


def test_after_a_crash_the_windows_it_cut_are_marked_and_later_ones_are_not(
    tmp_path: Path, spool: MemorySpool, clock: Clock
) -> None:
    streams = streaming_with(tmp_path, spool, clock)
    see(streams, clock, 9)  # kept at 5.0: the crash loses four seconds
    clock.advance(8)
    again = streaming_with(tmp_path, spool, clock)
    see(again, clock, 25)
    stop(again)  # and once more without a crash: nothing is forgotten over it
    see(streaming_with(tmp_path, spool, clock), clock, 10)
    found = [(second(window.start), window.readings, window.complete) for window in windows(spool)]
    assert found == [(0, 40, False), (10, 24, False), (20, 80, True), (30, 80, True), (40, 80, True)]


def test_a_crash_after_telling_and_before_keeping_tells_again_and_says_so(
    tmp_path: Path, spool: MemorySpool, clock: Clock
) -> None:
    streams = streaming_with(tmp_path, spool, clock)
    see(streams, clock, 5)
    kept = (tmp_path / "windows.json").read_bytes()
    see(streams, clock, 7)
    (tmp_path / "windows.json").write_bytes(kept)
    see(streaming_with(tmp_path, spool, clock), clock, 5)
    assert [(window.readings, window.complete) for window in windows(spool)] == [(80, True), (40, False)]


def test_what_was_told_is_kept_soon(tmp_path: Path, spool: MemorySpool, clock: Clock) -> None:
    streams = streaming_with(tmp_path, spool, clock, checkpoint_s=4.0)  # at 4 and 8 seconds
    see(streams, clock, 11.5)
    assert len(windows(spool)) == 1
    see(streaming_with(tmp_path, spool, clock, checkpoint_s=4.0), clock, 0.5)
    assert len(windows(spool)) == 1


def test_what_is_told_is_durable_before_the_states_say_that_it_was(tmp_path: Path, clock: Clock) -> None:
    class Watched(MemorySpool):
        flushed = b""

        def flush(self) -> None:
            self.flushed = (tmp_path / "windows.json").read_bytes()

    spool = Watched(SPOOL, clock)
    streams = streaming_with(tmp_path, spool, clock)
    see(streams, clock, 11.5)
    before, after = (json.loads(text.split(b"\n")[1]) for text in (spool.flushed, (tmp_path / "windows.json").read_bytes()))
    starts = [[pane[0] for pane in kept["streams"]["all"]["windows"]["open"]] for kept in (before, after)]
    assert [[start % 60_000 for start in of] for of in starts] == [[0], [10_000]]


def test_a_crash_soon_after_a_clean_start_is_one_too(tmp_path: Path, spool: MemorySpool, clock: Clock) -> None:
    streams = streaming_with(tmp_path, spool, clock)
    see(streams, clock, 5.5)
    stop(streams)
    see(streaming_with(tmp_path, spool, clock), clock, 2)
    see(streaming_with(tmp_path, spool, clock), clock, 5)
    assert [(window.readings, window.complete) for window in windows(spool)] == [(44 + 20, False)]


@pytest.mark.parametrize("damage", [b"", b"nonsense", "cut", "flipped", "other version"])
def test_damaged_windows_are_set_aside_and_said_so(
    damage: bytes | str, tmp_path: Path, spool: MemorySpool, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "windows.json"
    streams = streaming_with(tmp_path, spool, clock)
    see(streams, clock, 5)
    if damage == "other version":
        monkeypatch.setattr("edge_agent.app.checkpoint.VERSION", 2)
    stop(streams)
    monkeypatch.undo()
    whole = path.read_bytes()
    forms = {"cut": whole[:-20], "flipped": whole.replace(b'"counters":[0', b'"counters":[1'), "other version": whole}
    damaged = forms[damage] if isinstance(damage, str) else damage
    path.write_bytes(damaged)
    see(streaming_with(tmp_path, spool, clock), clock, 17)
    assert path.with_name("windows.json.damaged").read_bytes() == damaged
    assert [event.kind for event in events(spool)] == ["streams.reset"]
    assert [(window.readings, window.complete) for window in windows(spool)] == [(40, False), (80, True)]


def test_windows_of_another_spec_are_dropped_and_those_beside_them_go_on(
    tmp_path: Path, spool: MemorySpool, clock: Clock
) -> None:
    both = SPECS + UNSURE.replace("streams:\n", "")
    streams = streaming_with(tmp_path, spool, clock, both)
    see(streams, clock, 5)
    stop(streams)
    changed = both.replace("{n: count, mean: mean(confidence)}", "{n: count}", 1)
    see(streaming_with(tmp_path, spool, clock, changed), clock, 7)
    found = {window.stream: (window.readings, window.complete) for window in windows(spool)}
    assert found == {"all": (40, False), "unsure": (80, True)}


def test_a_condition_that_was_told_is_not_told_again_after_a_restart(tmp_path: Path, spool: MemorySpool, clock: Clock) -> None:
    streams = streaming_with(tmp_path, spool, clock, UNSURE)
    see(streams, clock, 11, 0.25)
    assert len(events(spool)) == 1
    stop(streams)
    see(streaming_with(tmp_path, spool, clock, UNSURE), clock, 20, 0.25)
    assert len(events(spool)) == 1


def test_a_clock_that_is_put_back_makes_no_reading_late(tmp_path: Path, spool: MemorySpool, clock: Clock) -> None:
    streams = streaming_with(tmp_path, spool, clock)
    see(streams, clock, 25)
    streams.append(reading(clock.now()))
    clock.set_back(3600)
    see(streams, clock, 17)
    assert streams.stats().late == 0
    found = [(second(window.start), window.readings, window.complete) for window in windows(spool)]
    assert found == [(0, 80, True), (10, 80, True), (20, 41, False), (82820, 40, True), (82830, 80, True)]


def test_a_clock_that_jumps_ahead_closes_what_is_open(tmp_path: Path, spool: MemorySpool, clock: Clock) -> None:
    streams = streaming_with(tmp_path, spool, clock)
    see(streams, clock, 5)
    clock.set_back(-86_400 * 365)
    see(streams, clock, 1)
    assert [window.readings for window in windows(spool)] == [40]
    assert streams.stats().late == 0


def test_a_board_without_a_clock_is_of_1970(tmp_path: Path, spool: MemorySpool, clock: Clock) -> None:
    clock.set_back((clock.now() - datetime(1970, 1, 1, tzinfo=clock.now().tzinfo)).total_seconds() + 3)
    streams = streaming_with(tmp_path, spool, clock)
    see(streams, clock, 15)
    assert [(window.start.year, window.readings) for window in windows(spool)] == [(1970, 104)]


def test_a_disk_that_takes_no_checkpoint_does_not_stop_the_windows(
    tmp_path: Path, spool: MemorySpool, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    streams = streaming_with(tmp_path, spool, clock)
    monkeypatch.setattr("edge_agent.app.checkpoint.write_atomic", full)
    see(streams, clock, 22)
    stop(streams)
    assert [window.readings for window in windows(spool)] == [80, 80]


def test_readings_that_the_thread_does_not_fetch_are_folded_by_who_brings_them(
    tmp_path: Path, spool: MemorySpool, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streaming, "MAX_WAITING", 50)
    streams = streaming_with(tmp_path, spool, clock)
    for _ in range(130):
        streams.append(reading(clock.now()))
    assert streams.stats().readings == 100


def test_readings_of_many_threads_are_each_in_one_window(tmp_path: Path, spool: MemorySpool, clock: Clock) -> None:
    streams = streaming_with(tmp_path, spool, clock, raw="none")
    folding = threading.Thread(target=streams.run)
    folding.start()
    seeing = [threading.Thread(target=lambda: [streams.append(reading(clock.now())) for _ in range(2000)]) for _ in range(4)]
    for thread in seeing:
        thread.start()
    for thread in seeing:
        thread.join()
    streams.stop()
    folding.join(10)
    assert not folding.is_alive()
    again = streaming_with(tmp_path, spool, clock, raw="none")
    clock.advance(60)
    again.append(reading(clock.now()))
    again.tick()
    assert [window.readings for window in windows(spool)] == [8000]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("streams: {s: {windw: 1}}", "stream 's' has an unknown key 'windw'; did you mean 'window'?"),
        (SPECS.replace("mean(confidence)", "mean(confidnce)"), "'confidnce'; did you mean 'confidence'?"),
        (SPECS.replace("mean(confidence)", "counts(label)"), "'aggregates.mean': counts is for streams of the hub"),
        (SPECS + "    selector: {site: north}\n", "'selector' is for streams of the hub"),
        ("\ud800".encode("utf-8", "surrogatepass"), "'utf-8' codec can't decode"),
    ],
)
def test_a_wrong_spec_is_named_with_its_file_at_the_start(text: str | bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "streams.yaml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(ConfigError) as error:
        load_device_specs(StreamsConfig(specs=path))
    assert f"'streams.specs': {path}: " in str(error.value) and said in str(error.value)


def test_wrong_settings_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'streams.raw' must be one of all, uncertain, none, got 'some'"):
        load_device_specs(StreamsConfig(raw="some"))
    with pytest.raises(ConfigError, match="'streams.checkpoint_s' must be above 0 seconds"):
        load_device_specs(StreamsConfig(checkpoint_s=0))
    with pytest.raises(ConfigError, match="cannot read .*none.yaml: No such file"):
        load_device_specs(StreamsConfig(specs=tmp_path / "none.yaml"))


KILLED = """
import sys, time
from pathlib import Path
from edge_agent.app.streaming import Streaming, load_device_specs
from edge_agent.core.clock import SystemClock
from edge_agent.core.config import SpoolConfig, StreamsConfig
from edge_agent.core.model import Outcome
from edge_agent.spool.sqlite import SqliteSpool
from protos.contract.ids import digest_of
import threading
folder, clock = Path(sys.argv[1]), SystemClock()
config = StreamsConfig(specs=folder / "streams.yaml", checkpoint_s=0.05)
spool = SqliteSpool(folder / "spool.db", SpoolConfig(commit_interval_s=0.01), clock)
streams = Streaming(load_device_specs(config), config, spool, folder, clock)
print("ready", flush=True)
while True:
    for _ in range(5):
        streams.append(Outcome(captured_at=clock.now(), model=digest_of(b"m"), label=0, confidence=0.5, latency_ms=1.0))
        time.sleep(0.001)
    streams.tick()
"""


def test_a_window_that_says_it_is_complete_is_after_any_kill(tmp_path: Path) -> None:
    """Against the readings themselves, which the spool accounts for one by one."""
    rng = random.Random(5)
    (tmp_path / "streams.yaml").write_text(SPECS.replace("size_s: 10, lateness_s: 1", "size_s: 0.05, lateness_s: 0.01"))
    for _ in range(8):
        child = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path)], stdout=subprocess.PIPE, env={**os.environ})
        assert child.stdout is not None and child.stdout.readline() == b"ready\n"
        with pytest.raises(subprocess.TimeoutExpired):
            child.wait(rng.uniform(0.1, 0.4))
        child.send_signal(signal.SIGKILL)
        child.wait()
    spool = SqliteSpool(tmp_path / "spool.db", SpoolConfig(linger_s=0.0), SystemClock())
    batches = held(spool)
    spool.close()
    readings = [row.captured_at for batch in batches for row in batch.inferences.rows()]
    complete = [window for batch in batches for window in batch.windows if window.complete]
    torn = [window for batch in batches for window in batch.windows if not window.complete]
    for window in complete:
        assert window.readings == sum(window.start <= at < window.end for at in readings)
    assert max(Counter(window.start for window in complete).values()) == 1
    assert len(complete) > 8 and torn


def test_values_are_told_in_windows_and_readings_without_one_do_not_count(
    tmp_path: Path, spool: MemorySpool, clock: Clock
) -> None:
    text = """
    streams:
      forecasts:
        window: {kind: tumbling, size_s: 10}
        aggregates: {mean: mean(value), most: max(value), n: count}
        condition: most > 4
    """
    streams = streaming_with(tmp_path, spool, clock, text)
    for i in range(20):
        streams.append(reading(clock.now(), value=None if i % 2 else float(i)))
        clock.advance(1)
        streams.tick()
    (window,) = windows(spool)
    assert window.values == (("mean", 4.0), ("most", 8.0), ("n", 10.0))
    assert [event.kind for event in events(spool)] == ["stream.forecasts"]
