"""Parts of a report that show how answers go wrong."""

from collections.abc import Sequence

import numpy as np

from cloud_hub.core.html import Cell, Page
from cloud_hub.pipeline.data import Splits
from cloud_hub.pipeline.evaluation import drawings, gallery
from cloud_hub.pipeline.evaluation.answers import Numeric
from cloud_hub.pipeline.evaluation.curves import QUANTILES
from cloud_hub.pipeline.evaluation.gallery import Shown
from cloud_hub.pipeline.evaluation.made import Made
from protos.contract.inputs import ImageInput, WindowInput
from protos.contract.samples import Window

LISTED = 30  # rows of a list on the page; the JSON has more
_MOST_CONFUSED = 64  # classes of a matrix that can still be read
_GALLERY = 24  # wrong pictures
_EXPLAINED = {
    "IMAGE": "Beside each picture, bright: the pixels whose change would change the answer most (SmoothGrad).",
    "WINDOW": "Where it is orange, the readings spoke for the answer, where violet against it (gradient times input).",
    "ROW": "Features above 0 spoke for the answer, those below against it (gradient times input).",
    "TEXT": "How much the answer would lose without the word.",
}


def calibration(page: Page, made: Made) -> None:
    both = made.findings.calibration
    if not both:
        return
    page.section(
        "Calibration",
        "Of answers given with a confidence of 0.9 nine in ten should be right; before and after the temperature.",
    )
    page.figure(drawings.reliability(both))
    rows: list[list[Cell]] = [[name, each.ece, each.mce, each.brier] for name, each in both.items()]
    page.table(["", "expected error", "largest error", "Brier"], rows)


def curves(page: Page, made: Made) -> None:
    found = made.findings
    if not (found.roc or found.precision_recall or found.risk_coverage):
        return
    page.section("Curves", "Of the worst classes; the area in brackets.")
    if found.roc:
        page.figure(
            drawings.lines(found.roc, "false positives", "true positives", diagonal=True), "each class against the rest"
        )
    if found.precision_recall:
        page.figure(drawings.lines(found.precision_recall, "recall", "precision"))
    if found.risk_coverage is not None:
        curve = {"": found.risk_coverage}
        page.figure(
            drawings.lines(curve, "share answered, surest first", "share wrong"), f"area {found.risk_coverage.area:.4f}"
        )


def confusion(page: Page, made: Made) -> None:
    found, labels = made.findings, made.splits.labels
    if found.confusion is None or not found.confusions:
        return
    page.section("Confusion")
    if len(found.confusion) <= _MOST_CONFUSED:
        page.figure(drawings.confusion(found.confusion, labels))
    page.table(["is", "said to be", "times"], [list(each) for each in found.confusions])


def numbers(page: Page, made: Made) -> None:
    found, told = made.findings.residuals, made.findings.answers
    if not found or not isinstance(told, Numeric):
        return
    page.section("Errors of the values")
    off = (told.values - told.truths)[:, told.headline]
    known = np.isfinite(off)
    page.figure(drawings.residuals(off[known], told.truths[known, told.headline], told.names[told.headline]))
    if len(found) > 1:
        page.figure(
            drawings.horizons([e.name for e in found], [e.mae for e in found], [e.rmse for e in found]), "by value told"
        )
    rows: list[list[Cell]] = [[e.name, e.samples, e.mae, e.rmse, e.bias, *e.quantiles] for e in found[:LISTED]]
    page.table(["value", "samples", "mean abs.", "RMSE", "bias", *(f"p{q * 100:g}" for q in QUANTILES)], rows)


def samples(page: Page, made: Made) -> None:
    kind, errors = made.splits.input.kind, made.findings.errors
    if made.shown:
        page.section("What answers stand on", _EXPLAINED.get(kind.name, ""))
    for good, title in ((True, "right"), (False, "wrong"), (None, "nearest and furthest")):
        some = [each for each in made.shown if each.right is good]
        if some:
            page.heading(title)
            _shown(page, some, made.splits)
    if errors:
        page.section("Wrong answers", f"{len(errors)} of them, the surest first.")
        test = made.splits.test
        if isinstance(made.splits.input, ImageInput):
            first = errors[:_GALLERY]
            captions = [f"is {e.truth}, said {e.said} at {e.confidence:.2f} ({e.id})" for e in first]
            page.pictures(gallery.pictures([test.contents[e.row] for e in first], captions))
        else:
            rows: list[list[Cell]] = [
                [e.id, e.truth, e.said, e.confidence, gallery.excerpt(test.contents[e.row])] for e in errors[:LISTED]
            ]
            page.table(["sample", "is", "said", "confidence", "content"], rows)


def _shown(page: Page, some: Sequence[Shown], splits: Splits) -> None:
    images = [(gallery.picture(each, splits.input.kind), f"{each.words} ({each.id})") for each in some]
    page.pictures([(data, caption) for data, caption in images if data is not None])
    for each in some:
        if isinstance(splits.input, WindowInput) and isinstance(each.content, Window):
            drawn = drawings.window(each.content, each.saliency.map, splits.input.channels)
            page.figure(drawn, f"{each.words} ({each.id})")
    listed = [each for each in some if each.saliency.names and not isinstance(splits.input, WindowInput)]
    rows: list[list[Cell]] = [
        [
            each.id,
            each.words,
            ", ".join(f"{name} {share:+.3g}" for name, share in each.saliency.names),
            gallery.excerpt(each.content),
        ]
        for each in listed
    ]
    if rows:
        page.table(["sample", "answer", "stands on", "content"], rows)


def _strongest(each: Shown) -> str:
    return ", ".join(f"{name} {share:+.3g}" for name, share in each.saliency.names)


def suspects(page: Page, made: Made) -> None:
    found = made.findings.suspects
    if not found:
        return
    page.section(
        "Labels that look wrong",
        "The network says otherwise, and surely. Look at them again: `hubctl sample label` mends them; a model"
        " that trains on wrong labels is worse than it could be, and one that is tested on them looks worse than it is.",
    )
    rows: list[list[Cell]] = [[each.id, each.split, each.label, each.likely, each.margin] for each in found[:LISTED]]
    page.table(["sample", "split", "label", "more likely", "by"], rows)
    some = [each for each in found if each.split != "train"][:_GALLERY]
    if isinstance(made.splits.input, ImageInput):
        contents = [getattr(made.splits, each.split).contents[each.row] for each in some]
        page.pictures(gallery.pictures(contents, [f"{each.label}? {each.likely} ({each.id})" for each in some]))
