"""Hostile bytes: what is nearly good, and what was never anything. The same seed gives the same bytes."""

import random
import struct
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime

import zstandard
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from protos.contract import codec, topics
from protos.contract.ids import DeviceId, TenantId
from protos.contract.telemetry import MAX_BATCH_BYTES, Event, Gap, Lane
from protos.contract.twin import Health, Presence, ReportedTwin, Status
from protos.v1 import telemetry_pb2
from tests.hub.mqtt_parts import batch

AT = datetime(2026, 1, 1, tzinfo=UTC)
LARGEST = (2 << 20) - 1024  # what the broker carries
_HUGE = (
    b"\xff" * 9 + b"\x01",
    b"\xff" * 10,
    b"\xff" * 4 + b"\x07",
    b"\x80" * 9 + b"\x00",
)  # as a varint: 2^64-1, none, 2^31-1, 0

Mutate = Callable[[random.Random], bytes]


def mutated(rng: random.Random, tenant: TenantId, device: DeviceId, count: int) -> Iterator[tuple[str, bytes]]:
    """Topics a device may publish to, with what has the look of a good message or did have it."""
    lanes = [topics.telemetry(tenant, device, lane) for lane in Lane]
    seeds = good_payloads()
    for number in range(count):
        if number % 500 == 0:
            yield rng.choice(lanes), oversized(rng)
        elif rng.random() < 0.15:
            yield topics.of(tenant, device, rng.choice((topics.STATUS, topics.REPORTED))), damaged(rng, twins())
        elif rng.random() < 0.1:
            yield wrong_topic(rng, tenant, device), rng.choice(seeds)
        else:
            yield rng.choice(lanes), rng.choice(_TELEMETRY)(rng)


def noise(rng: random.Random, tenant: TenantId, device: DeviceId, count: int) -> Iterator[tuple[str, bytes]]:
    """Random bytes, some behind the magic number of zstd."""
    up = [topics.telemetry(tenant, device, lane) for lane in Lane]
    up += [topics.of(tenant, device, kind) for kind in (topics.STATUS, topics.REPORTED)]
    for _ in range(count):
        payload = rng.randbytes(rng.choice((0, 1, 2, 7, 64, 500, 3000)))
        yield rng.choice(up), (b"\x28\xb5\x2f\xfd" if rng.random() < 0.2 else b"") + payload


def good_payloads() -> list[bytes]:
    plain = batch(0, 20, epoch="fuzz")
    told = replace(
        batch(0, 20, epoch="fuzz"),
        last_sequence=29,
        events=(Event(sequence=20, at=AT, kind="agent.fault", detail="näher"),),
        gaps=(Gap(first_sequence=21, last_sequence=29, reason="spool full", at=AT),),
    )
    return [codec.encode_batch(one, compress=compress) for one in (plain, told) for compress in (True, False)]


def twins() -> list[bytes]:
    status = Status(presence=Presence.ONLINE, boot_id="b", agent_version="1", at=AT)
    reported = ReportedTwin(
        generation=0, boot_id="b", agent_version="1", board="camera-x86", at=AT, health=Health(started_at=AT)
    )
    return [codec.encode_status(status), codec.encode_reported(reported)]


def damaged(rng: random.Random, seeds: list[bytes]) -> bytes:
    return rng.choice((_flipped, _truncated, _spliced, _doubled, _with_varint))(rng, seeds)


def wrong_topic(rng: random.Random, tenant: TenantId, device: DeviceId) -> str:
    """Within what the broker lets a device write."""
    other = topics.of(TenantId("other"), device, f"{topics.TELEMETRY}/normal")
    words = ("up/telemetry/BULK", "up/telemetry/nothing", "up/telemetry/ ", "up/telemetry/normal/x", "up/telemetry", "up/a/b/c",
             "up/status/x", "up/command/1", "up/telemetry/\u00fc\u20ac")  # fmt: skip
    return rng.choice((other, *(topics.of(tenant, device, word) for word in words)))


# -- damage ---------------------------------------------------------------------------------------------------------------


def _flipped(rng: random.Random, seeds: list[bytes]) -> bytes:
    data = bytearray(rng.choice(seeds))
    for _ in range(rng.randint(1, 8)):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(data)


def _truncated(rng: random.Random, seeds: list[bytes]) -> bytes:
    data = rng.choice(seeds)
    return data[: rng.randrange(len(data))]


