"""Model files by the thousand, changed and signed again: none takes the agent down, none is activated that answers wrongly.

The manifest of each names the mutant's own digest, so nothing but the jail and the golden set stands between it and the agent.
"""

import logging
import random
import re
import struct
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edge_agent.core.errors import BadModel
from edge_agent.infer import golden
from edge_agent.infer.canary import try_model
from edge_agent.infer.remote import RemoteRuntime
from edge_agent.infer.runtimes import load
from protos.contract.manifest import Format, GoldenSet
from tests.agent.infer.test_remote import children, descriptors
from tests.agent.models import LABELS, SIDE, SPEC, bundle, onnx_model, serialize, tflite_model

log = logging.getLogger(__name__)

FEW, MANY = 20, 334  # of each base; six bases make 120 and 2,004
TRIAL_S = 10.0
SIZES = (0xFFFFFFFF, 0x7FFFFFFF, 0x80000000, 0x3FFFFFFF, 0xFFFF, 0)  # what a length or an offset may be set to


def conv_model() -> bytes:
    """Convolution, pooling and a layer on top, as a real network has them."""
    rng = np.random.default_rng(4)
    parts: dict[str, NDArray[np.float32]] = {
        "kernel": rng.normal(0, 0.2, (8, 3, 3, 3)).astype(np.float32),
        "matrix": rng.normal(0, 1, (len(LABELS), 8)).astype(np.float32),
        "bias": rng.normal(0, 0.1, len(LABELS)).astype(np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["input", "kernel"], ["features"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["features"], ["active"]),
        helper.make_node("GlobalAveragePool", ["active"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"], axis=1),
        helper.make_node("Gemm", ["flat", "matrix", "bias"], ["output"], transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "conv",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ("batch", 3, SIDE, SIDE))],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, ("batch", len(LABELS)))],
        [numpy_helper.from_array(value, name) for name, value in parts.items()],
    )
    return serialize(graph)


@dataclass(frozen=True, kw_only=True)
class Base:
    format: Format
    runtime: str
    model: Callable[[], bytes]
    tolerance: float = 1e-4

    def golden(self) -> GoldenSet:
        frames = np.random.default_rng(1).integers(0, 256, (6, SIDE, SIDE, 3), np.uint8)
        return golden.make(list(frames), load(self.format, self.model(), runtime=self.runtime), SPEC)


INT8_STEP = 16 / 255
BASES = {
    "onnx, linear": Base(format=Format.ONNX, runtime="onnx", model=onnx_model),
    "onnx, conv": Base(format=Format.ONNX, runtime="onnx", model=conv_model),
    "litert, float": Base(format=Format.TFLITE, runtime="tflite", model=tflite_model),
    "litert, int8": Base(
        format=Format.TFLITE, runtime="tflite", model=lambda: tflite_model(dtype=np.int8), tolerance=1.5 * INT8_STEP
    ),
    "tflite-runtime, float": Base(format=Format.TFLITE, runtime="tflite-legacy", model=tflite_model),
    "tflite-runtime, int8": Base(
        format=Format.TFLITE, runtime="tflite-legacy", model=lambda: tflite_model(dtype=np.int8), tolerance=1.5 * INT8_STEP
    ),
}


def flip(data: bytearray, rng: random.Random) -> None:
    for _ in range(rng.choice((1, 1, 2, 8, 60))):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def overwrite(data: bytearray, rng: random.Random) -> None:
    for _ in range(rng.choice((1, 4, 32))):
        data[rng.randrange(len(data))] = rng.randrange(256)


def truncate(data: bytearray, rng: random.Random) -> None:
    del data[rng.randrange(len(data)) :]


def splice(data: bytearray, rng: random.Random) -> None:
    """A piece of it where another one was, in its place or beside it."""
    length = rng.randrange(1, 200)
    start, to = rng.randrange(len(data)), rng.randrange(len(data))
    data[to : to + rng.choice((0, length))] = data[start : start + length]


