"""Every value survives the wire, and no bytes do anything but decode or be refused."""

import struct
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from protos.contract import codec
from protos.contract.errors import ContractError, InvalidMessage, InvalidValue
from protos.contract.ids import digest_of
from protos.contract.inputs import ImageInput, Layout
from protos.contract.manifest import Blob, Format, GoldenRef, Manifest, Precision
from protos.contract.outputs import Classification, Values
from protos.contract.telemetry import MAX_BATCH_BYTES, MAX_ROWS, MAX_TEXT, Batch, Event, Inference, InferenceTable, Lane
from protos.contract.twin import Health, ModelAssignment, ReportedTwin, UpdateStatus
from protos.contract.update import UpdateState
from protos.v1 import telemetry_pb2, twin_pb2
from tests.protos import values


@dataclass(frozen=True)
class Kind:
    strategy: st.SearchStrategy[Any]
    encode: Callable[[Any], bytes]
    decode: Callable[[bytes], Any]


KINDS = {
    "batch": Kind(values.batches(), codec.encode_batch, codec.decode_batch),
    "bare batch": Kind(values.batches(), lambda batch: codec.encode_batch(batch, compress=False), codec.decode_batch),
    "watermark": Kind(values.marks, codec.encode_watermark, codec.decode_watermark),
    "status": Kind(values.statuses, codec.encode_status, codec.decode_status),
    "desired": Kind(values.desired_twins, codec.encode_desired, codec.decode_desired),
    "reported": Kind(values.reported_twins, codec.encode_reported, codec.decode_reported),
    "manifest": Kind(values.manifests(), codec.encode_manifest, codec.decode_manifest),
    "golden": Kind(values.golden_sets(), codec.encode_golden, codec.decode_golden),
}
every_kind = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS.keys())
bounded = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def survives(kind: Kind, data: bytes) -> None:
    """Decodes to a value that is valid, so that it can be sent on, or is refused; nothing else may happen."""
    try:
        value = kind.decode(data)
    except InvalidMessage:
        return
    assert kind.decode(kind.encode(value)) == value


@every_kind
@bounded
@given(data=st.data())
def test_every_value_survives_the_round_trip(kind: Kind, data: st.DataObject) -> None:
    value = data.draw(kind.strategy)
    encoded = kind.encode(value)
    assert kind.decode(encoded) == value
    assert kind.encode(value) == encoded


@every_kind
@bounded
@given(noise=st.binary(max_size=300))
def test_random_bytes_are_refused_or_mean_something(kind: Kind, noise: bytes) -> None:
    survives(kind, noise)


@every_kind
@bounded
@given(data=st.data())
def test_mutated_bytes_are_refused_or_mean_something(kind: Kind, data: st.DataObject) -> None:
    encoded = bytearray(kind.encode(data.draw(kind.strategy)))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(encoded)))
        action = data.draw(st.sampled_from(["flip", "insert", "cut", "repeat"]))
        if action == "flip" and at < len(encoded):
            encoded[at] ^= 1 << data.draw(st.integers(0, 7))
        elif action == "insert":
            encoded[at:at] = data.draw(st.binary(max_size=12))
        elif action == "cut":
            del encoded[at : at + data.draw(st.integers(0, 20))]
        else:
            encoded += encoded[at : at + 100]
    survives(kind, bytes(encoded))


@bounded
@given(st.lists(values.batches().map(codec.encode_batch) | st.binary(max_size=40), max_size=6))
def test_heads_are_those_of_the_whole_batches(payloads: list[bytes]) -> None:
    for payload, head in zip(payloads, codec.decode_heads(payloads), strict=True):
        try:
            assert codec.decode_batch(payload).head == head
        except InvalidMessage as error:
            assert isinstance(head, InvalidMessage) and str(head) == str(error)


@pytest.mark.parametrize("kind", [kind for name, kind in KINDS.items() if "batch" not in name])
def test_an_oversized_message_is_refused_unparsed(kind: Kind) -> None:
    with pytest.raises(InvalidMessage, match="more than"):
        kind.decode(bytes(17 << 20))


def test_a_stored_flip_in_a_compressed_batch_is_noticed() -> None:
    encoded = codec.encode_batch(Batch(epoch="e", lane=Lane.BULK, first_sequence=0, last_sequence=0, events=(_event(0),)))
    for at in range(len(encoded)):
        flipped = bytearray(encoded)
        flipped[at] ^= 0x10
        try:
            assert codec.decode_batch(bytes(flipped)) == codec.decode_batch(encoded)
        except InvalidMessage:
            continue


