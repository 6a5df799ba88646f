"""How much of one device's telemetry one process takes: a token bucket for each."""

from dataclasses import dataclass

from edge_agent.core.clock import Clock
from protos.contract.ids import DeviceId

EPISODE_S = 60.0  # without a message above the quota: it is over
_SWEEP_EVERY = 1024  # new buckets


@dataclass(slots=True)
class _Bucket:
    bytes: float  # that may come now
    at_s: float  # when that was so
    throttled_s: float = float("-inf")  # when a message was above it last


class Quota:
    """For one thread. What it refuses is not lost: no mark covers it, so the device sends it again, at a rate that it can keep.

    A bucket that is full says nothing, so it is forgotten: there are about as many as devices that send now.
    """

    def __init__(self, bytes_per_s: float, burst_bytes: float, clock: Clock) -> None:
        """Raises ValueError unless both are above 0."""
        if bytes_per_s <= 0 or burst_bytes <= 0:
            raise ValueError(f"a quota needs rates above 0, got {bytes_per_s} bytes/s, {burst_bytes} at once")
        self._rate = bytes_per_s
        self._burst = burst_bytes
        self._clock = clock
        self._buckets: dict[DeviceId, _Bucket] = {}
        self._sweep_at = _SWEEP_EVERY
        self._episodes: list[DeviceId] = []

    def admits(self, device: DeviceId, size_bytes: int) -> bool:
        """A message larger than the bucket is admitted when the bucket is full: otherwise it never could be."""
        now_s = self._clock.monotonic()
        bucket = self._buckets.get(device)
        if bucket is None:
            bucket = self._new(device, now_s)
        bucket.bytes = min(self._burst, bucket.bytes + self._rate * (now_s - bucket.at_s))
        bucket.at_s = now_s
        if bucket.bytes >= min(size_bytes, self._burst):
            bucket.bytes -= size_bytes
            return True
        if now_s - bucket.throttled_s > EPISODE_S:
            self._episodes.append(device)
        bucket.throttled_s = now_s
        return False

    def episodes(self) -> list[DeviceId]:
        """Devices that began to be above their quota since the last call."""
        begun, self._episodes = self._episodes, []
        return begun

    def __len__(self) -> int:
        """Buckets kept."""
        return len(self._buckets)

    def _new(self, device: DeviceId, now_s: float) -> _Bucket:
        if len(self._buckets) >= self._sweep_at:
            self._buckets = {id: bucket for id, bucket in self._buckets.items() if not self._idle(bucket, now_s)}
            self._sweep_at = 2 * len(self._buckets) + _SWEEP_EVERY
        return self._buckets.setdefault(device, _Bucket(self._burst, now_s))

    def _idle(self, bucket: _Bucket, now_s: float) -> bool:
        full = bucket.bytes + self._rate * (now_s - bucket.at_s) >= self._burst
        return full and now_s - bucket.throttled_s > EPISODE_S