def cut_out(data: bytearray, rng: random.Random) -> None:
    start = rng.randrange(len(data))
    del data[start : start + rng.randrange(1, 200)]


def zero(data: bytearray, rng: random.Random) -> None:
    start = rng.randrange(len(data))
    end = min(len(data), start + rng.randrange(1, 300))
    data[start:end] = bytes(end - start)


def inflate(data: bytearray, rng: random.Random) -> None:
    """A huge or absurd size where the structure is: near the ends, or anywhere."""
    at = rng.choice(
        (rng.randrange(len(data)), rng.randrange(min(400, len(data))), len(data) - rng.randrange(1, min(400, len(data))))
    )
    size = rng.choice(SIZES)
    if rng.random() < 0.5:
        data[at - at % 4 : at - at % 4 + 4] = struct.pack("<I", size)
    else:
        data[at : at + rng.choice((0, 1, 2))] = varint(size)


def varint(number: int) -> bytes:
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


MUTATIONS = (flip, overwrite, truncate, splice, cut_out, zero, inflate)


def mutants(honest: bytes, count: int, seed: str) -> list[bytes]:
    """``count`` of them, all different from ``honest``."""
    rng = random.Random(seed)
    made: list[bytes] = []
    while len(made) < count:
        data = bytearray(honest)
        for mutation in rng.sample(MUTATIONS, rng.choice((1, 1, 1, 2, 3))):
            if data:
                mutation(data, rng)
        if data != honest:
            made.append(bytes(data))
    return made


REASONS = (
    (r"signal (\d+)", "worker died"),
    (r"forbidden system call", "worker broke the rules of its jail"),
    (r"took longer", "took too long"),
    (r"golden outputs are off", "wrong answers"),
    (r"NaN", "NaN"),
    (r"ended with status", "worker ended"),
)


@dataclass
class Tally:
    outcomes: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    def of(self, reason: str) -> None:
        for words, name in REASONS:
            if found := re.search(words, reason):
                self.outcomes[f"{name} of signal {found[1]}" if found.groups() else name] += 1
                return
        self.outcomes["refused by the runtime"] += 1


def try_all(base: Base, count: int, seed: str, folder: Path) -> Tally:
    """Each through the canary, and what passes through a worker of its own, as an activation does."""
    tally, expected = Tally(), base.golden()
    for number, data in enumerate(mutants(base.model(), count, seed)):
        files = bundle(data, base.format, expected, tolerance=base.tolerance)
        paths = files.write(folder)
        try:
            try_model(*paths, TRIAL_S, runtime=base.runtime)
        except BadModel as error:
            tally.of(str(error))
            continue
        runtime = RemoteRuntime(files.manifest, paths[1], runtime=base.runtime)
        try:
            golden.check(runtime, files.manifest, expected)
            tally.outcomes["harmless: the golden answers, twice"] += 1
        except BadModel as error:
            tally.wrong.append(f"mutant {number} of {seed}: {error}")
        finally:
            runtime.close()
    return tally


def run(name: str, count: int, folder: Path) -> None:
    before = threading.active_count(), descriptors()
    tally = try_all(BASES[name], count, name, folder)
    log.warning("%s: %d mutants: %s", name, count, dict(tally.outcomes.most_common()))
    assert tally.wrong == [], "activated, and answers wrongly"
    assert sum(tally.outcomes.values()) == count
    assert len(tally.outcomes) > 1, "mutations that all do the same prove little"
    assert children() == []
    threads, files = threading.active_count(), descriptors()
    assert threads <= before[0] and files <= before[1]  # fewer: what a test before this one left behind is gone by now


@pytest.mark.parametrize("name", BASES)
def test_of_some_mutants_none_ends_the_agent_and_none_is_activated_that_answers_wrongly(name: str, tmp_path: Path) -> None:
    run(name, FEW, tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", BASES)
def test_of_two_thousand_mutants_none_ends_the_agent_and_none_is_activated_that_answers_wrongly(
    name: str, tmp_path: Path
) -> None:
    run(name, MANY, tmp_path)
