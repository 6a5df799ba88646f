"""Whatever is encoded is decoded bit by bit, and takes no more memory than it says."""

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from hypothesis import given, settings
from hypothesis import strategies as st

from cloud_hub.delta import encode, onnx_file, tflite_file
from cloud_hub.delta.encode import BrokenEncoder, Delta, NoDelta
from edge_agent.core import delta as decoder
from protos.contract.sources import Encoding
from tests.agent.models import onnx_model, tflite_model
from tests.hub.delta.parts import WIDE, network, noise, pairs, tuned, weights_of

PAIRS = pairs()


def decoded(delta: Delta, base: bytes, size: int) -> bytes:
    return b"".join(decoder.decode(delta.encoding, base, delta.data, size, delta.decode_bytes - decoder.OVERHEAD_BYTES))


@pytest.mark.parametrize("name", PAIRS)
def test_every_encoding_gives_back_the_very_bytes(name: str) -> None:
    base, target = PAIRS[name]
    candidates = encode.candidates(base, target)
    assert candidates
    for delta in candidates:
        assert decoded(delta, base, len(target)) == target


@given(
    base=st.binary(min_size=1, max_size=300),
    cuts=st.lists(st.tuples(st.integers(0, 300), st.integers(0, 300), st.binary(max_size=9)), max_size=6),
)
@settings(max_examples=150, deadline=None)
def test_any_bytes_that_were_edited_come_back(base: bytes, cuts: list[tuple[int, int, bytes]]) -> None:
    target = base * 3
    for start, length, new in cuts:
        target = target[:start] + new + target[start + length :]
    for delta in encode.candidates(base, target):
        assert decoded(delta, base, len(target)) == target


def test_models_of_the_same_network_are_encoded_by_tensor() -> None:
    for name in ("every number moved", "one layer moved", "other names", "more nodes"):
        base, target = PAIRS[name]
        by_tensor = next(each for each in encode.candidates(base, target) if each.encoding is Encoding.TENSOR)
        assert len(by_tensor.data) < 0.8 * len(target), name


def test_numbers_that_moved_a_little_are_sent_as_little() -> None:
    base, target = PAIRS["every number moved"]
    sizes = {delta.encoding: len(delta.data) for delta in encode.candidates(base, target)}
    assert sizes[Encoding.TENSOR] < 0.7 * sizes[Encoding.ZSTD_PATCH]
    assert len(encode.smallest(base, target).data) == sizes[Encoding.TENSOR]


def test_a_layer_alone_costs_a_layer_alone() -> None:
    plain = {**weights_of(0), "large": np.random.default_rng(5).integers(-128, 128, 1 << 20, np.int8)}
    base, target = network(plain), network({**plain, "conv": tuned(plain)["conv"]})
    assert len(encode.smallest(base, target).data) < plain["conv"].nbytes + 2000


@pytest.mark.parametrize("target", [noise(20_000, seed=7), b"x"], ids=["nothing in common", "tiny"])
def test_a_delta_that_saves_too_little_is_none(target: bytes) -> None:
    with pytest.raises(NoDelta, match="would be sent instead of"):
        encode.smallest(noise(20_000), target)


def test_a_delta_that_does_not_decode_is_never_handed_out(monkeypatch: pytest.MonkeyPatch) -> None:
    base, target = PAIRS["one layer moved"]
    monkeypatch.setattr(decoder, "unzigzag", lambda words: words)
    with pytest.raises(BrokenEncoder):
        encode.smallest(*PAIRS["every number moved"])
    monkeypatch.undo()
    assert decoded(encode.smallest(base, target), base, len(target)) == target


@pytest.mark.parametrize(("data", "find"), [(onnx_model(WIDE), onnx_file.tensors), (tflite_model(WIDE), tflite_file.tensors)])
def test_tensors_are_found_where_they_are(data: bytes, find: object) -> None:
    found = {tensor.name: tensor for tensor in find(data)}  # type: ignore[operator]
    matrix = found["matrix"]
    assert (matrix.length, matrix.width, matrix.is_float) == (4 * 3 * 24 * 24 * 4, 4, True)
    assert abs(np.frombuffer(data, "<f4", matrix.length // 4, matrix.start).std() - 0.05) < 0.01


def test_weights_that_stand_behind_the_tables_are_found_too() -> None:
    """As converters write large buffers: an offset and a size in the place of the bytes."""
    plain = tflite_model(WIDE)
    matrix = next(tensor for tensor in tflite_file.tensors(plain) if tensor.name == "matrix")
    model = schema.ModelT.InitFromPackedBuf(plain, 0)
    buffer = next(each for each in model.buffers if each.data is not None and len(each.data) == matrix.length)
    buffer.data, buffer.offset, buffer.size = None, 1 << 20, matrix.length
    builder = flatbuffers.Builder(4096)
    builder.Finish(model.Pack(builder), b"TFL3")
    tables = bytes(builder.Output())
    moved = tables.ljust(1 << 20, b"\0") + plain[matrix.start : matrix.start + matrix.length]
    found = next(tensor for tensor in tflite_file.tensors(moved) if tensor.name == "matrix")
    assert (found.start, found.length, found.width) == (1 << 20, matrix.length, matrix.width)


@pytest.mark.parametrize("data", [onnx_model(WIDE), tflite_model(WIDE), tflite_model(WIDE, dtype=np.int8)])
def test_damaged_files_are_read_without_harm(data: bytes) -> None:
    rng = np.random.default_rng(3)
    for _ in range(400):
        broken = bytearray(data[: rng.integers(1, len(data))])
        for at in rng.integers(0, min(len(broken), 400), 3):
            broken[at] = rng.integers(0, 256)
        for tensor in [*onnx_file.tensors(bytes(broken)), *tflite_file.tensors(bytes(broken))]:
            assert 0 <= tensor.start <= tensor.start + tensor.length <= len(broken)
            assert tensor.length % tensor.width == 0


def test_tensors_larger_than_a_block_are_cut() -> None:
    rng = np.random.default_rng(0)
    large = {"large": rng.normal(0, 1, (decoder.BLOCK_BYTES * 5 // 2) // 4).astype(np.float32)}
    base, target = network(large), network(tuned(large))
    delta = encode.smallest(base, target)
    assert delta.encoding is Encoding.TENSOR
    assert decoded(delta, base, len(target)) == target