@pytest.mark.parametrize("size_known", [True, False])
def test_a_zstd_bomb_is_refused_before_it_unfolds(size_known: bool) -> None:
    compressor = zstandard.ZstdCompressor(level=19, write_content_size=size_known)
    bomb = compressor.compress(bytes(256 << 20)) if size_known else _streamed(compressor, 256 << 20)
    assert len(bomb) < MAX_BATCH_BYTES
    with pytest.raises(InvalidMessage, match="unpacks to more"):
        codec.decode_batch(bomb)


def test_a_frame_that_lies_about_its_size_is_refused() -> None:
    bomb = bytearray(zstandard.ZstdCompressor(write_content_size=True).compress(bytes(2 << 20)))
    told = bomb.index(struct.pack("<I", 2 << 20), 4, 16)  # Frame_Content_Size, RFC 8878, 3.1.1.1.4
    struct.pack_into("<I", bomb, told, 1000)
    with pytest.raises(InvalidMessage):
        codec.decode_batch(bytes(bomb))


def test_what_trails_a_frame_is_refused() -> None:
    batch = Batch(epoch="e", lane=Lane.BULK, first_sequence=0, last_sequence=0, events=(_event(0),))
    with pytest.raises(InvalidMessage):
        codec.decode_batch(codec.encode_batch(batch) + b"more")


def test_more_rows_than_a_batch_may_hold_are_refused() -> None:
    message = telemetry_pb2.TelemetryBatch(epoch="e", lane=telemetry_pb2.LANE_BULK, last_sequence=MAX_ROWS)
    message.events.extend(telemetry_pb2.Event(sequence=i, kind="k") for i in range(MAX_ROWS + 1))
    with pytest.raises(InvalidMessage):
        codec.decode_batch(message.SerializeToString())
    message = telemetry_pb2.TelemetryBatch(epoch="e", lane=telemetry_pb2.LANE_BULK, last_sequence=0)
    message.inferences.rows = 2**32 - 1
    with pytest.raises(InvalidMessage, match="more than"):
        codec.decode_batch(message.SerializeToString())


def test_an_unspecified_enum_is_refused() -> None:
    batch = telemetry_pb2.TelemetryBatch(epoch="e", events=[telemetry_pb2.Event(sequence=0, kind="k")])
    for decode, message in ((codec.decode_batch, batch), (codec.decode_status, twin_pb2.Status())):
        with pytest.raises(InvalidMessage):
            decode(message.SerializeToString())


def test_a_manifest_of_another_schema_says_what_to_do() -> None:
    data = codec.encode_manifest(_manifest())
    assert data[:2] == b"\x08\x01"
    with pytest.raises(InvalidMessage, match="update the agent"):
        codec.decode_manifest(b"\x08\x02" + data[2:])


def test_a_manifest_no_device_would_take_is_not_made() -> None:
    labels = tuple(f"{i:020}" for i in range(30_000))
    with pytest.raises(InvalidValue, match="fewer or shorter labels"):
        codec.encode_manifest(_manifest(labels))


@given(st.text(max_size=30) | st.just("\udcff" * 3) | st.just("x" * 5000) | st.just("a\0b"))
@bounded
def test_a_reason_of_any_text_can_be_reported(reason: str) -> None:
    model = ModelAssignment(name=values.ids.model_name("m"), version=1, manifest_digest=digest_of(b""), manifest_size_bytes=1)
    update = UpdateStatus(generation=1, state=UpdateState.FAILED, model=model, at=values.START, reason=reason)
    health = Health(started_at=values.START)
    twin = ReportedTwin(generation=1, boot_id="b", agent_version="0", board="x", at=values.START, health=health, update=update)
    decoded = codec.decode_reported(codec.encode_reported(twin)).update
    assert decoded is not None and len(decoded.reason) <= MAX_TEXT and "\0" not in decoded.reason


def test_every_decoder_is_in_this_suite() -> None:
    decoders = {name for name in vars(codec) if name.startswith("decode_")}
    tested = {getattr(kind.decode, "__name__", "") for kind in KINDS.values()}
    assert decoders - tested == {"decode_heads"}


def test_all_errors_have_one_root() -> None:
    assert issubclass(InvalidMessage, ContractError) and issubclass(ContractError, ValueError)


