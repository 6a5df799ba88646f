"""Landed batches as those who fold them take them: columns, with the versions that their models are."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cloud_hub.core.model import ModelVersion
from cloud_hub.services.versions import Versions
from cloud_hub.store.database import Tx
from cloud_hub.store.landing import Landed
from protos.contract import codec
from protos.contract.ids import DeviceId, TenantId
from protos.contract.telemetry import Window

log = logging.getLogger(__name__)

MAX_AHEAD_MS = 300_000  # a reading from further ahead of its arrival would make all honest ones after it late


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """Batches of one device that follow each other in one of its streams."""

    tenant: TenantId
    device: DeviceId
    lane: str
    origin: str  # of its sequences
    first: int  # batch of the page
    end: int  # batch behind the last
    received_ms: int  # when the last of them came


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Batches in the order in which they are folded, their readings end to end."""

    batches: Sequence[Landed]
    readings: codec.Unpacked
    usable: NDArray[np.bool_]  # (rows,) False: from after it was received
    version: NDArray[np.int64]  # (rows,) index into versions
    versions: Sequence[ModelVersion | None]  # the first is None: not published here
    stretches: Sequence[Stretch]

    def rows(self, stretch: Stretch) -> slice:
        return self.rows_of(stretch.first, stretch.end)

    def rows_of(self, first: int, end: int) -> slice:
        """Of the batches ``first..end``, exclusive."""
        starts = self.readings.starts
        return slice(int(starts[first]), int(starts[end]))

    def windows(self) -> Iterator[tuple[Landed, Window]]:
        """What devices made before they sent it, in order."""
        for number in sorted(self.readings.windows):
            for window in self.readings.windows[number]:
                yield self.batches[number], window


def unfold(tx: Tx, batches: Sequence[Landed], versions: Versions) -> Page:
    """``batches`` as they come from the store: each stream in the order of its sequences, one stream behind the other."""
    batches = _in_order_of_time(batches)
    readings = codec.unpack_batches([batch.payload for batch in batches])
    for number, error in readings.errors.items():  # it could be decoded when it landed
        log.error("landed batch cannot be read", extra={"landing": batches[number].id, "reason": str(error)})
    stretches = tuple(_stretches(batches))
    rows = np.diff(readings.starts)
    received = np.repeat(np.array([batch.received_ms for batch in batches], dtype=np.int64), rows)
    known: list[ModelVersion | None] = [None]
    index: dict[tuple[TenantId, str], int] = {}
    of_model = np.zeros(len(readings.models), dtype=np.int64)
    for number, (batch, manifest) in enumerate(readings.models):
        key = (batches[batch].tenant, manifest)
        if key not in index:
            found = versions.find(tx, batches[batch].tenant, manifest)
            index[key] = len(known) if found else 0
            known += [found] if found else []
        of_model[number] = index[key]
    return Page(
        batches=batches,
        readings=readings,
        usable=readings.at_ms <= received + MAX_AHEAD_MS,
        version=of_model[readings.model],
        versions=known,
        stretches=stretches,
    )


def _in_order_of_time(batches: Sequence[Landed]) -> Sequence[Landed]:
    """Streams of one device are merged by when their batches came, so that none of them makes another one late."""
    streams: dict[DeviceId, set[tuple[str, int]]] = {}
    for batch in batches:
        streams.setdefault(batch.device, set()).add((batch.epoch, int(batch.lane)))
    if all(len(own) == 1 for own in streams.values()):
        return batches
    by_device: dict[DeviceId, list[Landed]] = {device: [] for device in streams}
    for batch in batches:
        by_device[batch.device].append(batch)
    return [batch for device, own in by_device.items() for batch in _merged(own, several=len(streams[device]) > 1)]


def _merged(batches: list[Landed], *, several: bool) -> list[Landed]:
    if not several:
        return batches
    keys: list[int] = []
    latest: dict[tuple[str, int], int] = {}
    for batch in batches:
        stream = (batch.epoch, int(batch.lane))
        latest[stream] = max(latest.get(stream, 0), batch.received_ms)  # a stream keeps its order, whenever its batches came
        keys.append(latest[stream])
    return [batch for _, batch in sorted(zip(keys, batches, strict=True), key=lambda pair: pair[0])]


def _stretches(batches: Sequence[Landed]) -> Iterator[Stretch]:
    first = 0
    for number in range(1, len(batches) + 1):
        if number < len(batches) and _same(batches[first], batches[number]):
            continue
        one = batches[first]
        yield Stretch(
            tenant=one.tenant,
            device=one.device,
            lane=one.lane.name.lower(),
            origin=f"{one.device}/{one.epoch}/{int(one.lane)}",
            first=first,
            end=number,
            received_ms=max(batch.received_ms for batch in batches[first:number]),
        )
        first = number


def _same(left: Landed, right: Landed) -> bool:
    return (left.tenant, left.device, left.epoch, left.lane) == (right.tenant, right.device, right.epoch, right.lane)
