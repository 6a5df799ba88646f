"""What the gate makes of figures; files that really run are in ``test_retrain``."""

from dataclasses import replace

import numpy as np
import pytest

from cloud_hub.core.tasks import Metric
from cloud_hub.pipeline import gate
from cloud_hub.pipeline import task as tasks
from cloud_hub.pipeline.data import Splits
from cloud_hub.pipeline.export import Artifact
from cloud_hub.pipeline.gate import Champion
from cloud_hub.pipeline.task import Outputs, Score, Task
from cloud_hub.pipeline.timing import Speedup
from cloud_hub.pipeline.verify import RuntimeCheck, Verified
from protos.contract.inputs import Layout
from protos.contract.manifest import Format, GoldenSet, Precision
from tests.hub.pipeline.parts import LABELS, digits, small_spec

GOLDEN = GoldenSet(count=1, size=1, samples=(b"x",), outputs=b"\0\0\0\0")
CHAMPION = Champion(version=6, target="onnx-int8", manifest=None, model=b"")  # type: ignore[arg-type]  # only its name is used


@pytest.fixture(scope="module")
def splits() -> Splits:
    return tasks.make(small_spec()).load(LABELS, digits())


def _task(**gate: object) -> Task:
    spec = small_spec()
    limits = replace(spec.gate, **{"bound": 0.5, "min_speedup": 1.0, **gate})
    return tasks.make(replace(spec, targets=("onnx-int8", "onnx-fp32"), gate=limits))


def _outputs(splits: Splits, wrong: int = 0, *, only: int | None = None, skip: int = 0) -> Outputs:
    """Sure and right, but for so many samples from ``skip`` on (of class ``only``)."""
    targets = splits.test.targets
    outputs = np.eye(len(LABELS), dtype=np.float32)[targets] * 10
    rows = np.flatnonzero(targets == only) if only is not None else np.arange(len(targets))
    for row in rows[skip : skip + wrong]:
        outputs[row] = np.roll(outputs[row], 1)
    return outputs


def _verified(task: Task, splits: Splits, outputs: Outputs | None = None, **changes: object) -> Verified:
    outputs = _outputs(splits) if outputs is None else outputs
    item = Verified(
        artifact=Artifact(
            target="onnx-int8", format=Format.ONNX, precision=Precision.INT8, layout=Layout.NCHW, data=bytes(2000)
        ),
        input=splits.input,
        score=task.score(outputs, splits.test, splits),
        outputs=outputs,
        val_outputs=outputs,
        output_error=0.01,
        golden=GOLDEN,
        tolerance=0.1,
        latency_p50_ms=1.0,
        runtimes={"onnx": RuntimeCheck(value=0.9, best_value=0.9, samples=256, golden_error=0.0)},
    )
    return replace(item, **changes)


SLOW = Speedup(middle=0.8, high=0.85, fp32_ms=0.8)


@pytest.mark.parametrize(
    ("spec", "changes", "said"),
    [
        ({"max_size_bytes": 1024}, {}, "2000 bytes, gate.max_size_bytes is 1024"),
        ({}, {"output_error": 0.2}, "output error 0.2000 is above gate.max_output_error 0.1"),
        ({}, {"output_error": float("nan")}, "output error nan"),
        ({}, {"problem": "tflite: signal 11"}, "fails in a device's runtime: tflite: signal 11"),
        (
            {},
            {"runtimes": {"tflite-legacy": RuntimeCheck(value=0.2, best_value=0.95, samples=100, golden_error=0.0)}},
            "accuracy in tflite-legacy is 0.2000 over 100 samples, 0.9500 in the best runtime",
        ),
        (
            {},
            {"runtimes": {"onnx": RuntimeCheck(value=float("nan"), best_value=0.9, samples=256, golden_error=0.0)}},
            "accuracy in onnx is nan",
        ),
        ({"max_latency_ms": 0.5}, {}, "1.000 ms in one thread of this machine, gate.max_latency_ms is 0.5"),
        (
            {},
            {"speedup": SLOW},
            "it is slower than fp32: 1.000 ms, onnx-fp32 0.800 ms; a speed-up of 0.80, at most 0.85; gate.min_speedup is 1.0",
        ),
        (
            {"min_speedup": 1.5},
            {"speedup": Speedup(middle=1.3, high=1.4, fp32_ms=1.3)},
            "it takes 1.000 ms, onnx-fp32 1.300 ms; a speed-up of 1.30, at most 1.40; gate.min_speedup is 1.5",
        ),
    ],
)
def test_a_file_that_breaks_the_gate_is_refused_with_the_numbers_that_decided(
    splits: Splits, spec: dict[str, object], changes: dict[str, object], said: str
) -> None:
    task = _task(**spec)
    item = _verified(task, splits, **changes)
    assert said in gate.refusal(task, item, item.score)


