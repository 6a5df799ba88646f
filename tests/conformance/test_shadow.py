"""Challengers on a real agent: compared, reported, captured, and never in the way of the model that runs."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from edge_agent.infer import golden
from edge_agent.infer.runtimes import load
from protos.contract.ids import digest_of
from protos.contract.manifest import Format
from protos.contract.twin import ModelAssignment, ReportedTwin, ShadowReport
from protos.contract.update import UpdateState
from tests.agent import models
from tests.agent.infer import traps
from tests.agent.models import ModelFiles
from tests.conformance.agent import Agent
from tests.conformance.hub import Hub
from tests.conformance.test_updates import finished, goes_on_inferring


def sure(label: int, version: int) -> ModelFiles:
    """Sees ``label`` in everything, without a doubt."""
    graph = onnx.load_from_string(models.onnx_model())
    for tensor in graph.graph.initializer:
        values = np.zeros_like(numpy_helper.to_array(tensor))
        if tensor.name == "bias":
            values[label] = 9.0
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    model = graph.SerializeToString()
    frames = list(np.random.default_rng(1).integers(0, 256, (6, models.SIDE, models.SIDE, 3), np.uint8))
    return models.bundle(model, Format.ONNX, golden.make(frames, load(Format.ONNX, model), models.SPEC), version=version)


def champion(hub: Hub, agent: Agent, device: str) -> ModelAssignment:
    hub.identity(device, agent.data_dir)
    agent.start()
    first = hub.publish_model(sure(1, 1))
    assert finished(hub, device, hub.desire(device, first)).model == first
    return first


def told(hub: Hub, device: str, that: Callable[[ShadowReport], object], what: str) -> ShadowReport:
    """The first report of the challenger of which ``that`` holds."""

    def newest() -> ReportedTwin | None:
        return hub.devices[device].twin

    def done() -> bool:
        twin = newest()
        return twin is not None and twin.shadow is not None and bool(that(twin.shadow))

    hub.wait(done, what)
    twin = newest()
    assert twin is not None and twin.shadow is not None
    return twin.shadow


def workers(agent: Agent) -> dict[int, bool]:
    """Processes that run a model, each with whether it is a spare one."""
    assert agent.process is not None
    found = {}
    for task in Path(f"/proc/{agent.process.pid}/task").iterdir():
        for pid in map(int, (task / "children").read_text().split()):
            try:
                command = Path(f"/proc/{pid}/cmdline").read_bytes()
            except OSError:
                continue
            if b"edge_agent.infer.worker" in command:
                found[pid] = command.endswith(b"spare\0")
    return found


def spare(agent: Agent) -> list[int]:
    return [pid for pid, is_spare in workers(agent).items() if is_spare]


def test_a_challenger_is_compared_reported_and_captured_and_decides_nothing(hub: Hub, agent: Agent) -> None:
    first, second = champion(hub, agent, "shadow"), sure(2, 2)
    rival = hub.publish_model(second)
    generation = hub.challenge("shadow", first, rival, share=1.0, max_share_of_time=1.0)
    report = told(hub, "shadow", lambda it: it.frames >= 20, "20 compared frames")
    assert (report.model, report.agreed, report.errors, report.problem) == (rival, 0, 0, "")
    assert report.champion_confidence > 0.99 and report.challenger_confidence > 0.99
    assert 0 < report.challenger_p50_ms <= report.challenger_p95_ms and report.champion_p95_ms > 0
    assert report.fit is not None and report.fit.error <= 1 and report.fit.peak_bytes > 20 << 20
    hub.wait(lambda: len(hub.devices["shadow"].uploads) >= 3, "disagreements")
    upload = hub.devices["shadow"].uploads[0]
    assert (upload.reason, upload.predicted, upload.model_manifest) == ("disagreement", "car", first.manifest_digest)
    twin = hub.devices["shadow"].twin
    assert twin is not None and twin.update is not None and (twin.model, twin.generation) == (first, generation)
    assert (twin.update.state, twin.update.model) == (UpdateState.COMMITTED, first)
    assert {model for batch in hub.devices["shadow"].batches for model in batch.inferences.models} == {first.manifest_digest}
    (worker,) = spare(agent)
    assert os.getpriority(os.PRIO_PROCESS, worker) > 0 and Path(f"/proc/{worker}/oom_score_adj").read_text() == "900\n"
    agent.wait(lambda: (agent.status().get("challenger") or {}).get("frames", 0) >= 20, "the status file")

    hub.challenge("shadow", first, None)
    hub.wait(lambda: (it := hub.devices["shadow"].twin) is not None and it.shadow is None, "the end of the challenger")
    agent.wait(lambda: spare(agent) == [] and len(workers(agent)) == 1, "the end of its worker")
    assert list((agent.data_dir / "models" / "slots" / "c").iterdir()) == []
    goes_on_inferring(hub, "shadow", first)


def test_a_challenger_goes_on_where_it_was_after_a_restart(hub: Hub, agent: Agent) -> None:
    first, rival = champion(hub, agent, "shadow-again"), hub.publish_model(sure(1, 2))
    hub.challenge("shadow-again", first, rival, share=1.0, max_share_of_time=1.0)
    before = told(hub, "shadow-again", lambda it: it.frames >= 20, "20 compared frames")
    assert before.agreed == before.frames
    assert agent.stop() == 0
    downloads, since = len(hub.downloads), before.since
    agent.start()
    after = told(hub, "shadow-again", lambda it: it.frames > before.frames + 20, "more frames than before")
    assert after.since == since and len(hub.downloads) == downloads
    agent.kill()
    agent.start()
    agent.wait(lambda: len(spare(agent)) == 1, "the challenger after a power cut")
    assert len(hub.downloads) == downloads


def test_a_challenger_that_loses_its_workers_is_stopped_and_the_champion_does_not_notice(hub: Hub, agent: Agent) -> None:
    first, rival = champion(hub, agent, "shadow-lost"), hub.publish_model(sure(1, 2))
    hub.challenge("shadow-lost", first, rival, share=1.0, max_share_of_time=1.0)
    told(hub, "shadow-lost", lambda it: it.frames >= 5, "5 compared frames")
    seen = hub.devices["shadow-lost"].twin
    assert seen is not None
    for _ in range(3):
        agent.wait(lambda: spare(agent) != [], "a worker of the challenger")
        (worker,) = spare(agent)
        os.kill(worker, signal.SIGSEGV)
        agent.wait(lambda worker=worker: worker not in workers(agent), "its end")
    report = told(hub, "shadow-lost", lambda it: it.problem, "its problem")
    assert report.problem == "its worker was lost 3 times: the runtime died with signal 11 (SIGSEGV)"
    goes_on_inferring(hub, "shadow-lost", first)
    twin = hub.devices["shadow-lost"].twin
    assert twin is not None and twin.model == first and twin.health.inference_errors == seen.health.inference_errors == 0
    assert agent.status()["workers_lost"] == 0 and spare(agent) == []


def test_a_challenger_that_hangs_holds_nothing_up(hub: Hub, agent: Agent) -> None:
    first = champion(hub, agent, "shadow-hangs")
    agent.show(np.stack([traps.WHITE] * 8))
    hub.challenge("shadow-hangs", first, hub.publish_model(traps.hangs_on_white(2)), share=1.0, max_share_of_time=1.0)
    report = told(hub, "shadow-hangs", lambda it: it.errors > 0, "an inference that hung")
    assert report.skipped > 10, "frames that came meanwhile"
    goes_on_inferring(hub, "shadow-hangs", first)
    twin = hub.devices["shadow-hangs"].twin
    assert twin is not None and twin.health.inference_errors == 0


def test_a_challenger_that_answers_otherwise_than_verified_never_sees_a_frame(hub: Hub, agent: Agent) -> None:
    first = champion(hub, agent, "shadow-off")
    rival = hub.publish_model(models.files(model=models.onnx_model(seed=99), version=8))
    hub.challenge("shadow-off", first, rival, share=1.0)
    report = told(hub, "shadow-off", lambda it: it.problem, "its problem")
    assert "golden outputs are off" in report.problem and report.frames == 0
    assert report.fit is not None and report.fit.error > 1
    goes_on_inferring(hub, "shadow-off", first)


def test_a_challenger_that_the_director_does_not_name_is_not_fetched(hub: Hub, agent: Agent) -> None:
    """Whoever holds the broker can ask for it, and no more."""
    first, files = champion(hub, agent, "shadow-forged"), sure(3, 2)
    rival = hub.publish_model(files)
    running = hub.answers("shadow-forged").release
    assert running is not None
    repository = hub.answers("shadow-forged").repository
    hub.answers("shadow-forged").sign = lambda ask, _: repository.director.answer(ask, running.targets)
    hub.challenge("shadow-forged", first, rival, share=1.0)
    report = told(hub, "shadow-forged", lambda it: it.problem, "a refusal")
    assert report.problem.startswith("UnknownTarget: the director names 0 files of street:2")
    assert digest_of(files.model) not in {digest for digest, _ in hub.downloads}
    goes_on_inferring(hub, "shadow-forged", first)
    hub.answers("shadow-forged").honest()
    told(hub, "shadow-forged", lambda it: it.frames > 0, "an honest word")


def test_another_variant_of_the_version_that_runs_can_be_its_challenger(hub: Hub, agent: Agent) -> None:
    hub.identity("shadow-variant", agent.data_dir)
    agent.start()
    onnx_files, lite_files = models.files(), models.files(Format.TFLITE)
    first = hub.publish_model(onnx_files)
    assert finished(hub, "shadow-variant", hub.desire("shadow-variant", first)).model == first
    hub.put(lite_files)
    rival = hub.repository.release(lite_files, variant="tflite-fp32").assignment
    hub.challenge("shadow-variant", first, rival, share=1.0, max_share_of_time=1.0)
    report = told(hub, "shadow-variant", lambda it: it.frames >= 20, "20 compared frames")
    assert report.agreed == report.frames and report.fit is not None
