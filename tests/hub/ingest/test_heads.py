"""Heads decoded in bulk say what decoding one by one says."""

import random
from dataclasses import replace

import numpy as np
import pytest

from protos.contract import codec
from protos.contract.errors import InvalidMessage
from protos.contract.telemetry import Batch, BatchHead, Event, Gap, InferenceTable, Lane
from protos.v1 import telemetry_pb2
from tests.hub.fleet_parts import START
from tests.hub.ingest.test_failures import mutants
from tests.hub.mqtt_parts import batch


def alone(payload: bytes) -> BatchHead | None:
    try:
        return codec.decode_batch(payload).head
    except InvalidMessage:
        return None


def together(payloads: list[bytes]) -> list[BatchHead | None]:
    return [None if isinstance(head, InvalidMessage) else head for head in codec.decode_heads(payloads)]


def sparse(first: int) -> Batch:
    """Inferences, an event and a gap."""
    table = InferenceTable.of([row for row in batch(first, 5).inferences.rows() if row.sequence != first + 2])
    return Batch(
        epoch="e2",
        lane=Lane.CRITICAL,
        first_sequence=first,
        last_sequence=first + 6,
        inferences=table,
        events=(Event(sequence=first + 2, at=START, kind="a.b"),),
        gaps=(Gap(first_sequence=first + 5, last_sequence=first + 6, reason="full", at=START),),
    )


def test_good_batches_of_every_shape() -> None:
    payloads = [
        codec.encode_batch(one, compress=compress)
        for one in (batch(0), batch(7, 1), sparse(100), batch(50, 300), replace(batch(3), epoch="x9"))
        for compress in (True, False)
    ]
    assert None not in together(payloads)
    assert together(payloads) == [alone(payload) for payload in payloads]
    assert codec.decode_heads([]) == []


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("confidence", np.float32(1.01)),
        ("confidence", np.float32("nan")),
        ("confidence", np.float32(-0.01)),
        ("latency", np.float32("inf")),
        ("latency", np.float32(-1)),
        ("latency", np.float32(2e9)),
        ("captured_at", np.int64(-1)),
        ("captured_at", np.int64(253_402_300_800_000)),
        ("flags", np.uint8(4)),
        ("model", np.uint8(1)),
        ("offset", np.uint32(9)),
    ],
)
@pytest.mark.parametrize("row", [0, 4, 9])
def test_one_bad_value_condemns_its_batch_and_no_other(column: str, value: np.generic, row: int) -> None:
    message = telemetry_pb2.TelemetryBatch.FromString(codec.encode_batch(batch(0), compress=False))
    data = bytearray(getattr(message.inferences, column))
    size = len(data) // 10
    if data[row * size : (row + 1) * size] == value.tobytes():
        row -= 1  # the value that belongs there
    data[row * size : (row + 1) * size] = value.tobytes()
    setattr(message.inferences, column, bytes(data))
    bad, good = message.SerializeToString(), codec.encode_batch(batch(0))
    assert alone(bad) is None
    assert together([good, bad, good]) == [alone(good), None, alone(good)]


def test_mutants_get_the_same_verdict() -> None:
    payloads = mutants(11, 3000)
    random.Random(1).shuffle(payloads)
    assert together(payloads) == [alone(payload) for payload in payloads]
