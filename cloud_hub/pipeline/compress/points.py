"""What a search has found: one point for each file, which of them nothing else beats, and which is the best."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from cloud_hub.core.tasks import Metric
from cloud_hub.pipeline.export import Artifact
from cloud_hub.pipeline.int8 import PLAIN, Int8
from cloud_hub.pipeline.task import Score
from cloud_hub.pipeline.timing import Speedup
from cloud_hub.pipeline.verify import RuntimeCheck

MOST_CHOICES = 3  # that see the test split: with each more, one is likelier to pass by luck
_SAME = 1.05  # files whose costs differ by less are equal: timings do


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """One network of a search."""

    ratio: float  # share of each layer's channels that was cut; 0: the student as it is
    trained: str  # "": not again; "distilled", "labels": on what
    parameters: int
    macs: int  # of one sample; 0: not known

    def __str__(self) -> str:
        return f"cut by {self.ratio:.0%}, {self.trained}" if self.ratio else "not cut"


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One file of it, measured on the validation split and in the best runtime here. The gate reads it as it reads any file."""

    cut: Cut
    how: Int8 | None  # None: fp32
    artifact: Artifact
    score: Score
    output_error: float  # |file - its network| / |its network|
    latency_p50_ms: float  # one thread, in turns with all the others
    speedup: Speedup | None  # of int8 over fp32 of the same network
    against_plain: tuple[float, float]  # its share of the size and of the latency of the uncut network's fp32 file
    problem: str = ""
    where: str = ""
    runtimes: Mapping[str, RuntimeCheck] = field(default_factory=dict)
    refused: str = ""
    on_front: bool = False  # no other file of its format that may be published is as good in everything
    picked: bool = False

    def as_json(self, metric: Metric) -> dict[str, object]:
        size, latency = self.against_plain
        return {
            "cut": self.cut.ratio,
            "trained": self.cut.trained,
            "target": self.artifact.target,
            "how": str(self.how) if self.how else "",
            metric.name: round(self.score.value, 5),
            "output_error": round(self.output_error, 6),
            "latency_p50_ms": round(self.latency_p50_ms, 4),
            "size_bytes": len(self.artifact.data),
            "parameters": self.cut.parameters,
            "macs": self.cut.macs,
            "speedup": round(1 / latency, 3),
            "smaller": round(1 / size, 3),
            "front": self.on_front,
            "picked": self.picked,
            "refused": self.refused,
        }


def cost(point: Point, objective: str) -> float:
    """What is to be small: shares of the uncut network's fp32 file."""
    size, latency = point.against_plain
    return {"size": size, "latency": latency, "balanced": math.sqrt(size * latency)}[objective]


def front(points: Sequence[Point], metric: Metric) -> list[bool]:
    """Which of those the gate lets through are beaten by no other of their format in everything at once."""
    figures = [
        (
            _good(point, metric),
            -point.output_error,
            -point.latency_p50_ms,
            -len(point.artifact.data),
        )
        for point in points
    ]
    return [
        not point.refused
        and not any(
            not other.refused
            and other.artifact.format is point.artifact.format
            and theirs != ours
            and all(their >= our for their, our in zip(theirs, ours, strict=True))
            for other, theirs in zip(points, figures, strict=True)
        )
        for point, ours in zip(points, figures, strict=True)
    ]


def choices(points: Sequence[Point], targets: Sequence[str], objective: str, metric: Metric) -> list[list[Point]]:
    """What goes to the gate in turn, best first: for each network one file of each target.

    First comes the network that serves most targets, of those the cheapest. At most MOST_CHOICES, and the last is the student
    as it is: in plain int8 where none of its files may be published; the gate then says why not.
    """
    ranked: list[tuple[int, float, int, list[Point]]] = []
    for cut in dict.fromkeys(point.cut for point in points):
        chosen = []
        for target in targets:
            fitting = [each for each in points if each.cut == cut and each.artifact.target == target and not each.refused]
            if fitting:
                least = min(cost(each, objective) for each in fitting)
                near = [each for each in fitting if cost(each, objective) <= least * _SAME]
                chosen.append(max(near, key=lambda each: (_good(each, metric), -each.output_error)))
        if chosen:
            mean = math.exp(sum(math.log(cost(each, objective)) for each in chosen) / len(chosen))
            ranked.append((-len(chosen), mean, len(ranked), chosen))
    found = [chosen for *_, chosen in sorted(ranked)]
    cuts = [chosen for chosen in found if chosen[0].cut.ratio]
    plain = [each for each in points if not each.cut.ratio and each.how in (None, PLAIN) and each.artifact.target in targets]
    whole = next((chosen for chosen in found if not chosen[0].cut.ratio), plain)
    if found and found[0] is whole:
        return found[:MOST_CHOICES]
    return [*cuts[: MOST_CHOICES - 1], whole]


def lines(points: Sequence[Point], metric: Metric) -> list[str]:
    """The table, row by row."""
    head = ("cut", "trained", "file", "int8", metric.name, "error", "p50 ms", "KiB", "parameters", "MACs", "")
    rows = [head, *(_cells(point) for point in points)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(head) - 1)]
    aligned = [[cell.ljust(width) for cell, width in zip(row, widths, strict=False)] + [row[-1]] for row in rows]
    return ["  ".join(cells).rstrip() for cells in aligned]


def _good(point: Point, metric: Metric) -> float:
    return point.score.value if metric.higher_is_better else -point.score.value


def _cells(point: Point) -> tuple[str, ...]:
    marks = (("picked", point.picked), ("front", point.on_front), (f"refused: {point.refused}", point.refused))
    return (
        f"{point.cut.ratio:.0%}",
        point.cut.trained or "-",
        point.artifact.target,
        str(point.how) if point.how else "-",
        f"{point.score.value:.4f}",
        f"{point.output_error:.4f}",
        f"{point.latency_p50_ms:.3f}",
        f"{len(point.artifact.data) / 1024:.1f}",
        str(point.cut.parameters),
        str(point.cut.macs or "-"),
        ", ".join(mark for mark, holds in marks if holds),
    )
