"""One stream on the device: its open windows, and what has been said of its condition."""

import logging
import math
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from edge_agent.core.model import Happening, Outcome, Summary
from edge_agent.streams.rows import Rows
from edge_agent.streams.spec import InvalidSpec, Send, StreamSpec
from edge_agent.streams.windows import Closed, Windows
from protos.contract.telemetry import to_ms

log = logging.getLogger(__name__)

MAX_HOLDING = 1000  # keys of one stream whose condition holds; that of others is not told
ALWAYS = 1 << 62  # later than every time there is
MAX_SIGNALS = 16  # told in one go: each is synced to the disk at once; what is left is told in the next

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Stream:
    """Not thread-safe."""

    def __init__(self, spec: StreamSpec) -> None:
        self.spec = spec
        self._windows = Windows(spec)
        self._torn_ms = 0  # windows that start before may lack readings
        self._holding: set[str] = set()  # keys whose condition was told to hold
        self._verdicts: dict[str, Closed] = {}  # of the newest window of each key, where that is another one than was told

    def restore(self, saved: dict[str, Any] | None, *, clean: bool) -> None:
        """Go on from what ``state`` gave; without it, or if not ``clean``, windows with time from before are not complete."""
        try:
            if saved is not None:
                self._windows = Windows(self.spec, saved["windows"])
                self._torn_ms, self._holding = saved["torn_ms"], set(saved["holding"])
        except InvalidSpec as error:
            log.warning("open windows are dropped", extra={"stream": self.spec.name, "reason": str(error)})
            clean = False
        if not clean:
            self._torn_ms = ALWAYS

    def state(self) -> dict[str, Any]:
        return {"windows": self._windows.state(), "torn_ms": self._torn_ms, "holding": sorted(self._holding)}

    def fold(self, rows: Rows) -> list[Summary]:
        """What is to be told of the windows these rows close."""
        if self._torn_ms == ALWAYS and len(rows.at_ms):
            self._torn_ms = int(rows.at_ms.min())  # what was lost is older than all that comes now
        return self._told(self._windows.add(rows), complete=True)

    def pass_time(self, idle_ms: int) -> list[Summary]:
        """No row has come for so long: the same time has passed for events."""
        newest = self._windows.newest_ms
        if newest is None:
            return []
        return self._told(self._windows.advance(newest + idle_ms - self.spec.window.lateness_ms), complete=True)

    def restart(self) -> list[Summary]:
        """The clock was put back: all that is open is told as far as it went, and time begins anew."""
        return self._told(self._windows.restart(), complete=False)

    def signals(self, at: datetime) -> Iterator[Happening]:
        """Keys whose condition has begun or ceased to hold since it was last told; at most MAX_SIGNALS."""
        for key in sorted(self._verdicts)[:MAX_SIGNALS]:
            window = self._verdicts.pop(key)
            self._holding ^= {key}
            word = "holds" if window.holds else "holds no more"
            values = ", ".join(f"{name}={value:.6g}" for name, value in window.values)
            start = _time(window.start_ms).isoformat(timespec="milliseconds")
            length_s = (window.end_ms - window.start_ms) / 1000
            detail = f"{word}: {key or 'all readings'}; {values}; {window.readings} readings in {length_s:g} s from {start}"
            yield Happening(at=at, kind=f"stream.{self.spec.name}", detail=detail)

    @property
    def late(self) -> int:
        return self._windows.late

    @property
    def overflowed(self) -> int:
        return self._windows.overflowed

    def __len__(self) -> int:
        return len(self._windows)

    def _told(self, closed: Sequence[Closed], *, complete: bool) -> list[Summary]:
        told: list[Summary] = []
        for window in closed:
            key = ",".join(f"{name}={value}" for name, value in window.key)
            if window.holds is not None:
                self._judge(key, window)
            if self.spec.send is Send.ALL or (self.spec.send is Send.HOLDING and window.holds):
                told.append(
                    Summary(
                        stream=self.spec.name,
                        start=_time(window.start_ms),
                        end=_time(window.end_ms),
                        readings=window.readings,
                        values=window.values,
                        key=key,
                        complete=complete and window.start_ms >= self._torn_ms,
                    )
                )
        return told

    def _judge(self, key: str, window: Closed) -> None:
        if window.holds != (key in self._holding):
            if not window.holds or len(self._holding) + len(self._verdicts) < MAX_HOLDING:
                self._verdicts[key] = window
        else:
            self._verdicts.pop(key, None)


def rows_of(outcomes: Sequence[Outcome], origin: str, first: int, fields: frozenset[str]) -> Rows:
    """Readings as columns, numbered from ``first``; numbers as wide as on the wire, so that the hub would find the same."""
    columns: dict[str, Any] = {}
    if "label" in fields:
        columns["label"] = np.array([outcome.label for outcome in outcomes], dtype=np.int64)
    if "confidence" in fields:
        columns["confidence"] = np.array([outcome.confidence for outcome in outcomes], dtype=np.float32)
    if "latency_ms" in fields:
        columns["latency_ms"] = np.array([outcome.latency_ms for outcome in outcomes], dtype=np.float32)
    if "value" in fields:
        told = [math.nan if outcome.value is None else outcome.value for outcome in outcomes]
        columns["value"] = np.array(told, dtype=np.float32)
    if "uncertain" in fields:
        columns["uncertain"] = np.array([outcome.uncertain for outcome in outcomes], dtype=bool)
    if "captured" in fields:
        columns["captured"] = np.array([outcome.captured for outcome in outcomes], dtype=bool)
    if "label_name" in fields:
        columns["label_name"] = np.array([outcome.label_name for outcome in outcomes], dtype=object)
    if "model" in fields:
        columns["model"] = np.array([outcome.model for outcome in outcomes], dtype=object)
    return Rows(
        origin=origin,
        sequence=np.arange(first, first + len(outcomes)),
        at_ms=np.array([max(0, to_ms(outcome.captured_at)) for outcome in outcomes], dtype=np.int64),
        fields=columns,
    )


def picked(rows: Rows, mask: Any) -> Rows:
    fields = {name: column[mask] for name, column in rows.fields.items() if isinstance(column, np.ndarray)}
    return Rows(origin=rows.origin, sequence=rows.sequence[mask], at_ms=rows.at_ms[mask], fields=fields)


def _time(ms: int) -> datetime:
    return _EPOCH + timedelta(milliseconds=max(0, ms))
