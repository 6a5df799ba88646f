import numpy as np
import pytest

from cloud_hub.core.errors import Invalid
from cloud_hub.core.spec import TrainingSpec, parse
from cloud_hub.pipeline import task as tasks
from cloud_hub.pipeline.clean import RawSample, clean
from cloud_hub.pipeline.data import Splits
from cloud_hub.pipeline.images import decoder
from cloud_hub.pipeline.split import assign
from protos.contract.inputs import Layout
from tests.hub.pipeline.parts import LABELS, digits, noise, png, sample, small_spec

SPEC = small_spec()
DECODE = decoder(32, 32, 3)


def _load(labels: tuple[str, ...], samples: list[RawSample], spec: TrainingSpec = SPEC) -> Splits:
    return tasks.make(spec).load(labels, samples)


def _by_split(samples: list[RawSample]) -> dict[str, str]:
    """Digest -> split."""
    items, _ = clean(samples, DECODE, LABELS, limit=10_000)
    splits, _ = assign(items, SPEC.data)
    return {item.digest: split for item, split in zip(items, splits, strict=True)}


def test_no_source_and_no_picture_is_in_two_splits() -> None:
    samples = digits()
    split_of = _by_split(samples)
    seen: dict[str, set[str]] = {}
    for one in samples:
        seen.setdefault(one.source, set()).add(split_of[one.digest])
    assert all(len(splits) == 1 for splits in seen.values())
    splits = _load(LABELS, samples)
    parts = [{frame.tobytes() for frame in part.contents} for part in (splits.train, splits.val, splits.test)]
    assert sum(map(len, parts)) == len(set.union(*parts)) == len(samples)


def test_a_sample_never_moves_as_data_grows() -> None:
    before, after = _by_split(digits(900)), _by_split(digits())
    assert all(after[digest] == split for digest, split in before.items())


def test_the_order_of_the_samples_does_not_matter() -> None:
    samples = digits(600)
    first, second = _load(LABELS, samples), _load(LABELS, samples[::-1])
    assert first.fingerprint == second.fingerprint
    assert first.input == second.input


def test_shares_are_about_as_asked_and_every_class_is_everywhere() -> None:
    splits = _load(LABELS, digits())
    total = sum(len(part) for part in (splits.train, splits.val, splits.test))
    assert 0.08 < len(splits.val) / total < 0.25
    assert 0.08 < len(splits.test) / total < 0.25
    assert all(len(np.unique(part.targets)) == 10 for part in (splits.train, splits.val, splits.test))
    assert splits.labels == LABELS


def test_pinned_samples_stay_where_they_are_pinned() -> None:
    pinned = [sample(noise(i), LABELS[i % 10], split="test" if i % 2 else "val", name=f"p{i}") for i in range(40)]
    split_of = _by_split([*digits(), *pinned])
    assert {split_of[one.digest] for one in pinned[::2]} == {"val"}
    assert {split_of[one.digest] for one in pinned[1::2]} == {"test"}


def test_one_held_out_part_is_halved_into_validation_and_test() -> None:
    samples = [sample(noise(i), LABELS[i % 2], source=f"s{i}", split="val" if i % 3 == 0 else "train") for i in range(150)]
    splits = _load(LABELS, samples)
    assert (len(splits.train), len(splits.val) + len(splits.test)) == (100, 50)
    assert min(len(splits.val), len(splits.test)) > 10
    assert any("half of the sources in 'val'" in note for note in splits.report.notes)


def test_data_of_one_source_is_split_picture_by_picture_and_says_so() -> None:
    samples = [sample(noise(i), LABELS[i % 2], source="camera-1") for i in range(200)]
    splits = _load(LABELS, samples)
    assert len(splits.val) > 10 and len(splits.test) > 10
    assert any("one source" in note for note in splits.report.notes)


def test_a_class_of_few_sources_is_in_every_split_and_named() -> None:
    samples = digits(900) + [sample(noise(i), "rare", source="one-camera") for i in range(60)]
    splits = _load((*LABELS, "rare"), samples)
    assert all((part.targets == 10).any() for part in (splits.train, splits.val, splits.test))
    assert any("'rare'" in note and "one by one" in note for note in splits.report.notes)