@pytest.mark.parametrize(
    ("spec", "changes"),
    [
        ({}, {}),
        ({"max_latency_ms": 1.0}, {}),
        ({"min_speedup": 0}, {"speedup": SLOW}),
        ({}, {"speedup": Speedup(middle=0.98, high=1.0, fp32_ms=0.98)}),  # the difference is within what was measured
        ({}, {"runtimes": {"tflite-legacy": RuntimeCheck(value=0.78, best_value=0.785, samples=256, golden_error=0.0)}}),
    ],
)
def test_a_file_that_holds_the_gate_passes(splits: Splits, spec: dict[str, object], changes: dict[str, object]) -> None:
    task = _task(**spec)
    item = _verified(task, splits, **changes)
    assert gate.refusal(task, item, item.score) == ""


def test_a_file_worse_than_its_network_is_refused(splits: Splits) -> None:
    task, whole = _task(max_class_drop=1.0), len(splits.test)
    item = _verified(task, splits, _outputs(splits, wrong=whole // 20))
    network = task.score(_outputs(splits), splits.test, splits)
    assert f"accuracy went from the network's 1.0000 to {item.score.value:.4f}" in gate.refusal(task, item, network)
    assert gate.refusal(task, item, item.score) == ""


def test_a_network_whose_figure_is_no_number_lets_nothing_pass(splits: Splits) -> None:
    task = _task()
    item = _verified(task, splits)
    assert "accuracy went from the network's nan" in gate.refusal(task, item, replace(item.score, value=float("nan")))


@pytest.mark.parametrize(("error", "passes"), [(0.139, True), (0.141, False)])
def test_an_error_may_grow_by_the_share_that_is_asked_for(splits: Splits, error: float, passes: bool) -> None:
    task = _task(max_drop=0.4)
    task.metric = Metric(name="rmse", higher_is_better=False)
    item = _verified(task, splits, score=Score(value=error, samples=100))
    assert (gate.refusal(task, item, Score(value=0.1, samples=100)) == "") is passes


def test_a_class_that_is_lost_is_seen_where_the_mean_hides_it(splits: Splits) -> None:
    task = _task(max_drop=0.1)
    count = int((splits.test.targets == 3).sum())
    assert count >= gate.LARGE_CLASS
    network = task.score(_outputs(splits), splits.test, splits)
    lost = _verified(task, splits, _outputs(splits, wrong=count // 4, only=3))
    said = gate.refusal(task, lost, network)
    assert f"'3' went from the network's 1.0000 to {lost.score.by_class['3']:.4f} over {count} samples" in said
    assert "gate.max_class_drop is 0.1" in said
    slight = _verified(task, splits, _outputs(splits, wrong=count // 12, only=3))
    assert gate.refusal(task, slight, network) == ""


def test_a_class_of_few_samples_is_not_judged_alone(splits: Splits) -> None:
    task = _task(max_drop=0.1)
    rows = np.concatenate([np.flatnonzero(splits.test.targets != 3), np.flatnonzero(splits.test.targets == 3)[:10]])
    small = replace(splits, test=splits.test.take(rows))
    network = task.score(_outputs(small), small.test, small)
    assert gate.refusal(task, _verified(task, small, _outputs(small, wrong=5, only=3)), network) == ""


def test_int8_that_is_slower_goes_and_fp32_stays(splits: Splits) -> None:
    task = _task()
    small = _verified(task, splits, speedup=SLOW)
    full = replace(small, artifact=replace(small.artifact, target="onnx-fp32"), speedup=None)
    decision = gate.decide(task, [small, full], small.score, None, splits)
    assert [item.artifact.target for item in decision.kept] == ["onnx-fp32"]
    assert "slower than fp32" in decision.refused["onnx-int8"]
    only = tasks.make(replace(task.spec, targets=("onnx-int8",)))
    assert "name onnx-fp32 in 'targets'" in gate.decide(only, [small], small.score, None, splits).reason


def test_the_interval_of_a_speed_up_holds_the_true_one() -> None:
    draw = np.random.default_rng(0)
    measured = [Speedup.of(draw.lognormal(0.0, 0.2, (3, 50)), draw.lognormal(0.1, 0.2, (3, 50))) for _ in range(300)]
    assert np.mean([one.high >= np.exp(0.1) for one in measured]) > 0.98
    assert np.mean([one.high for one in measured]) < np.exp(0.1) * 1.25


def test_a_slow_file_is_refused_however_small_and_a_load_that_was_unlucky_refuses_none() -> None:
    draw = np.random.default_rng(0)
    fp32, noise = np.full((3, 50), 0.010), draw.lognormal(0.0, 0.02, (3, 50))
    assert Speedup.of(fp32 / 0.9 * noise, fp32).high < 1  # 11 us for 10 us
    loads = np.array([[1.02], [1.03], [0.995]])  # each slower or faster by where its memory came to lie
    assert Speedup.of(fp32 * loads * noise, fp32).high > 1


def _compare(task: Task, splits: Splits, ours: Outputs, theirs: Outputs) -> gate.Comparison:
    return gate.compare(task, CHAMPION, theirs, [_verified(task, splits, ours)], splits)


def test_with_each_candidate_before_it_a_model_must_beat_the_champion_more_surely(splits: Splits) -> None:
    ours, theirs = _outputs(splits), _outputs(splits, wrong=37, skip=40)
    first, third = (
        gate.compare(_task(), CHAMPION, theirs, [_verified(_task(), splits, ours)], splits, level=1 - (1 - gate.LEVEL) / times)
        for times in (1, 4)
    )
    assert first.passes and not third.passes and "at 98.75%)" in third.verdict


def test_a_surely_better_model_beats_the_champion_and_a_surely_worse_one_does_not(splits: Splits) -> None:
    task, good, bad = _task(), _outputs(splits), _outputs(splits, wrong=len(splits.test) // 5)
    better, worse = _compare(task, splits, good, bad), _compare(task, splits, bad, good)
    assert better.passes and not worse.passes
    assert "it does not reach the champion, version 6: accuracy" in worse.verdict
    assert (
        f"{worse.ours:.4f} (onnx-int8) against {worse.theirs:.4f} on the same {len(splits.test)} test samples" in worse.verdict
    )
    assert "gate.min_gain is 0.0" in worse.verdict


@pytest.mark.parametrize(("when_unsure", "passes"), [("keep", False), ("promote", True)])
def test_what_may_be_noise_is_left_to_the_spec_and_said(splits: Splits, when_unsure: str, passes: bool) -> None:
    task = _task(when_unsure=when_unsure)
    ours, theirs = _outputs(splits, wrong=6), _outputs(splits, wrong=9, skip=40)
    compared = _compare(task, splits, ours, theirs)
    assert compared.ours > compared.theirs
    assert compared.passes is passes
    assert "too few test samples to say whether it reaches the champion" in compared.verdict
    assert f"gate.when_unsure is {when_unsure}" in compared.verdict


@pytest.mark.parametrize(
    ("spec", "passes"),
    [({}, False), ({"when_unsure": "promote"}, True), ({"min_gain": -0.01}, True), ({"min_gain": 0.01}, False)],
)
def test_one_that_is_never_told_from_the_champion_has_proved_nothing(
    splits: Splits, spec: dict[str, object], passes: bool
) -> None:
    compared = _compare(_task(**spec), splits, _outputs(splits), _outputs(splits))
    assert compared.passes is passes
    assert ("no test sample tells it from the champion, version 6" in compared.verdict) is ("min_gain" not in spec)


def test_a_margin_lets_a_model_pass_that_is_surely_not_much_worse(splits: Splits) -> None:
    ours, theirs = _outputs(splits, wrong=6), _outputs(splits, wrong=6, skip=40)
    assert not _compare(_task(), splits, ours, theirs).passes
    assert _compare(_task(min_gain=-0.1), splits, ours, theirs).passes
    assert not _compare(_task(min_gain=0.1), splits, ours, theirs).passes
