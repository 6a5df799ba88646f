"""Models flow out: what the agent makes of good and of bad ones."""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edge_agent.infer import golden
from edge_agent.infer.runtimes import load
from protos.contract import topics
from protos.contract.ids import digest_of
from protos.contract.manifest import Format
from protos.contract.twin import ModelAssignment, ReportedTwin
from protos.contract.update import FINAL, UpdateState
from tests.agent import models
from tests.agent.infer import traps
from tests.conformance.agent import Agent
from tests.conformance.hub import Hub


def finished(hub: Hub, device: str, generation: int) -> ReportedTwin:
    """The twin that reports the end of a generation."""

    def done() -> bool:
        twin = hub.devices[device].twin
        return twin is not None and twin.generation == generation and twin.update is not None and twin.update.state in FINAL

    hub.wait(done, f"the end of generation {generation}")
    twin = hub.devices[device].twin
    assert twin is not None
    return twin


def goes_on_inferring(hub: Hub, device: str, model: ModelAssignment) -> None:
    """New telemetry comes, of ``model``."""
    seen = len(hub.devices[device].batches)

    def more() -> bool:
        return any(model.manifest_digest in batch.inferences.models for batch in hub.devices[device].batches[seen + 1 :])

    hub.wait(more, f"telemetry of {model.name}:{model.version}")


def commit_first(hub: Hub, agent: Agent, device: str) -> ModelAssignment:
    """Start with an identity, and have version 1 committed."""
    hub.identity(device, agent.data_dir)
    agent.start()
    first = hub.publish_model(models.files())
    assert finished(hub, device, hub.desire(device, first)).model == first
    return first


def test_a_desired_model_is_downloaded_activated_and_reported_committed(hub: Hub, agent: Agent) -> None:
    first = commit_first(hub, agent, "good")
    twin = hub.devices["good"].twin
    assert twin is not None and twin.update is not None
    assert (twin.update.state, twin.update.reason, twin.update.rollout_id) == (UpdateState.COMMITTED, "", "r1")
    assert twin.board == "camera-x86" and "onnx" in twin.runtimes and twin.health.rss_bytes > 1 << 20
    goes_on_inferring(hub, "good", first)

    second = hub.publish_model(models.files(Format.TFLITE, seed=5, version=2))
    assert finished(hub, "good", hub.desire("good", second)).model == second
    goes_on_inferring(hub, "good", second)
    kinds = {event.kind for batch in hub.devices["good"].batches for event in batch.events}
    assert "update.committed" in kinds

    agent.kill()
    downloads = len(hub.downloads)
    agent.start()
    goes_on_inferring(hub, "good", second)
    assert len(hub.downloads) == downloads, "the retained twin is not acted upon twice"


@pytest.fixture(scope="module")
def equipped(hub: Hub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Agent, ModelAssignment]]:
    """Runs version 1, through all that follows."""
    agent = Agent(tmp_path_factory.mktemp("equipped") / "agent")
    yield agent, commit_first(hub, agent, "equipped")
    agent.close()


def corrupt_artifact(hub: Hub) -> ModelAssignment:
    files = models.files(version=2, seed=2)
    assignment = hub.publish_model(files)
    hub.blobs[digest_of(files.model)] = bytes(len(files.model))
    return assignment


def wrong_length(hub: Hub) -> ModelAssignment:
    files = models.files(version=3, seed=3)
    assignment = hub.publish_model(files)
    hub.blobs[digest_of(files.model)] = files.model + b"more"
    return assignment


def missing_golden(hub: Hub) -> ModelAssignment:
    files = models.files(version=4, seed=4)
    assignment = hub.publish_model(files)
    files = replace(files, golden_bytes=files.golden_bytes)
    del hub.blobs[digest_of(files.golden_bytes)]
    return assignment


def truncated_manifest(hub: Hub) -> ModelAssignment:
    files = models.files(version=5)
    return hub.publish_model(replace(files, manifest_bytes=files.manifest_bytes[:-40]))


def manifest_of_another_version(hub: Hub) -> ModelAssignment:
    return hub.publish_model(models.files(version=6), version=7)


def other_weights_than_golden(hub: Hub) -> ModelAssignment:
    return hub.publish_model(models.files(model=models.onnx_model(seed=99), version=8))


def nan_outputs(hub: Hub) -> ModelAssignment:
    return hub.publish_model(models.files(model=models.onnx_model(poison=True), version=9))