def test_a_label_without_pictures_is_not_promised_by_the_model() -> None:
    splits = _load((*LABELS, "unicorn"), digits(600))
    assert splits.labels == LABELS
    assert any("'unicorn'" in note for note in splits.report.notes)


@pytest.mark.parametrize(
    ("samples", "said"),
    [
        ([], "0 usable samples"),
        (digits(50), "50 usable samples, data.min_samples is 100"),
        ([sample(noise(i), "7") for i in range(150)], "all samples are labelled '7'"),
        ([sample(b"broken", "7", name=f"bad-{i}.png") for i in range(150)], "150 left out: not a readable image \\(bad-0.png"),
        ([sample(noise(i), "eight") for i in range(150)], "label 'eight' is not in the data set"),
        ([sample(noise(i), LABELS[i % 2], split="train") for i in range(150)], "no sample is left for 'val'"),
        ([sample(noise(i), LABELS[i % 2], split="test") for i in range(150)], "no sample is left for 'train'"),
    ],
)
def test_data_that_cannot_be_trained_on_is_refused_with_the_report(samples: list[RawSample], said: str) -> None:
    with pytest.raises(Invalid, match=said) as caught:
        _load(LABELS, samples)
    assert "data set 'digits' cannot be trained on" in str(caught.value)
    assert f"{len(samples)} samples given" in str(caught.value)


def test_normalisation_is_measured_on_training_pictures_only() -> None:
    white = np.full((32, 32, 3), 255, np.uint8)
    white[0, 0, 0] = 0
    held_out = []
    for i in range(100):
        pixels = white.copy()
        pixels[1 + i // 10, i % 10] = 0
        held_out.append(sample(png(pixels), LABELS[i % 10], split="val" if i % 2 else "test"))
    splits = _load(LABELS, [*digits(600), *held_out])
    expected = splits.train.contents[..., 0].mean() / 255
    assert splits.input.mean[0] == pytest.approx(expected, abs=1e-6)
    assert splits.input.std[0] == pytest.approx(splits.train.contents[..., 0].std() / 255, abs=1e-6)
    assert splits.input_for(Layout.NCHW).shape == (1, 3, 32, 32)


def test_calibration_frames_come_from_training_and_cover_the_classes() -> None:
    splits = _load(LABELS, digits())
    assert len(set(splits.calibration.tolist())) == SPEC.data.calibration
    counts = np.bincount(splits.train.targets[splits.calibration], minlength=10)
    assert counts.min() >= 6


def test_pictures_can_be_split_one_by_one_on_request() -> None:
    spec = parse("name: d\ndata: {dataset: d, split_by: sample}")
    splits = _load(LABELS, digits(600), spec)
    assert splits.report.notes == []


def test_unpinned_pictures_follow_the_pinned_ones_of_their_source() -> None:
    def track(i: int) -> str:
        return f"track-{i % 30}"

    pinned = [sample(noise(i), LABELS[i % 2], source=track(i), split="val" if i % 2 else "test") for i in range(30)]
    later = [sample(noise(100 + i), LABELS[i % 2], source=track(i)) for i in range(60)]
    split_of = _by_split([*digits(), *pinned, *later])
    assert [split_of[one.digest] for one in later] == ["val" if i % 2 else "test" for i in range(60)]


def test_what_comes_later_is_not_parted_because_only_two_splits_are_pinned() -> None:
    given = [sample(noise(i), LABELS[i % 2], source=f"s{i}", split="val" if i % 3 == 0 else "train") for i in range(150)]
    captured = [sample(noise(1000 + i), LABELS[i % 2], source=f"camera {i // 10}") for i in range(100)]
    split_of = _by_split([*given, *captured])
    assert {split_of[one.digest] for one in given} == {"train", "val", "test"}
    for start in range(0, 100, 10):
        assert len({split_of[one.digest] for one in captured[start : start + 10]}) == 1
