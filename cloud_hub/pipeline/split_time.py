"""The past trains, what came next validates, the newest tests: the order in which a deployed model will meet its data.

Unlike the split by source this one moves as data grows: what tests today trains tomorrow.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cloud_hub.core.errors import Invalid
from cloud_hub.core.spec_sections.data import DataSpec
from cloud_hub.pipeline.clean import Item

_NAMED = 10  # samples in a message
_OFF = 0.5  # of the smaller held-out part: so far a border may lie from where the shares put it, to leave sources whole


def borders(items: Sequence[Item], spec: DataSpec) -> tuple[int, int, list[str]]:
    """The times (ms) at which validation and test begin, and notes. Items at a border's very time are after it.

    Borders are where no source is under way, if there is such a moment near enough; else sources are cut.

    Raises:
        Invalid: a sample has no time, or too few times differ.
    """
    if untimed := [item.id or item.digest for item in items if item.at_ms <= 0]:
        more = f" and {len(untimed) - _NAMED} more" if len(untimed) > _NAMED else ""
        raise Invalid(
            f"data.split_by is time, but {len(untimed)} samples do not say when they were captured:"
            f" {', '.join(untimed[:_NAMED])}{more}"
        )
    times = np.sort(np.array([item.at_ms for item in items], np.int64))
    starts = np.flatnonzero(np.diff(times, prepend=times[:1]) > 0)  # rows at which a new time begins
    if len(starts) < 2:
        raise Invalid(f"data.split_by is time, but the samples have {len(starts) + 1 if len(times) else 0} times: 3 are needed")
    cut = _cut_sources(items, times[starts])
    count = len(times)
    off = _OFF * count * min(spec.val_share, spec.test_share)
    test = _nearest(starts[1:], cut[1:], count * (1 - spec.test_share), off)
    earlier = starts < test
    val = _nearest(starts[earlier], cut[earlier], count * (1 - spec.test_share - spec.val_share), off)
    notes = [
        f"{cut[starts == row][0]} sources run on from before where '{name}' begins to after it and are cut there:"
        " where samples of one source overlap in time, set data.gap_s to their length"
        for name, row in (("val", val), ("test", test))
        if cut[starts == row][0]
    ]
    return int(times[val]), int(times[test]), notes


def _cut_sources(items: Sequence[Item], at: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many sources have items both before and from each time on."""
    first: dict[str, int] = {}
    last: dict[str, int] = {}
    for item in items:
        first[item.source] = min(item.at_ms, first.get(item.source, item.at_ms))
        last[item.source] = max(item.at_ms, last.get(item.source, item.at_ms))
    begun, ended = (np.searchsorted(np.sort(list(ends.values())), at, "left") for ends in (first, last))
    cut: NDArray[np.int64] = (begun - ended).astype(np.int64)
    return cut


def _nearest(rows: NDArray[np.int64], cut: NDArray[np.int64], wanted: float, off: float) -> int:
    """The row nearest to ``wanted``; within ``off`` one that cuts no source comes first."""
    whole = rows[(cut == 0) & (np.abs(rows - wanted) <= off)]
    among = whole if len(whole) else rows
    return int(among[np.argmin(np.abs(among - wanted))])
