"""What the rest of a source says of a sample's label."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from cloud_hub.pipeline.clean import CleaningReport, Item
from cloud_hub.pipeline.slips import mended
from cloud_hub.pipeline.task import make
from protos.contract.ids import digest_of
from tests.hub.pipeline.evaluation.trained import flipped
from tests.hub.pipeline.parts import LABELS, digits, small_spec

CLASSES = ("bend", "stop", "yield")
FRAMES = 15


def _item(source: str, frame: int, label: str) -> Item:
    name = f"{source}-{frame}"
    return Item(content="", label=label, source=source, split="", digest=digest_of(name.encode()), group="", id=name)


def _tracks(count: int = 60) -> list[Item]:
    return [_item(f"track-{t}", i, CLASSES[t % 3]) for t in range(count) for i in range(FRAMES)]


def _slipped(items: Sequence[Item], share: float) -> list[Item]:
    draw = np.random.default_rng(0)
    others = {label: [other for other in CLASSES if other != label] for label in CLASSES}
    return [replace(one, label=str(draw.choice(others[one.label]))) if draw.random() < share else one for one in items]


def _parts(items: Sequence[Item]) -> list[str]:
    return [("train", "train", "val", "test")[int(one.source.split("-")[1]) % 4] for one in items]


@pytest.mark.parametrize("share", [0.03, 0.1])
def test_slips_within_tracks_are_mended_but_for_what_the_gate_judges_by(share: float) -> None:
    true, report = _tracks(), CleaningReport()
    given, parts = _slipped(true, share), _parts(true)
    kept = mended(given, parts, report)
    for was, now, truth, part in zip(given, kept, true, parts, strict=True):
        assert now.label == (was.label if part == "test" else truth.label)
    wrong = {one.id for one, truth in zip(given, true, strict=True) if one.label != truth.label}
    assert {one.id for one in report.slips} == wrong, "and those in 'test' are shown to people"
    assert all(0.5 <= one.margin <= 1 for one in report.slips)
    assert f"{len(wrong)} samples bear another label than the rest of their source" in report.notes[0]


def _alone(items: list[Item], label: str, every: int) -> list[Item]:
    return [replace(one, label=label) if i % every == 0 else one for i, one in enumerate(items)]


def _seen_besides(seed: int) -> list[Item]:
    """Each camera sees one class most of the time, and every other camera at times also others, by right."""
    draw, often = np.random.default_rng(seed), (0.02, 0.2) * 30
    true = _tracks()
    other = [draw.random() < often[int(one.source[6:])] for one in true]
    return [replace(one, label=str(draw.choice(CLASSES))) if by else one for one, by in zip(true, other, strict=True)]


def _unlike(draw: int) -> list[Item]:
    """Some sources are of one class, some of several."""
    items = _tracks()
    return [replace(one, label=CLASSES[i % 3]) if int(one.source[6:]) % 6 == draw else one for i, one in enumerate(items)]


@pytest.mark.parametrize(
    "items",
    [
        pytest.param(_tracks(), id="no label is wrong"),
        pytest.param([_item(f"camera-{i % 9}", i, CLASSES[i % 3]) for i in range(900)], id="cameras see every class"),
        pytest.param(_alone(_tracks(), "fault", FRAMES), id="a rare class that is never alone"),
        pytest.param(_unlike(0), id="a few sources are of several classes"),
        pytest.param(_slipped(_tracks(), 0.2), id="more others than anybody mistakes"),
        *(pytest.param(_seen_besides(seed), id=f"other classes by right, {seed}") for seed in range(3)),
        pytest.param(_slipped(_tracks(6), 0.1), id="too few sources"),
        pytest.param([replace(one, source=one.id) for one in _slipped(_tracks(), 0.1)], id="each its own source"),
        pytest.param(
            [replace(one, label="stop" if one.label == "bend" else one.label) for one in _slipped(_tracks(), 0.1)], id="two"
        ),
        pytest.param([], id="nothing"),
    ],
)
def test_nobody_is_accused_where_sources_are_not_of_one_class_each(items: list[Item]) -> None:
    report = CleaningReport()
    assert mended(items, ["train"] * len(items), report) == items
    assert not report.slips and not report.notes


def test_what_tests_has_no_say_in_what_others_learn_and_what_is_left_out_none_at_all() -> None:
    """Frames of one track are in several splits here, as with ``split_by: sample`` or ``time``."""
    slipped = _slipped(_tracks(), 0.05)
    parts = [("train", "train", "val", "test", "")[i % 5] for i in range(len(slipped))]
    changed = [replace(one, label="bend") if part in ("test", "") else one for one, part in zip(slipped, parts, strict=True)]
    first, second = CleaningReport(), CleaningReport()
    plain, other = mended(slipped, parts, first), mended(changed, parts, second)
    learnt = [i for i, part in enumerate(parts) if part in ("train", "val")]
    assert [plain[i].label for i in learnt] == [other[i].label for i in learnt] != [slipped[i].label for i in learnt]
    assert all(plain[i] is slipped[i] for i in range(len(slipped)) if i not in learnt)
    assert "" not in {one.split for one in first.slips} and "test" in {one.split for one in first.slips}


def test_a_job_mends_what_it_loads_unless_it_is_told_not_to() -> None:
    tracks = {label: 0 for label in LABELS}
    samples = []
    for one in digits(300):
        samples.append(replace(one, source=f"{one.label}-{tracks[one.label] // 10}", id=one.name))
        tracks[one.label] += 1
    truths = {one.id: one.label for one in samples}
    given = flipped(samples, LABELS, 0.1)
    splits = make(small_spec()).load(LABELS, given)
    said = {o.id: splits.labels[k] for s in (splits.train, splits.val) for o, k in zip(s.origins, s.targets, strict=True)}
    left = sum(truths[name] != label for name, label in said.items())
    flips = sum(truths[one.id] != one.label for one in given if one.id in said)
    assert left < 0.2 * flips, "a source that is parted by its splits may be too few samples to say anything"
    assert {one.split for one in splits.report.slips} == {"train", "val", "test"}
    plain = make(small_spec("labels: {noise: {sources: false}}\n")).load(LABELS, given)
    assert not plain.report.slips and plain.fingerprint != splits.fingerprint
