from dataclasses import replace

import numpy as np
import pytest

from cloud_hub.pipeline.clean import TEACHER, clean
from cloud_hub.pipeline.images import decoder, sized
from edge_agent.infer.preprocess import preprocess
from protos.contract.inputs import ImageInput, Layout
from tests.hub.pipeline.parts import noise, png, sample

DECODE = decoder(32, 32, 3)
LABELS = ("cat", "dog")


def test_everything_that_is_left_out_is_counted_and_named() -> None:
    good = noise(1)
    samples = [
        sample(good, "cat", name="good.png"),
        sample(good[:40], "cat", name="cut.png"),
        sample(b"", "cat", name="empty.png"),
        sample(b"GIF89a no", "dog", name="not.gif"),
        sample(noise(2, side=4), "dog", name="tiny.png"),
        sample(noise(3), "horse", name="horse.png"),
        sample(noise(4), "", name="unlabelled.png"),
        sample(good, "cat", name="again.png"),
    ]
    items, report = clean(samples, DECODE, LABELS, limit=100)
    assert [item.label for item in items] == ["cat"]
    assert (report.given, report.kept, sum(report.dropped.values())) == (8, 1, 7)
    said = "\n".join(report.lines())
    for name in ("cut.png", "empty.png", "not.gif", "tiny.png", "horse.png", "unlabelled.png", "again.png"):
        assert name in said
    assert "'horse' is not in the data set" in said


def test_the_same_picture_under_two_labels_is_kept_under_none() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    other_file = png(np.asarray(pixels)) + b"trailing bytes make another digest"
    samples = [
        sample(png(pixels), "cat", name="a"),
        sample(other_file, "dog", name="b"),
        sample(png(pixels), "cat", name="c"),
        sample(noise(1), "dog", name="d"),
    ]
    items, report = clean(samples, DECODE, LABELS, limit=100)
    assert [item.label for item in items] == ["dog"]
    assert report.dropped == {"the same under different labels": 3}


@pytest.mark.parametrize("taught_first", [True, False])
@pytest.mark.parametrize("origin", ["human", "import", "truth", ""])
def test_a_teachers_label_of_the_same_picture_gives_way(origin: str, taught_first: bool) -> None:
    for label in ("cat", "dog"):
        known = replace(sample(noise(1), "cat", source="known", name="known"), origin=origin)
        taught = replace(sample(noise(1), label, source="taught", name="taught"), origin=TEACHER)
        [item], report = clean([taught, known] if taught_first else [known, taught], DECODE, LABELS, limit=100)
        assert (item.label, item.label_origin) == ("cat", origin)
        if label == "dog":
            assert item.source == "known" and report.examples == {"the same under another label than a teacher's": ["taught"]}


def test_a_pin_given_with_a_copy_holds_for_the_picture() -> None:
    samples = [sample(noise(1), "cat"), sample(noise(1), "cat", split="test")]
    items, _ = clean(samples, DECODE, LABELS, limit=100)
    assert [item.split for item in items] == ["test"]


def test_above_the_limit_the_oldest_go() -> None:
    samples = [sample(noise(i), "cat", name=f"{i}.png") for i in range(5)]
    items, report = clean(samples, DECODE, LABELS, limit=3)
    assert [item.digest for item in items] == [one.digest for one in samples[2:]]
    assert report.examples["more than data.max_samples (3): the oldest"] == ["0.png", "1.png"]


@pytest.mark.parametrize("channels", [1, 3])
def test_a_frame_is_resized_as_the_device_resizes_it(channels: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (61, 83, 3), dtype=np.uint8)
    small = sized(pixels, 32, 24, channels)
    spec = ImageInput(width=32, height=24, channels=channels, layout=Layout.NCHW, mean=(0.3,) * channels, std=(0.2,) * channels)
    assert small.shape == (24, 32, 3)
    np.testing.assert_array_equal(preprocess(small, spec), preprocess(pixels, spec))
