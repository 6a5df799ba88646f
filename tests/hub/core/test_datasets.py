"""What became of samples from one version to another."""

from dataclasses import replace

from cloud_hub.core.datasets import Holding, VersionSample, changes, content_digest
from cloud_hub.core.tasks import Annotation
from protos.contract.ids import digest_of
from protos.contract.inputs import SampleKind

HOLDING = Holding(name="numbers", kind=SampleKind.ROW, annotation=Annotation.CLASS, labels=("one", "two"))
SAMPLES = sorted(
    (
        VersionSample(id=str(n), digest=digest_of(bytes([n])), label="one", source=f"s{n}", split="", name=f"{n}", added_ms=n)
        for n in range(5)
    ),
    key=lambda sample: sample.digest,
)


def test_every_change_is_counted_by_what_it_is() -> None:
    first, second, third, fourth, fifth = SAMPLES
    found = changes([first, second, third, fourth], [replace(second, label="two"), third, replace(fourth, split="test"), fifth])
    assert (found.added, found.removed, found.relabelled, found.moved) == (1, 1, 1, 1)
    assert {(change.what, change.before, change.after) for change in found.examples} >= {
        ("relabelled", "one", "two"),
        ("moved", f"- {fourth.source}", f"test {fourth.source}"),
    }


def test_nothing_changes_from_a_version_to_itself() -> None:
    assert changes(SAMPLES, SAMPLES).examples == []


def test_a_digest_is_of_content_label_split_and_source_and_of_nothing_else() -> None:
    digest = content_digest(HOLDING, SAMPLES)
    assert digest == content_digest(HOLDING, [replace(sample, name="other", added_ms=9, origin="human") for sample in SAMPLES])
    for change in ({"label": "two"}, {"split": "val"}, {"source": "x"}, {"digest": digest_of(b"x")}):
        assert digest != content_digest(HOLDING, [replace(SAMPLES[0], **change), *SAMPLES[1:]])  # type: ignore[arg-type]
    assert digest != content_digest(replace(HOLDING, labels=("two", "one")), SAMPLES)
