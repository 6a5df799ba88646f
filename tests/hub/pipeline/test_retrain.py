"""One real training, from pictures to files that run in the devices' runtimes; every test looks at the same one."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from cloud_hub.core.model import TrainingStep
from cloud_hub.pipeline import classes, gate
from cloud_hub.pipeline import task as tasks
from cloud_hub.pipeline.data import Splits
from cloud_hub.pipeline.export import Artifact
from cloud_hub.pipeline.gate import Champion
from cloud_hub.pipeline.progress import STAGES
from cloud_hub.pipeline.publish import Package
from cloud_hub.pipeline.retrain import Published, Rejected, retrain
from cloud_hub.pipeline.verify import Verified, run
from edge_agent.infer.canary import try_model
from edge_agent.infer.model import Model
from edge_agent.infer.runtimes import available, load
from protos.contract import codec
from protos.contract.ids import digest_of
from protos.contract.inputs import Layout
from protos.contract.manifest import MIN_CHUNK_BYTES, Chunks, Format, Manifest, Precision
from tests.hub.pipeline.parts import LABELS, digits, small_spec

SPEC = small_spec()
TASK = tasks.make(SPEC)
ONNX = tasks.make(replace(SPEC, targets=("onnx-int8",)))

pytestmark = pytest.mark.timeout(400)  # the first test pays for the training


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    result: Published
    splits: Splits
    folder: Path
    reserved: list[int]
    told: list[tuple[str, float, str]]
    steps: list[TrainingStep | None]

    @property
    def package(self) -> Package:
        return self.result.package

    def manifest(self, target: str) -> Manifest:
        variant = next(v for v in self.package.variants if v.target == target)
        return codec.decode_manifest(self.package.blobs[variant.manifest_digest])

    def champion(self, target: str = "onnx-int8", version: int = 6) -> Champion:
        manifest = self.manifest(target)
        return Champion(version=version, target=target, manifest=manifest, model=self.package.blobs[manifest.artifact.digest])


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trained]:
    folder = tmp_path_factory.mktemp("job")
    reserved: list[int] = []
    told: list[tuple[str, float, str]] = []
    steps: list[TrainingStep | None] = []
    samples = digits(1000)

    def reserve() -> int:
        reserved.append(7)
        return 7

    def tell(stage: str, fraction: float, line: str, step: TrainingStep | None = None) -> None:
        told.append((stage, fraction, line))
        steps.append(step)

    result = retrain(SPEC, LABELS, samples, folder=folder, reserve=reserve, progress=tell)
    assert isinstance(result, Published), result.reason
    yield Trained(result=result, splits=TASK.load(LABELS, samples), folder=folder, reserved=reserved, told=told, steps=steps)


TARGETS = [("onnx-int8", "onnx"), ("tflite-int8", "tflite"), ("tflite-int8", "tflite-legacy")]


@pytest.mark.parametrize(("target", "runtime"), TARGETS)
def test_a_published_file_answers_right_in_the_devices_runtime(trained: Trained, target: str, runtime: str) -> None:
    assert runtime in available()
    manifest = trained.manifest(target)
    loaded = load(manifest.format, trained.package.blobs[manifest.artifact.digest], 1, runtime)
    classifier = Model(manifest, loaded)
    test = trained.splits.test
    right = [classifier.predict(pixels).label == label for pixels, label in zip(test.contents, test.targets, strict=True)]
    assert np.mean(right) >= SPEC.gate.bound


@pytest.mark.parametrize(("target", "runtime"), TARGETS)
def test_a_published_file_passes_the_devices_own_trial(trained: Trained, target: str, runtime: str, tmp_path: Path) -> None:
    variant = next(v for v in trained.package.variants if v.target == target)
    blobs = trained.package.blobs
    for name, digest in (
        ("manifest", variant.manifest_digest),
        ("model", variant.artifact_digest),
        ("golden", variant.golden_digest),
    ):
        (tmp_path / name).write_bytes(blobs[digest])
    result = try_model(tmp_path / "manifest", tmp_path / "model", tmp_path / "golden", 60.0, runtime=runtime)
    assert result.error <= 1


def test_a_version_is_whole_and_says_what_it_is(trained: Trained) -> None:
    package = trained.package
    assert (package.name, package.version, trained.reserved) == ("digits", 7, [7])
    assert [variant.target for variant in package.variants] == list(SPEC.targets)
    assert all(digest_of(data) == digest for digest, data in package.blobs.items())
    for variant in package.variants:
        manifest = codec.decode_manifest(package.blobs[variant.manifest_digest])
        assert (manifest.name, manifest.version, manifest.precision) == ("digits", 7, Precision.INT8)
        assert manifest.artifact.digest == variant.artifact_digest
        assert manifest.chunks == Chunks.of(package.blobs[variant.artifact_digest], MIN_CHUNK_BYTES)
        assert manifest.output.labels == LABELS == package.baseline.labels
        assert len(package.blobs[variant.manifest_digest]) == variant.manifest_size_bytes
        assert variant.latency_p50_ms > 0
        assert variant.output_error < SPEC.gate.max_output_error
    assert trained.manifest("onnx-int8").input.layout is Layout.NCHW
    assert trained.manifest("tflite-int8").format is Format.TFLITE


def test_int8_is_a_third_of_the_size_and_hardly_worse(trained: Trained) -> None:
    variants = trained.result.report["variants"]
    assert isinstance(variants, dict)
    for name in ("onnx", "tflite"):
        small, full = variants[f"{name}-int8"], variants[f"{name}-fp32"]
        assert small["size_bytes"] < 0.45 * full["size_bytes"]
        assert small["accuracy"] > full["accuracy"] - SPEC.gate.max_drop
        assert full["output_error"] < 1e-4 < small["output_error"]


def test_no_path_of_this_machine_is_in_a_published_file(trained: Trained) -> None:
    for data_ in trained.package.blobs.values():
        assert str(trained.folder).encode() not in data_
        assert b"/cloud_hub/" not in data_


def test_the_report_says_where_the_version_came_from(trained: Trained) -> None:
    report = json.loads(json.dumps(trained.result.report))
    assert report["data"]["given"] == 1000
    assert report["data"]["fingerprint"] == trained.splits.fingerprint
    assert report["data"]["splits"]["test"] == len(trained.splits.test)
    assert report["teacher"]["parameters"] > report["student"]["parameters"]
    assert set(report["student"]["test"]["by_group"]) == {"camera-0", "camera-1"}
    assert set(report["test"]["onnx-int8"]["by_class"]) == set(LABELS)
    assert set(report["stages_s"]) == set(STAGES)
    assert report["made_with"]["torch"]
    assert "dataset: digits" in report["spec"]


def test_progress_only_grows_and_ends_near_one(trained: Trained) -> None:
    fractions = [fraction for _, fraction, _ in trained.told]
    assert fractions == sorted(fractions)
    assert 0.99 < fractions[-1] <= 1
    assert list(dict.fromkeys(stage for stage, _, _ in trained.told)) == list(STAGES)
    assert any("epoch 1/6" in line and "left" in line for _, _, line in trained.told)
    steps = [step for step in trained.steps if step is not None]
    assert steps and all(1 <= step.epoch <= step.epochs and 1 <= step.step <= step.steps for step in steps)


def test_the_baseline_is_what_the_published_files_say_on_validation(trained: Trained) -> None:
    baseline = trained.package.baseline
    assert sum(baseline.label_share) == pytest.approx(1)
    assert sum(baseline.confidence_share) == pytest.approx(1)
    assert baseline.samples == len(trained.splits.val)
    manifest = trained.manifest("onnx-int8")
    loaded = load(manifest.format, trained.package.blobs[manifest.artifact.digest])
    logits = run(loaded, trained.splits.val.contents, manifest.input)
    confidence = classes.probabilities(logits, manifest.output.temperature).max(1)
    assert confidence.mean() == pytest.approx(baseline.confidence_mean, abs=0.02)
    flagged = (confidence < manifest.output.min_confidence).mean()
    assert 0.02 < flagged < 0.1


def _verified(trained: Trained, target: str = "onnx-int8") -> Verified:
    """The real file with its real outputs."""
    manifest = trained.manifest(target)
    model = trained.package.blobs[manifest.artifact.digest]
    outputs = run(load(manifest.format, model), trained.splits.test.contents, manifest.input)
    score = TASK.score(outputs, trained.splits.test, trained.splits)
    layout = Layout.NCHW if target.startswith("onnx") else Layout.NHWC
    return Verified(
        artifact=Artifact(target=target, format=manifest.format, precision=manifest.precision, layout=layout, data=model),
        input=manifest.input,
        score=score,
        outputs=outputs,
        val_outputs=outputs,
        output_error=0.01,
        golden=codec.decode_golden(trained.package.blobs[manifest.golden.blob.digest]),
        tolerance=manifest.golden.tolerance,
        latency_p50_ms=0.1,
        runtimes={},
    )


@pytest.mark.parametrize(("when_unsure", "passes"), [("keep", False), ("promote", True)])
def test_a_model_that_equals_the_champion_costs_an_update_only_where_that_is_asked_for(
    trained: Trained, when_unsure: str, passes: bool
) -> None:
    item, spec = _verified(trained), ONNX.spec
    task = ONNX.under(replace(spec, gate=replace(spec.gate, when_unsure=when_unsure)))
    decision = gate.decide(task, [item], item.score, trained.champion(), trained.splits)
    assert [kept.artifact.target for kept in decision.kept] == ["onnx-int8"]
    assert (decision.reason == "") is passes
    assert decision.compared is not None
    assert decision.compared.theirs == item.score.value


def test_a_champion_that_does_not_know_a_class_gets_it_wrong(trained: Trained) -> None:
    champion, splits = trained.champion(), trained.splits
    fewer = tuple("other" if label == "3" else label for label in LABELS)
    manifest = replace(champion.manifest, output=replace(champion.manifest.output, labels=fewer))
    champions = (champion, replace(champion, manifest=manifest))
    whole, less = (TASK.value(gate.champion_outputs(TASK, one, splits), splits.test, splits) for one in champions)
    share = (splits.test.targets == 3).mean()
    assert whole - less == pytest.approx(share, abs=share / 4)


@pytest.mark.parametrize(("when_unsure", "reason"), [("keep", "version 6 could not be compared"), ("promote", "")])
def test_a_champion_that_cannot_be_run_gives_way_only_where_that_is_asked_for(
    trained: Trained, when_unsure: str, reason: str
) -> None:
    item = _verified(trained)
    task = ONNX.under(replace(ONNX.spec, gate=replace(ONNX.spec.gate, when_unsure=when_unsure)))
    broken = replace(trained.champion(), model=b"not a model")
    decision = gate.decide(task, [item], item.score, broken, trained.splits)
    assert reason in decision.reason and bool(decision.reason) is bool(reason)
    assert "could not be compared" in decision.refused["champion"], "it is told either way"


def test_a_refused_version_takes_no_number_and_a_job_given_its_folder_again_repeats_no_epoch(trained: Trained) -> None:
    told: list[str] = []

    def reserve() -> int:
        raise AssertionError("a refused version must not take a number")

    strict = replace(SPEC, targets=("onnx-int8",), gate=replace(SPEC.gate, min_gain=0.5))
    result = retrain(
        strict,
        LABELS,
        digits(1000),
        folder=trained.folder,
        reserve=reserve,
        champion=trained.champion(),
        progress=lambda stage, fraction, line, step=None: told.append(line),
    )
    assert isinstance(result, Rejected)
    assert "does not reach the champion" in result.reason
    champion = result.report["champion"]
    assert isinstance(champion, dict)
    assert (champion["version"], champion["accuracy"]) == (6, pytest.approx(0.9, abs=0.1))
    assert champion["verdict"] == result.reason
    assert not any(line.startswith("epoch") for line in told)
    assert any(line.startswith("champion version 6 (onnx-int8)") for line in told)
