"""Series whose next steps are told: how they are parted, from series to a device's answer, and real ones."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from cloud_hub.core.errors import Invalid
from cloud_hub.core.spec import parse
from cloud_hub.core.spec_sections.data import DataSpec
from cloud_hub.pipeline import task as tasks
from cloud_hub.pipeline.clean import Item, RawSample
from cloud_hub.pipeline.data import Split
from cloud_hub.pipeline.evaluation.bootstrap import units_of
from cloud_hub.pipeline.retrain import Published
from cloud_hub.pipeline.tasks.forecasting.series import parts_of, whole_targets
from protos.contract.ids import digest_of
from protos.contract.outputs import Values
from protos.contract.samples import Window, encode_window
from scripts.datasets import ett, los_loop, raw
from tests.hub.pipeline.tasks.trained import INT8, figure, fitted, on_device, on_test, published

SPEC = """
name: tide
task: forecasting
data: {dataset: tide, calibration: 64, val_share: 0.2, test_share: 0.2}
preprocess: {lookback: 24, horizon: 6, headline: level}
teacher: {kind: conv, width: 4, epochs: 2}
student: {epochs: 6}
train: {lr: 0.01, weight_decay: 0}
gate: {bound: 0.2, min_speedup: 0}
"""


def tide(steps: int = 900, seed: int = 0) -> Window:
    """Two channels, twelve and nine steps from high to high, one of them rising slowly."""
    at = np.arange(steps) + 100 * seed
    level = 3 + 2 * np.sin(at * 2 * np.pi / 12) + at / 2000
    wind = 10 * np.cos(at * 2 * np.pi / 9)
    noise = np.random.default_rng(seed).normal(0, 0.1, (steps, 2))
    return Window(channels=("level", "wind"), values=(np.stack([level, wind], 1) + noise).astype(np.float32))


def one() -> Iterator[RawSample]:
    yield raw(encode_window(tide()), name="harbour", source="harbour", group="harbour")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Published:
    return published(parse(SPEC), (), one(), tmp_path_factory.mktemp("tide"))


@pytest.mark.parametrize("target", INT8)
def test_int8_foretells_as_the_network_does(made: Published, target: str) -> None:
    test = made.report["student"]["test"]  # type: ignore[index]
    assert test["mse"] < 0.15
    assert figure(made, target, "mse") < test["mse"] * 1.25
    assert figure(made, target, "output_error") < 0.08
    assert set(test["rmse_up_to"]) == {"2", "3", "4", "6"} and set(test["by_class"]) == {"level", "wind"}


@pytest.mark.parametrize("target", INT8)
def test_a_device_tells_the_next_steps_in_the_channels_own_units(made: Published, target: str) -> None:
    model = on_device(made.package, target)
    output = model.manifest.output
    assert isinstance(output, Values)
    assert output.names[:3] == ("level+1", "wind+1", "level+2") and output.names[output.headline] == "level+6"
    series = tide(seed=3).values
    said = model.predict(Window(channels=("level", "wind"), values=series[:40]))  # more than it looks back: the newest count
    assert said.values is not None and len(said.values) == 12
    assert np.abs(np.array(said.values).reshape(6, 2) - series[40:46]).max(0) == pytest.approx([0, 0], abs=4)
    assert np.abs(np.array(said.values).reshape(6, 2) - series[40:46]).mean(0)[0] < 0.6
    assert said.value == said.values[output.headline]


def test_no_target_is_in_two_splits_and_the_scale_is_of_the_past() -> None:
    splits = tasks.make(parse(SPEC)).load((), one())
    values = tide().values
    assert len(splits.train) == 540 - 24 - 6 + 1 and len(splits.val) == len(splits.test) == 180 - 6 + 1
    told = [_told(split, splits.facts["output"]) for split in (splits.train, splits.val, splits.test)]
    assert not told[0] & told[1] and not told[1] & told[2] and not told[0] & told[2]
    assert splits.input.mean == pytest.approx(values[:540].mean(0), rel=1e-5)  # type: ignore[union-attr]


@settings(max_examples=60)
@given(
    st.lists(st.integers(8, 120), min_size=1, max_size=6),
    st.integers(2, 9),
    st.integers(1, 6),
    st.sampled_from([0.1, 0.2, 0.4]),
)
def test_series_of_any_length_are_parted_without_a_leak(lengths: list[int], lookback: int, horizon: int, share: float) -> None:
    items = [_item(steps, i) for i, steps in enumerate(lengths) if steps >= lookback + horizon]
    try:
        parts, _ = parts_of(items, DataSpec(dataset="x", val_share=share, test_share=share), lookback, horizon)
    except Invalid:
        return
    seen: dict[tuple[str, int], str] = {}
    for part in parts:
        for start in part.starts(lookback, horizon, 1):
            assert lookback <= start <= len(part.item.content.values) - horizon  # type: ignore[union-attr]
            for step in range(start, start + horizon):
                assert seen.setdefault((part.item.digest, step), part.split) == part.split


def test_short_series_go_whole_and_a_pin_holds() -> None:
    pinned = _item(300, 1, split="test")
    long, short = _item(300, 2), _item(20, 3)
    parts, notes = parts_of([pinned, long, short], DataSpec(dataset="x"), 10, 5)
    where = {(part.item.source, part.split): (part.first, part.end) for part in parts}
    assert where[("s1", "test")] == (0, 300) and where[("s3", "train")] == (0, 20)
    assert where[("s2", "train")] == (0, 210) and where[("s2", "test")] == (255, 300)
    assert notes == ["1 series are too short to be parted in time: they train"]


def test_many_windows_of_just_the_length_are_parted_by_their_source() -> None:
    series = tide(3000).values
    samples = [
        raw(
            encode_window(Window(channels=("level", "wind"), values=series[i : i + 30])),
            source=f"day-{i // 100}",
            name=f"w{i}",
        )
        for i in range(0, 2900, 10)
    ]
    splits = tasks.make(parse(SPEC)).load((), samples)
    assert len(splits.train) + len(splits.val) + len(splits.test) == 290 and min(len(splits.val), len(splits.test)) >= 10


def test_windows_whose_targets_are_missing_are_counted() -> None:
    values = tide().values.copy()
    values[200, 0] = np.nan
    values[210, 0] = np.inf
    window = Window(channels=("level", "wind"), values=values)
    report = tasks.make(parse(SPEC)).load((), [raw(encode_window(window), name="gap")]).report
    assert "12 windows in 'train' are left out: readings that are to be told are missing" in report.notes


def test_only_what_is_asked_for_is_told(tmp_path: Path) -> None:
    spec = SPEC.replace("headline: level", "targets: [wind]")
    task, splits, network = fitted(spec, (), one(), tmp_path)
    output = task.output(splits)
    assert isinstance(output, Values) and output.names == tuple(f"wind+{i}" for i in range(1, 7))
    assert task.value(on_test(task, splits, network), splits.test, splits) < 0.1


def test_quantiles_of_every_step(tmp_path: Path) -> None:
    task, splits, network = fitted(SPEC.replace("lr: 0.01", "lr: 0.01, loss: quantile"), (), one(), tmp_path)
    output = task.output(splits)
    assert isinstance(output, Values) and output.size == 36 and output.names[output.headline] == "level+6 p50"
    coverage = task.score(on_test(task, splits, network), splits.test, splits).details["coverage"]
    assert coverage["p10"] < 0.4 < 0.6 < coverage["p90"]


def test_too_many_windows_are_thinned_and_said() -> None:
    spec = SPEC.replace("calibration: 64", "calibration: 64, max_samples: 200")
    splits = tasks.make(parse(spec)).load((), one())
    assert len(splits.train) <= 200
    assert any("more than data.max_samples" in note for note in splits.report.notes)


def test_windows_that_share_readings_are_bounded_as_networks_take_them() -> None:
    """Stored once, they are trained on many times over: a mebibyte of readings may become as many as a window has steps."""
    room = 1 << 20
    spec = parse(SPEC.replace("calibration: 64", f"calibration: 64, max_bytes: {room}"))
    splits = tasks.make(spec).load((), [raw(encode_window(tide(20_000)), name="harbour", source="harbour", group="harbour")])
    assert room // 3 < splits.train.inputs.nbytes <= room
    assert any("more than data.max_bytes" in note for note in splits.report.notes)


def test_windows_that_tell_the_same_steps_are_drawn_together() -> None:
    task = tasks.make(parse(SPEC))
    splits = task.load((), one())
    units = units_of(splits.test)
    assert units.name == "sources" and units.count == pytest.approx(len(splits.test) / 6, abs=1)
    outputs = np.zeros_like(splits.test.targets)
    each = task.each(outputs, splits.test, splits)
    assert each is not None and each.mean() == pytest.approx(task.value(outputs, splits.test, splits))


def test_whole_targets_are_found_at_once() -> None:
    values = np.ones((10, 2), np.float32)
    values[4, 1] = np.nan
    assert np.flatnonzero(whole_targets(values, [0, 1], 3)).tolist() == [0, 1, 5, 6, 7]
    assert np.flatnonzero(whole_targets(values, [0], 3)).tolist() == list(range(8))
    assert not whole_targets(values, [0], 11).any()


def test_a_series_that_is_too_short_for_anything_is_refused_in_words() -> None:
    with pytest.raises(Invalid, match="fewer than 30 steps"):
        tasks.make(parse(SPEC)).load((), [raw(encode_window(tide(20)), name="short")])


@pytest.mark.parametrize(
    ("section", "key"),
    [
        ("preprocess: {horizon: 0}", r"preprocess\.horizon"),
        ("preprocess: {channels: [a], targets: [b]}", r"preprocess\.targets"),
        ("preprocess: {quantiles: [0.5, 0.1]}", r"preprocess\.quantiles"),
        ("student: {kind: lstm}", r"student\.kind"),
        ("preprocess: {lookback: 3}", r"teacher\.stages"),
    ],
)
def test_a_section_that_cannot_be_is_refused_by_its_key(section: str, key: str) -> None:
    with pytest.raises(Invalid, match=key):
        parse(f"name: tide\ntask: forecasting\ndata: {{dataset: tide}}\n{section}\n")


@pytest.mark.data
def test_a_transformers_load_is_foretold_as_others_do(shared_data: Path, tmp_path: Path) -> None:
    spec = SPEC.replace("lookback: 24, horizon: 6, headline: level", "lookback: 336, horizon: 96")
    spec = spec.replace("epochs: 6", "epochs: 3").replace("lr: 0.01", "lr: 0.003, batch_size: 128")
    task, splits, network = fitted(spec, (), ett.samples(shared_data), tmp_path)
    assert (len(splits.train), len(splits.val), len(splits.test)) == (8209, 2785, 2785)  # as in the field
    assert task.value(on_test(task, splits, network), splits.test, splits) < 0.39  # NLinear: 0.374


@pytest.mark.data
def test_a_roads_speed_is_foretold_better_than_by_its_average(shared_data: Path, tmp_path: Path) -> None:
    spec = SPEC.replace("lookback: 24, horizon: 6, headline: level", "lookback: 12, horizon: 12").replace(
        "val_share: 0.2", "val_share: 0.1"
    )
    spec = spec.replace("{epochs: 6}", "{anchored: false, epochs: 6}")
    task, splits, network = fitted(spec, (), los_loop.samples(shared_data), tmp_path)
    details = task.score(on_test(task, splits, network), splits.test, splits).details
    for step, average in {"3": 7.307, "6": 7.958, "9": 8.599, "12": 9.262}.items():
        assert details["rmse_up_to"][step] < average


def _item(steps: int, number: int, *, split: str = "") -> Item:
    values = np.arange(steps, dtype=np.float32).reshape(-1, 1)
    digest = digest_of(f"{number}".encode())
    window = Window(channels=("v",), values=values)
    return Item(content=window, label="", source=f"s{number}", split=split, digest=digest, group="")


def _told(split: Split, output: Values) -> set[bytes]:
    """Every step that is a target, by its readings."""
    count: NDArray[np.float32] = split.targets.reshape(len(split), 6, 2)
    return {np.round(row, 4).tobytes() for rows in count for row in rows}