def _spliced(rng: random.Random, seeds: list[bytes]) -> bytes:
    head, tail = rng.choice(seeds), rng.choice(seeds)
    return head[: rng.randrange(len(head))] + tail[rng.randrange(len(tail)) :]


def _doubled(rng: random.Random, seeds: list[bytes]) -> bytes:
    """In protobuf the last of a field counts, and repeated fields and messages grow together."""
    data = rng.choice(seeds)
    start = rng.randrange(len(data))
    return data * rng.randint(2, 3) if rng.random() < 0.3 else data[:start] + data[start:] * 2


def _with_varint(rng: random.Random, seeds: list[bytes]) -> bytes:
    """A field whose value or length is as large as can be written, or larger."""
    data, key = rng.choice(seeds), bytes([rng.randint(1, 15) << 3 | rng.choice((0, 2))])
    return rng.choice((key + rng.choice(_HUGE) + data, data + key + rng.choice(_HUGE)))


# -- batches that parse ----------------------------------------------------------------------------------------------------


def _impossible(rng: random.Random) -> bytes:
    """A whole protobuf message whose values cannot be."""
    message = telemetry_pb2.TelemetryBatch.FromString(codec.encode_batch(batch(0, 8, epoch="fuzz"), compress=False))
    rng.choice(_LIES)(rng, message)
    data = message.SerializeToString()
    return zstandard.compress(data) if rng.random() < 0.5 else data


def _bad_floats(rng: random.Random, message: telemetry_pb2.TelemetryBatch) -> None:
    values = (float("nan"), float("inf"), -float("inf"), -1.0, 2.0, 3e38)
    name = rng.choice(("confidence", "latency"))
    setattr(message.inferences, name, struct.pack("<8f", *(rng.choice(values) for _ in range(8))))


def _bad_times(rng: random.Random, message: telemetry_pb2.TelemetryBatch) -> None:
    values = (-1, -(2**63), 2**63 - 1, 253_402_300_800_000, 32_503_680_000_000, 0)
    message.inferences.captured_at = struct.pack("<8q", *(rng.choice(values) for _ in range(8)))


def _bad_order(rng: random.Random, message: telemetry_pb2.TelemetryBatch) -> None:
    message.inferences.offset = struct.pack("<8I", *(rng.choice((0, 1, 7, 8, 2**32 - 1)) for _ in range(8)))


def _bad_range(rng: random.Random, message: telemetry_pb2.TelemetryBatch) -> None:
    ends = (0, 7, 8, 2**31, 2**62, 2**63 - 1, 2**63, 2**64 - 1)
    message.first_sequence, message.last_sequence = rng.choice(ends), rng.choice(ends)


def _bad_rows(rng: random.Random, message: telemetry_pb2.TelemetryBatch) -> None:
    message.inferences.rows = rng.choice((0, 7, 9, 2**20, 2**31, 2**32 - 1))


def _bad_words(rng: random.Random, message: telemetry_pb2.TelemetryBatch) -> None:
    words = ("", "\0", "e" * 5000, "../../etc", "'; drop table landing; --", "\u202e", "\U0001f4a3")
    if rng.random() < 0.5:
        message.epoch = rng.choice(words)
    else:
        message.inferences.models[0] = rng.choice(words)


def _bad_lane(rng: random.Random, message: telemetry_pb2.TelemetryBatch) -> None:
    message.lane = rng.choice((0, 4, 77, -1, 2**31 - 1))  # type: ignore[assignment]


def _many(rng: random.Random, message: telemetry_pb2.TelemetryBatch) -> None:
    for number in range(rng.choice((200, 20_000))):
        message.gaps.add(first_sequence=number + 1, last_sequence=number)
    for number in range(200):
        message.events.add(sequence=number, at_ms=-number, kind="k" * rng.choice((0, 1, 300)), detail="\0" * 100)


_LIES = (_bad_floats, _bad_times, _bad_order, _bad_range, _bad_rows, _bad_words, _bad_lane, _many)


# -- zstd -------------------------------------------------------------------------------------------------------------------


def _bomb(rng: random.Random) -> bytes:
    return rng.choice(_BOMBS)