def _streamed(compressor: zstandard.ZstdCompressor, size: int) -> bytes:
    stream = compressor.compressobj()
    return b"".join([*(stream.compress(bytes(1 << 20)) for _ in range(size >> 20)), stream.flush()])


def _event(sequence: int) -> Event:
    return Event(sequence=sequence, at=datetime(2025, 1, 1, tzinfo=UTC), kind="k", detail="d" * 100)


def _manifest(labels: tuple[str, ...] = ("a", "b")) -> Manifest:
    blob = Blob(digest=digest_of(b""), size_bytes=1)
    spec = ImageInput(width=1, height=1, channels=1, layout=Layout.NCHW, mean=(0.0,), std=(1.0,))
    return Manifest(
        name=values.ids.model_name("m"),
        version=1,
        task="image-classification",
        artifact=blob,
        format=Format.ONNX,
        precision=Precision.INT8,
        input=spec,
        output=Classification(labels=labels),
        golden=GoldenRef(blob=blob, tolerance=1.0),
    )


def test_a_manifest_that_its_32_bit_floats_would_break_is_not_made() -> None:
    output = Values(names=("v",), mean=(0.0,), std=(1.0,), edges=(1.0, 1.0 + 1e-12))
    with pytest.raises(InvalidValue, match="no device could read"):
        codec.encode_manifest(replace(_manifest(), output=output))


def test_an_empty_table_is_no_table() -> None:
    message = telemetry_pb2.TelemetryBatch(epoch="e", lane=telemetry_pb2.LANE_BULK, events=[{"sequence": 0, "kind": "k"}])
    message.inferences.models.append("not a digest")
    assert codec.decode_batch(message.SerializeToString()).inferences == InferenceTable.of(())


def test_a_refused_batch_holds_on_to_nothing_that_was_unpacked() -> None:
    """A group of a thousand is refused together: with all they unpack to in memory, a device could end the hub."""
    [refused] = codec.decode_heads([zstandard.compress(bytes(MAX_BATCH_BYTES))])
    assert isinstance(refused, InvalidMessage)
    assert refused.__traceback__ is None and refused.__context__ is None and refused.__cause__ is None


# -- values -------------------------------------------------------------------------------------------------------------


def _readings(*told: float | None) -> Batch:
    rows = [
        Inference(
            sequence=i, captured_at=values.START, model=digest_of(b"m"), label=1, confidence=0.5, latency_ms=1.0, value=value
        )
        for i, value in enumerate(told)
    ]
    last = len(told) - 1
    return Batch(epoch="e", lane=Lane.NORMAL, first_sequence=0, last_sequence=last, inferences=InferenceTable.of(rows))


def test_a_batch_without_values_has_no_byte_for_them() -> None:
    plain, valued = (codec.encode_batch(_readings(*told), compress=False) for told in ((None, None), (1.5, None)))
    assert not telemetry_pb2.TelemetryBatch.FromString(plain).inferences.value
    assert len(valued) == len(plain) + 2 + 2 * 4 and plain[:8] == valued[:8]


def test_a_batch_of_an_older_agent_has_no_values() -> None:
    message = telemetry_pb2.TelemetryBatch.FromString(codec.encode_batch(_readings(1.5, None), compress=False))
    message.inferences.ClearField("value")
    old = message.SerializeToString()
    assert codec.decode_batch(old) == _readings(None, None)
    assert np.isnan(codec.unpack_batches([old]).value).all()


@pytest.mark.parametrize(
    "column", [b"\0", bytes(7), bytes(12), np.array([1, np.inf], "<f4").tobytes(), np.array([-np.inf, 1], "<f4").tobytes()]
)
def test_a_column_of_values_that_cannot_be_is_refused_by_every_reader(column: bytes) -> None:
    message = telemetry_pb2.TelemetryBatch.FromString(codec.encode_batch(_readings(1.5, None), compress=False))
    message.inferences.value = column
    data = message.SerializeToString()
    with pytest.raises(InvalidMessage):
        codec.decode_batch(data)
    assert isinstance(codec.decode_heads([data])[0], InvalidMessage)
    assert list(codec.unpack_batches([data]).errors) == [0]


@bounded
@given(st.lists(values.batches(), max_size=5))
def test_values_of_many_batches_are_unpacked_in_their_place(batches: list[Batch]) -> None:
    unpacked = codec.unpack_batches([codec.encode_batch(batch) for batch in batches])
    wanted = [row.value for batch in batches for row in batch.inferences.rows()]
    assert [None if np.isnan(value) else value for value in unpacked.value.tolist()] == wanted
