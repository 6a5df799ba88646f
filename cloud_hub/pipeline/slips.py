"""Labels that the rest of their source contradicts: frames of a track show one sign, and what a few bear besides is a slip.

Of sources that are of several classes, as cameras are, nothing is said. What bears another label must be little, scattered over
all sources as slips are, and of no class the rule. Of two classes none is asked: a source of one with a little of the other is
too usual.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from cloud_hub.pipeline.clean import CleaningReport, Item, Suspect
from cloud_hub.pipeline.split import TEST, TRAIN, VAL

_CROWD, _CROWDS = 5, 8  # samples that make a source worth asking, and sources that make a habit
_MIXED = 0.15  # of their samples: where more bear another label than most of their source, sources are not of one class
_UNEVEN = 2.0  # standard deviations above the variance of slips that come by chance: some sources then are of several classes
_RULE = 0.3  # of the samples of a class: where more stand alone in their source, that is how the class occurs
_SURE = 0.5  # of a source that the usual label must be ahead by


def mended(items: Sequence[Item], parts: Sequence[str], report: CleaningReport) -> list[Item]:
    """The items, of those that train and validate each slip with its source's label; slips of every split are reported.

    ``parts`` are their splits; what has none is left out. What tests keeps its label: nothing but people may change what the
    gate judges by. Nor has it a say in what the others learn, where samples of one source are in several splits.
    """
    kept = list(items)
    learn = [i for i, part in enumerate(parts) if part in (TRAIN, VAL)]
    judge = [i for i, part in enumerate(parts) if part in (TRAIN, VAL, TEST)]
    found = [*_outvoted(items, learn), *(one for one in _outvoted(items, judge) if parts[one[0]] == TEST)]
    for i, likely, margin in sorted(found):
        item = items[i]
        report.slips.append(Suspect(id=item.origin.id, split=parts[i], label=item.label, likely=likely, margin=margin))
        if parts[i] != TEST:
            kept[i] = replace(item, label=likely)
    if report.slips:
        held = sum(one.split == TEST for one in report.slips)
        report.notes.append(
            f"{len(report.slips)} samples bear another label than the rest of their source, where each source is of one class: "
            f"{len(report.slips) - held} take that label, {held} in 'test' stay as they are (labels.noise.sources)"
        )
    return kept


def _outvoted(items: Sequence[Item], asked: Sequence[int]) -> list[tuple[int, str, float]]:
    """(index, label of the rest, 0..1 how far that is ahead), of those ``asked`` and by them."""
    if not asked:
        return []
    labels, label = np.unique([items[i].label for i in asked], return_inverse=True)
    _, source = np.unique([items[i].source for i in asked], return_inverse=True)
    counts = np.zeros((source.max() + 1, len(labels)), np.int64)
    np.add.at(counts, (source, label), 1)
    size, usual, most = counts.sum(1), counts.argmax(1), counts.max(1)
    crowd = size >= _CROWD
    if not _of_one_class(counts[crowd]):
        return []
    alone = crowd[source] & (label != usual[source])
    rule = np.bincount(label[alone], minlength=len(labels)) > _RULE * counts[crowd].sum(0)
    ahead = (most[source] - counts[source, label]) / size[source]
    rows = np.flatnonzero(alone & ~rule[label] & (ahead >= _SURE))
    return [(asked[row], str(labels[usual[source[row]]]), float(ahead[row])) for row in rows]


def _of_one_class(counts: NDArray[np.int64]) -> bool:
    """Of sources ``(S, K)``: whether they are of one class each, but for what may be slips."""
    many, others = counts.sum(1), counts.sum(1) - counts.max(1, initial=0)
    share = others.sum() / max(1, many.sum())
    if counts.shape[1] < 3 or len(counts) < _CROWDS or len(np.unique(counts.argmax(1))) < 2 or not 0 < share <= _MIXED:
        return False
    spread = np.square(others - share * many) / (share * (1 - share) * many)
    free = len(many) - 1  # degrees of freedom of the chi-squared that slips by chance give: its variance is twice that
    return bool(spread.sum() <= free + _UNEVEN * np.sqrt(2 * free))
