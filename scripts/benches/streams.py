"""What windows cost and what they save: folding, the device's hot path, and bytes on the wire.

The bytes are those of the batches in a real spool, cut as the defaults cut them, without what MQTT and TLS add, for an hour of
a camera with ten frames a second.
"""

import argparse
import json
import statistics
import tempfile
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from edge_agent.app.streaming import Streaming, load_device_specs
from edge_agent.core.clock import SystemClock
from edge_agent.core.config import SpoolConfig, StreamsConfig
from edge_agent.core.model import Outcome
from edge_agent.core.ports import Outlet
from edge_agent.spool.sqlite import SqliteSpool
from edge_agent.streams.rows import READING_FIELDS, Rows
from edge_agent.streams.spec import load_specs
from edge_agent.streams.windows import Windows
from protos.contract.ids import digest_of
from protos.contract.telemetry import Lane, Mark
from scripts.benches._figures import figure

MODEL = digest_of(b"bench")
CLASSES = 43
KINDS = """
streams:
  tumbling: {window: {kind: tumbling, size_s: 60}, aggregates: USUAL}
  by-43-labels: {window: {kind: tumbling, size_s: 60}, by: label, aggregates: USUAL}
  hopping: {window: {kind: hopping, size_s: 60, hop_s: 10}, aggregates: USUAL}
  session: {window: {kind: session, gap_s: 3}, aggregates: USUAL}
  sliding-over-50-rows: {window: {kind: sliding, size_s: 5}, aggregates: USUAL}
  drift:
    window: {kind: tumbling, size_s: 60}
    aggregates: {labels: counts(label), bins: "histogram(confidence, 0, 1, 10)", sum: sum(confidence)}
""".replace("USUAL", "{n: count, mean: mean(confidence), p95: p95(latency_ms)}")
SUMMARY = """
streams:
  all:
    window: {kind: tumbling, size_s: 10}
    aggregates: {readings: count, mean: mean(confidence), low: share(uncertain), p95: p95(latency_ms)}
"""
BY_LABEL = SUMMARY.replace("    window", "    by: [label]\n    window")


class StandingClock:
    """Goes on only when told."""

    def __init__(self) -> None:
        self._passed_s = 0.0

    def now(self) -> datetime:
        return datetime(2025, 1, 1, tzinfo=UTC) + timedelta(seconds=self._passed_s)

    def monotonic(self) -> float:
        return self._passed_s

    def advance(self, seconds: float) -> None:
        self._passed_s += seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    _folding(60 if quick else 600)
    _hot_path(5_000 if quick else 50_000)
    _bytes(600 if quick else 3600)


def _folding(batches: int) -> None:
    rng = np.random.default_rng(0)
    for spec in load_specs(KINDS, READING_FIELDS):
        windows, times = Windows(spec), []
        for i in range(batches):
            rows = _rows(rng, first=100 * i)
            started = time.perf_counter()
            windows.add(rows)
            times.append(time.perf_counter() - started)
        figure("streams", f"fold of 100 readings, {spec.name}", statistics.fmean(times) * 1e3, "ms", aim="< 0.3")
        figure(
            "streams", f"state of open windows, {spec.name}", len(json.dumps(windows.state(), separators=(",", ":"))), "bytes"
        )


def _rows(rng: np.random.Generator, *, first: int) -> Rows:
    sequence = np.arange(first, first + 100)
    return Rows(
        origin="bench",
        sequence=sequence,
        at_ms=1_700_000_000_000 + 100 * sequence,
        fields={
            "label": rng.integers(0, CLASSES, 100).astype("<u2"),
            "confidence": rng.beta(8, 2, 100).astype("<f4"),
            "latency_ms": rng.lognormal(2, 0.1, 100).astype("<f4"),
        },
    )


def _hot_path(readings: int) -> None:
    """CPU time of the whole process, the thread that folds and the one that commits included."""
    outcomes = _outcomes(readings, SystemClock().now(), spacing_s=1e-3)
    found: dict[bool, list[tuple[float, float]]] = {False: [], True: []}
    for _ in range(3):
        for streamed in (False, True):
            found[streamed].append(_appended(outcomes, streamed=streamed))
    for column, what in enumerate(("the caller waits", "CPU of the process")):
        plain, ours = (statistics.median(pair[column] for pair in found[streamed]) for streamed in (False, True))
        figure("streams", f"reading through two streams into the spool, {what}", ours, "us", reference=plain)