def _bombs() -> tuple[bytes, ...]:
    zeros = bytes(64 << 20)
    honest = zstandard.compress(zeros)
    silent = zstandard.ZstdCompressor(write_content_size=False).compress(zeros)
    parameters = zstandard.ZstdCompressionParameters.from_level(3, window_log=27)
    wide = zstandard.ZstdCompressor(compression_params=parameters).compress(zeros[: 8 << 20])
    within = zstandard.compress(bytes(MAX_BATCH_BYTES))
    lying = bytearray(honest)
    lying[5:9] = (100).to_bytes(4, "little")  # of its content size
    return honest, silent, wide, within, bytes(lying), honest * 2, zstandard.compress(honest), honest[: len(honest) // 2]


_BOMBS = _bombs()


def oversized(rng: random.Random) -> bytes:
    """As large as the broker carries."""
    seed = codec.encode_batch(batch(0, 20, epoch="fuzz"), compress=False)
    groups = b"\x0b" * LARGEST  # groups in groups, without an end
    return rng.choice(
        (rng.randbytes(LARGEST), (seed * (LARGEST // len(seed))), groups, zstandard.compress(rng.randbytes(LARGEST)))
    )


def _broken(rng: random.Random) -> bytes:
    return damaged(rng, good_payloads())


_TELEMETRY: tuple[Mutate, ...] = (_broken, _broken, _broken, _impossible, _impossible, _bomb)


# -- calls ------------------------------------------------------------------------------------------------------------------


def request(rng: random.Random, kind: Descriptor) -> bytes:
    """Random bytes, or a message of ``kind`` with something in each field, whole or damaged."""
    if rng.random() < 0.25:
        return rng.randbytes(rng.choice((0, 1, 30, 4000)))
    data = filled(rng, kind).SerializeToString()
    return damaged(rng, [data]) if data and rng.random() < 0.3 else data


def filled(rng: random.Random, kind: Descriptor, depth: int = 0) -> Message:
    message = GetMessageClass(kind)()
    for field in kind.fields:
        if rng.random() < 0.3 or depth > 3:
            continue
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            getattr(message, field.name)[_value(rng, field.message_type.fields_by_name["key"])] = "x"
        elif field.message_type is not None:
            values = [filled(rng, field.message_type, depth + 1) for _ in range(rng.randint(1, 3))]
            if field.is_repeated:
                getattr(message, field.name).extend(values)
            else:
                getattr(message, field.name).CopyFrom(values[0])
        elif field.is_repeated:
            getattr(message, field.name).extend(_value(rng, field) for _ in range(rng.randint(1, 3)))
        else:
            setattr(message, field.name, _value(rng, field))
    return message


_WORDS = ("", "a", "cam-nobody", "\0", "x" * 5000, "../../etc/passwd", "'; drop table devices; --", "sha256:" + "0" * 64,
          "sha256:zz", "\u202e\U0001f4a3", "default", "signs", "a: [", "-1", "2026-01-01", "{}")  # fmt: skip
_SIGNED = {FieldDescriptor.CPPTYPE_INT32: 32, FieldDescriptor.CPPTYPE_INT64: 64}
_UNSIGNED = {FieldDescriptor.CPPTYPE_UINT32: 32, FieldDescriptor.CPPTYPE_UINT64: 64}


def _value(rng: random.Random, field: FieldDescriptor) -> object:
    if field.type == FieldDescriptor.TYPE_BYTES:
        return rng.randbytes(rng.choice((0, 1, 100, 5000)))
    if field.type == FieldDescriptor.TYPE_STRING:
        return rng.choice(_WORDS)
    if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        return rng.random() < 0.5
    if field.cpp_type == FieldDescriptor.CPPTYPE_ENUM:
        return rng.choice((0, 1, 2, 77, -1))
    if field.cpp_type in (FieldDescriptor.CPPTYPE_DOUBLE, FieldDescriptor.CPPTYPE_FLOAT):
        return rng.choice((0.0, -1.0, 0.5, 1e308 if field.cpp_type == FieldDescriptor.CPPTYPE_DOUBLE else 3e38, float("nan")))
    if bits := _SIGNED.get(field.cpp_type):
        return rng.choice((0, 1, -1, 1000, 2 ** (bits - 1) - 1, -(2 ** (bits - 1))))
    return rng.choice((0, 1, 1000, 2 ** _UNSIGNED[field.cpp_type] - 1))
