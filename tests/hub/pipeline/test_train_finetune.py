"""Going on from a champion: what is kept, what is trained, and how small the patch is."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from cloud_hub.core.errors import Invalid
from cloud_hub.core.spec import parse
from cloud_hub.core.spec_sections.train import FinetuneSpec
from cloud_hub.pipeline import export, finetune, frozen, learn, lowrank
from cloud_hub.pipeline import task as tasks
from cloud_hub.pipeline.data import Splits
from cloud_hub.pipeline.gate import Champion
from cloud_hub.pipeline.progress import Stages, silent
from cloud_hub.pipeline.retrain import Published, retrain
from cloud_hub.pipeline.task import Task
from protos.contract import codec
from protos.contract.ids import digest_of, model_name
from protos.contract.inputs import ImageInput, Layout
from protos.contract.manifest import Blob, Format, GoldenRef, Manifest, Precision
from protos.contract.samples import Window, encode_window
from scripts.datasets import raw
from tests.hub.pipeline.parts import LABELS, digits
from tests.hub.pipeline.tasks import test_anomaly_detection, test_forecasting, test_window_regression
from tests.hub.pipeline.test_train import spec_with

TASK = tasks.make(spec_with())


@pytest.fixture(scope="module")
def splits() -> Splits:
    return TASK.load(LABELS, digits(300))


def champion_of(
    network: nn.Module, splits: Splits, labels: tuple[str, ...] = LABELS, task: Task = TASK, **more: Any
) -> Champion:
    blob = Blob(digest=digest_of(b"-"), size_bytes=1)
    manifest = Manifest(
        name=model_name("digits"),
        version=3,
        task=task.spec.task,
        artifact=blob,
        format=Format.ONNX,
        precision=Precision.INT8,
        input=splits.input_for(Layout.NHWC),
        output=task.output(splits),
        golden=GoldenRef(blob=blob, tolerance=1.0),
    )
    weights = finetune.weights_of(network, labels)
    return Champion(version=3, target="onnx-int8", manifest=manifest, model=b"", **{"weights": weights, **more})


def network_of(splits: Splits, task: Task = TASK) -> nn.Module:
    return task.network(task.spec.student, splits)


def other(splits: Splits) -> nn.Module:
    """Of the same shape, with other weights."""
    return network_of(splits, tasks.make(replace(TASK.spec, train=replace(TASK.spec.train, seed=9))))


def tuned(mode: str, splits: Splits, folder: Path, more: str = "") -> tuple[nn.Module, nn.Module, dict[str, object]]:
    """(champion's network, the one that went on, report)."""
    task, before = tasks.make(spec_with(f"finetune: {{mode: {mode}, epochs: 1, rank: 2{more}}}")), other(splits)
    champion, stages = champion_of(before, splits), Stages(silent)
    with stages.stage("teacher"):
        taught = learn.teach(task, splits, folder, champion, stages)
    with stages.stage("student"):
        learned = learn.study(task, taught, taught.splits, folder, champion, stages)
    return before, learned.network, dict(learned.report)


def changes(before: nn.Module, after: nn.Module) -> dict[str, torch.Tensor]:
    own, theirs = after.state_dict(), before.state_dict()
    assert own.keys() == theirs.keys()
    return {name: own[name] - theirs[name] for name in own if not torch.equal(own[name], theirs[name])}


def test_weights_come_back_and_classes_keep_their_rows(splits: Splits) -> None:
    before, after = other(splits), network_of(splits)
    finetune.load(after, champion_of(before, splits), LABELS)
    assert not changes(before, after)
    swapped = ("1", "0", *LABELS[2:])
    finetune.load(after, champion_of(before, splits, swapped), LABELS)
    assert torch.equal(after.head.weight[0], before.head.weight[1])
    assert torch.equal(after.head.weight[5], before.head.weight[5])
    few = replace(splits, labels=LABELS[:8])
    notes = finetune.load(after, champion_of(network_of(few), few, LABELS[:8]), LABELS)
    assert any("new classes: 8, 9" in note for note in notes)


def test_a_champion_that_cannot_go_on_is_refused_in_words(splits: Splits) -> None:
    larger = network_of(splits, tasks.make(replace(TASK.spec, student=replace(TASK.spec.student, width=12))))
    with pytest.raises(Invalid, match="another network"):
        finetune.load(network_of(splits), champion_of(larger, splits), LABELS)
    with pytest.raises(Invalid, match="were not kept"):
        finetune.load(network_of(splits), champion_of(larger, splits, weights=b""), LABELS)
    with pytest.raises(Invalid, match="cannot be read"):
        finetune.load(network_of(splits), champion_of(larger, splits, weights=b"\xff" * 64), LABELS)


def test_the_champions_normalisation_stays(splits: Splits) -> None:
    darker = TASK.load(LABELS, digits(300, light=0.5))
    assert isinstance(splits.input, ImageInput) and isinstance(darker.input, ImageInput)
    kept = finetune.with_units_of(champion_of(network_of(splits), splits), TASK, darker)
    assert kept.input == splits.input != darker.input
    wider = replace(splits, input=replace(splits.input, width=16))
    with pytest.raises(Invalid, match="another input"):
        finetune.with_units_of(champion_of(network_of(splits), wider), TASK, splits)


def test_numbers_are_told_in_the_champions_units() -> None:
    """Its weights know no others; the new data has another mean and spread."""
    task, far = tasks.make(parse(test_window_regression.SPEC)), 20
    whole = task.load((), test_window_regression.engines(8))
    some = task.load((), (each for each in test_window_regression.engines(12) if float(each.label) <= far))
    champion = champion_of(nn.Linear(1, 1), splits=whole, task=task)
    kept = finetune.with_units_of(champion, task, some)
    assert kept.facts["output"].mean == whole.facts["output"].mean != some.facts["output"].mean
    assert kept.input == whole.input
    mean, std = whole.facts["output"].mean[0], whole.facts["output"].std[0]
    for part in (kept.train, kept.val, kept.test):
        left = part.targets[:, 0] * std + mean  # in the data's own unit
        assert np.allclose(left, left.round(), atol=1e-4) and left.min() >= -1e-4 and left.max() <= far + 1e-4
    says_mean = np.zeros((len(kept.test), 1), np.float32)
    assert task.value(says_mean, kept.test, kept) == pytest.approx(np.sqrt(np.square(left - mean).mean()), rel=1e-4)
    strange = replace(whole, facts={**whole.facts, "output": replace(whole.facts["output"], names=("other",))})
    with pytest.raises(Invalid, match="other values"):
        finetune.with_units_of(champion_of(nn.Linear(1, 1), splits=strange, task=task), task, some)


def test_a_forecast_is_told_in_the_champions_units_and_finds_its_channels() -> None:
    task = tasks.make(parse(test_forecasting.SPEC.replace("headline: level", "headline: level, targets: [level]")))
    whole = task.load((), test_forecasting.one())
    turned = test_forecasting.tide(700, seed=3)
    shifted = Window(channels=("wind", "level"), values=turned.values[:, ::-1] * np.float32(3))
    some = task.load((), [raw(encode_window(shifted), name="other", source="other")])
    kept = finetune.with_units_of(champion_of(nn.Linear(1, 1), splits=whole, task=task), task, some)
    assert (some.facts["told"], kept.facts["told"]) == ((1,), (0,))
    outputs = [each.facts["output"] for each in (some, kept, whole)]
    assert outputs[1].mean == outputs[2].mean != outputs[0].mean
    own, other = (each.test.targets * np.array(each.facts["output"].std) + each.facts["output"].mean for each in (some, kept))
    assert np.allclose(own, other, atol=1e-4)


@pytest.mark.parametrize("against", ["", "}, adversarial: {attack: fgsm"])
def test_head_trains_the_last_layer_alone(splits: Splits, tmp_path: Path, against: str) -> None:
    before, after, report = tuned("head", splits, tmp_path, against)
    assert set(changes(before, after)) == {"head.weight", "head.bias"}
    assert report["finetune"] == {"mode": "head", "trained": after.head.weight.numel() + 10}
    assert all(parameter.requires_grad for parameter in after.parameters())


def test_lora_changes_layers_by_a_low_rank_and_leaves_no_trace_in_the_network(splits: Splits, tmp_path: Path) -> None:
    before, after, report = tuned("lora", splits, tmp_path, ", patch_bytes: 0")
    found = changes(before, after)
    assert {"head.weight", "features.3.weight", "features.6.weight"} <= set(found)
    assert not any("running" in name or "original" in name for name in found)
    for name, change in found.items():
        if name.startswith("features"):
            values = torch.linalg.svdvals(change.flatten(1)).square()  # what would leave its channel's range is cut
            assert values[:2].sum() > 0.95 * values.sum()
    whole = sum(change.numel() for change in found.values())
    assert isinstance(report["finetune"], dict) and report["finetune"]["trained"] < 0.5 * whole


def test_full_trains_everything(splits: Splits, tmp_path: Path) -> None:
    before, after, _ = tuned("full", splits, tmp_path)
    assert set(changes(before, after)) == set(before.state_dict())


def test_lora_changes_no_more_than_the_patch_has_room_for_and_no_scale(splits: Splits, tmp_path: Path) -> None:
    before, after, _ = tuned("lora", splits, tmp_path, ", patch_bytes: 1000")
    found, weights = changes(before, after), before.state_dict()
    rows = {
        name: (change.flatten(1) != 0).any(1).nonzero()[:, 0] for name, change in found.items() if name.startswith("features")
    }
    size = sum(len(each) * weights[name][0].numel() for name, each in rows.items())
    assert 0 < size <= 1000 and len(rows) > 1
    for name in rows:
        bound = weights[name].flatten(1).abs().amax(1)
        assert (after.state_dict()[name].flatten(1).abs().amax(1) <= bound).all()


def test_lora_with_no_layer_beside_those_trained_whole_trains_these(splits: Splits) -> None:
    spec = spec_with("finetune: {mode: lora, layers: 20}")
    network = network_of(splits)
    notes = finetune.freeze(network, tasks.make(spec), splits)
    assert "0 of 0 channels" in notes[0] and network.head.weight.requires_grad


def test_channels_that_move_the_loss_are_chosen(splits: Splits) -> None:
    """A layer whose output half of the next one does not look at: those channels are worth nothing."""
    network = network_of(splits)
    with torch.no_grad():
        network.features[3].weight[:, ::2] = 0
    feeder, loss = TASK.feeder(splits), TASK.loss(splits)
    rows = lowrank.chosen(network, [network.features[0]], splits.train, feeder, loss, limit_bytes=4 * 27 + 26)
    assert len(rows[0]) == 4 and (rows[0] % 2 == 1).all()
    assert [each.tolist() for each in lowrank.chosen(network, [network.features[0]], splits.train, feeder, loss, 26)] == [[]]


def test_an_autoencoders_channels_are_chosen_by_what_it_learns_not_by_what_it_gives_back() -> None:
    task = tasks.make(parse(test_anomaly_detection.SPEC))
    data = task.load((), test_anomaly_detection.pumps(120, 6))
    network = task.network(task.spec.student, data)
    low = [each for each in network.modules() if isinstance(each, lowrank.LAYERS)][:-1]
    found = []
    for share in (1.0, -2.0):
        network.balance.share.fill_(share)
        rows = lowrank.chosen(network, low, data.train, task.feeder(data), task.loss(data), limit_bytes=600)
        found.append([each.tolist() for each in rows])
        assert float(network.balance.share) == share
    assert found[0] == found[1]


def test_a_file_made_with_the_champions_scales_differs_only_where_it_was_trained(splits: Splits, tmp_path: Path) -> None:
    """In both formats, though it is calibrated on other samples."""
    network, targets = other(splits).eval(), ("onnx-int8", "tflite-int8")
    (tmp_path / "first").mkdir()
    (tmp_path / "next").mkdir()
    files = {made.target: made.data for made in export.export(network, splits, targets, tmp_path / "first", lambda *_: None)}
    champion = champion_of(network, splits, files=files)
    with torch.no_grad():
        network.head.weight += 0.02 * torch.randn(network.head.weight.shape, generator=torch.Generator().manual_seed(0))
    newer = finetune.with_units_of(champion, TASK, TASK.load(LABELS, digits(500, start=300, light=0.93)))
    finetune.freeze_scales(champion, tmp_path / "next")
    made = {one.target: one.data for one in export.export(network, newer, targets, tmp_path / "next", lambda *_: None)}
    patches = finetune.patch_bytes(champion, made)
    for target in targets:
        assert patches[target]["patch_bytes"] < 2000 < 0.1 * patches[target]["size_bytes"]
    before, after = (frozen._onnx_scales(path / "int8.onnx") for path in (tmp_path / "first", tmp_path / "next"))
    assert before.keys() == after.keys()
    assert all((before[name][0] == after[name][0]).all() for name in before if not name.startswith(("head", "output")))


def test_ranges_are_kept_where_they_fit(splits: Splits) -> None:
    kept = [torch.tensor(0.0).numpy(), torch.tensor(10.0).numpy()]
    for low, high, good in ((0.0, 10.0, True), (0.0, 10.5, True), (0.0, 12.0, False), (0.0, 4.0, False), (-3.0, 9.0, False)):
        assert bool(frozen.fits(torch.tensor(low).numpy(), torch.tensor(high).numpy(), *kept)) is good


@pytest.mark.slow
def test_a_job_goes_on_from_the_champion_and_reports_the_patch(tmp_path: Path) -> None:
    spec = spec_with()
    champion: Champion | None = None
    lines: list[str] = []

    def told(stage: str, fraction: float, line: str, step: object = None) -> None:
        lines.append(line)

    for number, mode in enumerate(("off", "head")):
        folder = tmp_path / mode
        folder.mkdir()
        tuning = replace(spec.train, finetune=FinetuneSpec(mode=mode, epochs=2))
        job = replace(spec, train=tuning, gate=replace(spec.gate, min_gain=-0.2, min_speedup=0.0))
        result = retrain(job, LABELS, digits(900), folder=folder, reserve=lambda: 1, champion=champion, progress=told)
        assert isinstance(result, Published), result.reason
        package = result.package
        assert package.weights.digest in package.blobs
        assert result.report["weights"] == {"digest": package.weights.digest, "size_bytes": package.weights.size_bytes}
        if number:
            patches = result.report["patches"]
            assert isinstance(patches, dict) and patches["onnx-int8"]["patch_bytes"] < 4000
            size = patches["onnx-int8"]["patch_bytes"]
            assert any(f"onnx-int8: devices that have the champion load {size} of" in line for line in lines)
            return
        by_target = {variant.target: variant for variant in package.variants}
        champion = Champion(
            version=1,
            target="onnx-int8",
            manifest=codec.decode_manifest(package.blobs[by_target["onnx-int8"].manifest_digest]),
            model=package.blobs[by_target["onnx-int8"].artifact_digest],
            weights=package.blobs[package.weights.digest],
            files={name: package.blobs[variant.artifact_digest] for name, variant in by_target.items()},
        )