def truncated_tflite(hub: Hub) -> ModelAssignment:
    whole = models.tflite_model()
    return hub.publish_model(models.files(Format.TFLITE, model=whole[: len(whole) // 2], version=10))


def not_a_model(hub: Hub) -> ModelAssignment:
    return hub.publish_model(models.files(model=b"\x7fELF" * 500, version=11))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (corrupt_artifact, "damaged 3 times"),
        (wrong_length, "damaged 3 times"),
        (missing_golden, "no blob"),
        (truncated_manifest, "manifest of street:5 cannot be used"),
        (manifest_of_another_version, "street:7 was assigned, but its manifest says street:6"),
        (other_weights_than_golden, "golden outputs are off"),
        (nan_outputs, "NaN"),
        (truncated_tflite, ""),
        (not_a_model, ""),
    ],
)
def test_a_bad_model_is_reported_with_its_reason_while_the_old_one_infers(
    hub: Hub, equipped: tuple[Agent, ModelAssignment], make: Callable[[Hub], ModelAssignment], words: str
) -> None:
    agent, first = equipped
    twin = finished(hub, "equipped", hub.desire("equipped", make(hub)))
    assert twin.update is not None
    assert twin.update.state is UpdateState.FAILED
    assert twin.update.reason and words in twin.update.reason
    assert twin.model == first
    goes_on_inferring(hub, "equipped", first)
    assert agent.process is not None and agent.process.poll() is None


def blind_to_white(version: int) -> models.ModelFiles:
    """Passes its golden set, and gives NaN for frames without a dark pixel."""
    matrix, bias = models.weights(1)
    graph = helper.make_graph(
        [
            helper.make_node("Flatten", ["input"], ["flat"], axis=1),
            helper.make_node("Gemm", ["flat", "matrix", "bias"], ["logits"], transB=1),
            helper.make_node("ReduceMin", ["flat", "axes"], ["darkest"], keepdims=1),
            helper.make_node("Sub", ["zero", "darkest"], ["below"]),
            helper.make_node("Sqrt", ["below"], ["root"]),
            helper.make_node("Mul", ["root", "zero"], ["nothing"]),
            helper.make_node("Add", ["logits", "nothing"], ["output"]),
        ],
        "blind",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ("batch", 3, models.SIDE, models.SIDE))],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, ("batch", len(models.LABELS)))],
        [
            numpy_helper.from_array(matrix, "matrix"),
            numpy_helper.from_array(bias, "bias"),
            numpy_helper.from_array(np.zeros(1, np.float32), "zero"),
            numpy_helper.from_array(np.ones(1, np.int64), "axes"),
        ],
    )
    model = models.serialize(graph)
    onnx.checker.check_model(onnx.load_from_string(model))
    frames = list(np.random.default_rng(1).integers(0, 256, (6, models.SIDE, models.SIDE, 3), np.uint8))
    expected = golden.make(frames, load(Format.ONNX, model), models.SPEC)
    return models.bundle(model, Format.ONNX, expected, version=version)


def test_a_model_that_fails_on_what_the_device_sees_is_rolled_back_without_network(hub: Hub, agent: Agent) -> None:
    agent.configure(update={"probation_s": 2.0})
    first = commit_first(hub, agent, "blind")
    agent.show(np.full((8, models.SIDE, models.SIDE, 3), 255, np.uint8))
    second = hub.publish_model(blind_to_white(2))
    twin = finished(hub, "blind", hub.desire("blind", second))
    assert twin.update is not None
    assert twin.update.state is UpdateState.ROLLED_BACK
    assert "inferences failed" in twin.update.reason and "NaN" in twin.update.reason
    assert twin.model == first
    goes_on_inferring(hub, "blind", first)


def test_a_model_that_hangs_on_what_the_device_sees_is_off_the_device_within_30_s(hub: Hub, agent: Agent) -> None:
    agent.configure(update={"probation_s": 2.0})
    first = commit_first(hub, agent, "hanging")
    agent.show(np.stack([traps.WHITE] * 8))
    started = time.monotonic()
    twin = finished(hub, "hanging", hub.desire("hanging", hub.publish_model(traps.hangs_on_white(2))))
    assert time.monotonic() - started < 30
    assert twin.update is not None and twin.update.state is UpdateState.ROLLED_BACK
    assert twin.update.reason == "its worker was lost: an inference took longer than 8 s"
    assert twin.model == first
    goes_on_inferring(hub, "hanging", first)
    assert agent.process is not None and agent.process.poll() is None


def test_an_agent_killed_while_it_downloads_goes_on_where_it_was(hub: Hub, agent: Agent) -> None:
    large = onnx.load_from_string(models.onnx_model(seed=21))
    large.doc_string = "padding " * 40_000
    files = models.files(seed=21, model=large.SerializeToString())
    digest = digest_of(files.model)
    hub.hold[digest] = 200_000
    hub.identity("cut", agent.data_dir)
    agent.start()
    generation = hub.desire("cut", hub.publish_model(files))
    part = agent.data_dir / "models" / "slots" / "a" / "model.bin.part"
    agent.wait(lambda: part.exists() and part.stat().st_size >= 100_000, "the first bytes")
    agent.kill()
    with hub.heard:
        del hub.hold[digest]
        hub.heard.notify_all()
    agent.start()
    twin = finished(hub, "cut", generation)
    assert twin.update is not None and twin.update.state is UpdateState.COMMITTED
    offsets = [offset for asked, offset in hub.downloads if asked == digest]
    assert offsets[0] == 0 and offsets[-1] >= 100_000


@pytest.mark.parametrize("kind", [topics.DESIRED, topics.WATERMARK])
@pytest.mark.parametrize("payload", [b"\xff" * 40, b"\x08", b"\x12\x03abc", bytes(200_000)])
def test_messages_that_are_none_are_ignored(
    hub: Hub, equipped: tuple[Agent, ModelAssignment], kind: str, payload: bytes
) -> None:
    agent, first = equipped
    before = hub.devices["equipped"].twin
    assert before is not None
    hub.send("equipped", kind, payload)
    goes_on_inferring(hub, "equipped", first)
    after = hub.devices["equipped"].twin
    assert after is not None and after.generation == before.generation
    assert agent.process is not None and agent.process.poll() is None
