"""One real training, from pictures to files that run in the devices' runtimes; every test looks at the same one."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from cloud_hub.core.spec import GateSpec
from cloud_hub.pipeline import data, evaluate, gate
from cloud_hub.pipeline.data import Splits
from cloud_hub.pipeline.export import Artifact
from cloud_hub.pipeline.gate import Champion
from cloud_hub.pipeline.progress import STAGES
from cloud_hub.pipeline.publish import Package
from cloud_hub.pipeline.retrain import Published, Rejected, retrain
from cloud_hub.pipeline.verify import RuntimeCheck, Verified, run
from edge_agent.core.model import Frame
from edge_agent.infer.canary import try_model
from edge_agent.infer.classifier import Classifier
from edge_agent.infer.runtimes import available, load
from protos.contract import codec
from protos.contract.ids import digest_of
from protos.contract.manifest import MIN_CHUNK_BYTES, Chunks, Format, Layout, Manifest, Precision
from tests.hub.pipeline.parts import LABELS, digits, small_spec

SPEC = small_spec()

pytestmark = pytest.mark.timeout(400)  # the first test pays for the training


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    result: Published
    splits: Splits
    folder: Path
    reserved: list[int]
    told: list[tuple[str, float, str]]

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
    samples = digits(1000)

    def reserve() -> int:
        reserved.append(7)
        return 7

    def tell(stage: str, fraction: float, line: str) -> None:
        told.append((stage, fraction, line))

    result = retrain(SPEC, LABELS, samples, folder=folder, reserve=reserve, progress=tell)
    assert isinstance(result, Published), result.reason
    yield Trained(result=result, splits=data.load(SPEC, LABELS, samples), folder=folder, reserved=reserved, told=told)


TARGETS = [("onnx-int8", "onnx"), ("tflite-int8", "tflite"), ("tflite-int8", "tflite-legacy")]


@pytest.mark.parametrize(("target", "runtime"), TARGETS)
def test_a_published_file_answers_right_in_the_devices_runtime(trained: Trained, target: str, runtime: str) -> None:
    assert runtime in available()
    manifest = trained.manifest(target)
    loaded = load(manifest.format, trained.package.blobs[manifest.artifact.digest], 1, runtime)
    classifier = Classifier(manifest, loaded)
    test = trained.splits.test
    right = [
        classifier.predict(Frame(pixels=pixels, captured_at=datetime.now(UTC), source="s")).label == label
        for pixels, label in zip(test.frames, test.labels, strict=True)
    ]
    assert np.mean(right) >= SPEC.gate.min_accuracy


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
        assert manifest.classification.labels == LABELS == package.baseline.labels
        assert len(package.blobs[variant.manifest_digest]) == variant.manifest_size_bytes
        assert variant.latency_p50_ms > 0
        assert variant.output_error < SPEC.gate.max_output_error
    assert trained.manifest("onnx-int8").preprocess.layout is Layout.NCHW
    assert trained.manifest("tflite-int8").format is Format.TFLITE


def test_int8_is_a_third_of_the_size_and_hardly_worse(trained: Trained) -> None:
    variants = trained.result.report["variants"]
    assert isinstance(variants, dict)
    for name in ("onnx", "tflite"):
        small, full = variants[f"{name}-int8"], variants[f"{name}-fp32"]
        assert small["size_bytes"] < 0.45 * full["size_bytes"]
        assert small["accuracy"] > full["accuracy"] - SPEC.gate.max_accuracy_drop
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


def test_the_baseline_is_what_the_published_files_say_on_validation(trained: Trained) -> None:
    baseline = trained.package.baseline
    assert sum(baseline.label_share) == pytest.approx(1)
    assert sum(baseline.confidence_share) == pytest.approx(1)
    assert baseline.samples == len(trained.splits.val)
    manifest = trained.manifest("onnx-int8")
    loaded = load(manifest.format, trained.package.blobs[manifest.artifact.digest])
    logits = run(loaded, trained.splits.val.frames, manifest.preprocess)
    confidence = evaluate.probabilities(logits, manifest.classification.temperature).max(1)
    assert confidence.mean() == pytest.approx(baseline.confidence_mean, abs=0.02)
    flagged = (confidence < manifest.classification.min_confidence).mean()
    assert 0.02 < flagged < 0.1


def _verified(trained: Trained, target: str = "onnx-int8", **changes: object) -> Verified:
    """The real file with real logits; single figures changed to see what the gate makes of them."""
    manifest = trained.manifest(target)
    model = trained.package.blobs[manifest.artifact.digest]
    logits = run(load(manifest.format, model), trained.splits.test.frames, manifest.preprocess)
    score = evaluate.score(logits, trained.splits.test, trained.splits.labels)
    item = Verified(
        artifact=Artifact(
            target=target, format=manifest.format, precision=manifest.precision, layout=manifest.preprocess.layout, data=model
        ),
        preprocess=manifest.preprocess,
        score=score,
        val_logits=logits,
        output_error=0.01,
        golden=codec.decode_golden(trained.package.blobs[manifest.golden.blob.digest]),
        tolerance=manifest.golden.tolerance,
        latency_p50_ms=0.1,
        runtimes={
            "onnx": RuntimeCheck(accuracy=score.accuracy, best_accuracy=score.accuracy, samples=score.samples, golden_error=0.0)
        },
    )
    return replace(item, **changes)  # type: ignore[arg-type]


def test_a_model_no_better_than_the_champion_asks_for_is_refused_with_both_figures(trained: Trained) -> None:
    item = _verified(trained)
    spec = GateSpec(min_accuracy=0.5, min_gain=0.05)
    decision = gate.decide(spec, ["onnx-int8"], [item], item.score.accuracy, trained.champion(), trained.splits)
    assert decision.champion_accuracy == pytest.approx(item.score.accuracy)
    assert "does not reach the champion's: version 6 has" in decision.reason
    assert f"{item.score.accuracy:.4f}" in decision.reason
    assert "gate.min_gain is 0.05" in decision.reason


def test_a_model_that_equals_the_champion_passes(trained: Trained) -> None:
    item = _verified(trained)
    decision = gate.decide(GateSpec(min_accuracy=0.5), ["onnx-int8"], [item], 0.9, trained.champion(), trained.splits)
    assert (decision.reason, [kept.artifact.target for kept in decision.kept]) == ("", ["onnx-int8"])


def test_a_champion_that_does_not_know_a_class_gets_it_wrong(trained: Trained) -> None:
    champion = trained.champion()
    fewer = tuple("other" if label == "3" else label for label in LABELS)
    manifest = replace(champion.manifest, classification=replace(champion.manifest.classification, labels=fewer))
    whole, _ = gate.champion_accuracy(champion, trained.splits)
    less, _ = gate.champion_accuracy(replace(champion, manifest=manifest), trained.splits)
    share = (trained.splits.test.labels == 3).mean()
    assert whole is not None and less is not None
    assert whole - less == pytest.approx(share, abs=share / 4)


def test_a_champion_that_cannot_be_loaded_does_not_block_its_successor(trained: Trained) -> None:
    item = _verified(trained)
    broken = replace(trained.champion(), model=b"not a model")
    decision = gate.decide(GateSpec(min_accuracy=0.5), ["onnx-int8"], [item], 0.9, broken, trained.splits)
    assert decision.reason == ""
    assert "could not be compared" in decision.refused["champion"]


@pytest.mark.parametrize(
    ("spec", "changes", "said"),
    [
        (GateSpec(min_accuracy=1.0), {}, "below gate.min_accuracy 1.0"),
        (GateSpec(min_accuracy=0.5, max_size_bytes=1024), {}, "gate.max_size_bytes is 1024"),
        (GateSpec(min_accuracy=0.5), {"output_error": 0.2}, "output error 0.2000 is above gate.max_output_error 0.1"),
        (GateSpec(min_accuracy=0.5), {"output_error": float("nan")}, "output error nan"),
        (GateSpec(min_accuracy=0.5), {"problem": "tflite: signal 11"}, "fails in a device's runtime: tflite: signal 11"),
        (
            GateSpec(min_accuracy=0.5),
            {"runtimes": {"tflite-legacy": RuntimeCheck(accuracy=0.2, best_accuracy=0.95, samples=100, golden_error=0.0)}},
            "accuracy in tflite-legacy is 0.2000",
        ),
    ],
)
def test_a_file_that_breaks_the_gate_is_left_out_with_the_reason(
    trained: Trained, spec: GateSpec, changes: dict[str, object], said: str
) -> None:
    item = _verified(trained, **changes)
    decision = gate.decide(spec, ["onnx-int8"], [item], item.score.accuracy, None, trained.splits)
    assert not decision.kept
    assert said in decision.refused["onnx-int8"]
    assert said in decision.reason


def test_a_slow_runtime_tried_on_fewer_and_harder_frames_is_judged_on_those(trained: Trained) -> None:
    hard = RuntimeCheck(accuracy=0.78, best_accuracy=0.785, samples=256, golden_error=0.0)
    item = _verified(trained, runtimes={"tflite-legacy": hard})
    assert item.score.accuracy > 0.9
    decision = gate.decide(GateSpec(min_accuracy=0.5), ["onnx-int8"], [item], item.score.accuracy, None, trained.splits)
    assert not decision.refused


def test_a_file_much_worse_than_its_network_is_left_out_and_the_other_kept(trained: Trained) -> None:
    onnx, tflite = _verified(trained), _verified(trained, "tflite-int8")
    bad = replace(onnx, score=replace(onnx.score, accuracy=onnx.score.accuracy - 0.05))
    decision = gate.decide(
        GateSpec(min_accuracy=0.5), ["onnx-int8", "tflite-int8"], [bad, tflite], tflite.score.accuracy, None, trained.splits
    )
    assert [item.artifact.target for item in decision.kept] == ["tflite-int8"]
    assert "gate.max_accuracy_drop" in decision.refused["onnx-int8"]
    assert decision.reason == ""


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
        progress=lambda stage, fraction, line: told.append(line),
    )
    assert isinstance(result, Rejected)
    assert "does not reach the champion's" in result.reason
    assert result.report["champion"] == {"version": 6, "accuracy": pytest.approx(0.9, abs=0.1)}
    assert not any(line.startswith("epoch") for line in told)
    assert any(line.startswith("champion version 6 (onnx-int8)") for line in told)