def _appended(outcomes: list[Outcome], *, streamed: bool) -> tuple[float, float]:
    with tempfile.TemporaryDirectory() as name:
        spool = SqliteSpool(Path(name) / "spool.db", SpoolConfig(), SystemClock())
        outlet: Outlet = spool
        if streamed:
            outlet = streams = _streaming(
                Path(name), SUMMARY + BY_LABEL.replace("streams:\n", "").replace("all", "by"), spool, "all", SystemClock()
            )
            thread = threading.Thread(target=streams.run)
            thread.start()
        cpu, waited = time.process_time(), 0.0
        for i, outcome in enumerate(outcomes):
            started = time.perf_counter()
            outlet.append(outcome)
            waited += time.perf_counter() - started
            if i % 50 == 49:
                time.sleep(0.005)
        if streamed:
            streams.stop()
            thread.join()
            assert streams.stats().readings == len(outcomes)
        spool.flush()
        cpu = time.process_time() - cpu
        spool.close()
    return waited / len(outcomes) * 1e6, cpu / len(outcomes) * 1e6


def _bytes(seconds: int) -> None:
    readings = seconds * 10
    as_json = sum(len(json.dumps(_plain(outcome))) for outcome in _outcomes(1000, StandingClock().now(), spacing_s=0.1)) / 1000
    raw = _sent(SUMMARY, "all", readings, windows=False) / readings
    figure("streams", "bytes per reading, each sent", raw, "bytes", reference=as_json)
    for name, text in (("10 s windows of all readings", SUMMARY), ("10 s windows of each of 43 labels", BY_LABEL)):
        for keep in ("none", "uncertain"):
            label = f"bytes per reading, {name}, raw: {keep}"
            figure("streams", label, _sent(text, keep, readings) / readings, "bytes", reference=raw)


def _sent(text: str, raw: str, readings: int, *, windows: bool = True) -> int:
    """All bytes of all batches."""
    clock, total = StandingClock(), 0
    with tempfile.TemporaryDirectory() as name:
        spool = SqliteSpool(Path(name) / "spool.db", SpoolConfig(commit_interval_s=3600.0), clock)
        streams = _streaming(Path(name), text if windows else "streams: {}", spool, raw, clock)
        for i, outcome in enumerate(_outcomes(readings, clock.now(), spacing_s=0.1)):
            streams.append(outcome)
            clock.advance(0.1)
            if i % 5 == 4:
                streams.tick()
                spool.flush()
                total += _drained(spool)
        streams.stop()
        streams.run()
        clock.advance(60)
        total += _drained(spool)
        spool.close()
    return total


def _drained(spool: SqliteSpool) -> int:
    found = [item for lane in Lane for item in spool.batches(after=None, lane=lane, limit=100)]
    spool.discard([Mark(epoch=spool.epoch, lane=batch.lane, committed_through=batch.last_sequence) for batch, _ in found])
    return sum(len(payload) for _, payload in found)


def _streaming(folder: Path, text: str, spool: SqliteSpool, raw: str, clock: SystemClock | StandingClock) -> Streaming:
    path = folder / "streams.yaml"
    path.write_text(text)
    config = StreamsConfig(specs=path, raw=raw)
    return Streaming(load_device_specs(config), config, spool, folder, clock)


def _outcomes(count: int, first: datetime, *, spacing_s: float) -> list[Outcome]:
    rng = np.random.default_rng(0)
    plain = Outcome(captured_at=first, model=MODEL, label=0, confidence=0.0, latency_ms=0.0)
    return [
        replace(
            plain,
            captured_at=first + timedelta(seconds=i * spacing_s, milliseconds=int(rng.integers(0, 5))),
            label=int(rng.zipf(1.5) % CLASSES),
            confidence=(confidence := float(rng.beta(8, 2))),
            latency_ms=float(rng.lognormal(2, 0.1)),
            uncertain=confidence < 0.6,
            label_name="name",
        )
        for i in range(count)
    ]


def _plain(outcome: Outcome) -> dict[str, object]:
    """One message of JSON per reading, as it is often done."""
    return {
        "at": outcome.captured_at.isoformat(timespec="milliseconds"),
        "model": outcome.model,
        "label": outcome.label,
        "confidence": round(outcome.confidence, 6),
        "latency_ms": round(outcome.latency_ms, 3),
        "uncertain": outcome.uncertain,
    }


if __name__ == "__main__":
    main()
