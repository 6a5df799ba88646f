"""One page per job that a person reads before a model goes to devices, or to learn why it does not; and the same as JSON."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import yaml

from cloud_hub.core.html import Cell, Mark, Page
from cloud_hub.pipeline.evaluation import drawings, sections
from cloud_hub.pipeline.evaluation.bootstrap import Interval
from cloud_hub.pipeline.evaluation.conditions import Found
from cloud_hub.pipeline.evaluation.made import Made
from cloud_hub.pipeline.evaluation.sections import LISTED

MAX_BYTES = 8 << 20  # of a page: the lists on it are bounded, so that it stays far below


def document(made: Made) -> dict[str, object]:
    """The page as JSON."""
    return {
        "model": made.name,
        "judged": made.target,
        "job": dict(made.report),
        "findings": made.findings.as_json(),
        "shown": [each.as_json() for each in made.shown],
        "training": {name: [dict(epoch) for epoch in epochs] for name, epochs in made.histories.items()},
    }


def page(made: Made) -> str:
    """HTML that stands alone: all texts of users are escaped, nothing is loaded, nothing runs."""
    reason = str(made.report.get("reason") or "")
    whole = Page(f"{made.name}: {'refused' if reason else 'passes the gate'}", f"{made.report.get('task')}, {made.target}")
    with drawings.styled():
        _summary(whole, made, reason)
        _files(whole, made)
        _parts(whole, made)
        sections.calibration(whole, made)
        sections.curves(whole, made)
        sections.confusion(whole, made)
        sections.numbers(whole, made)
        sections.samples(whole, made)
        sections.suspects(whole, made)
        _compression(whole, made)
        _data(whole, made)
        _training(whole, made)
    whole.section("Specification")
    whole.code(yaml.safe_dump(_plain(made.report.get("spec", {})), sort_keys=False, allow_unicode=True))
    return whole.html()


def _summary(page: Page, made: Made, reason: str) -> None:
    found, metric = made.findings, made.metric.name
    page.section("Verdict")
    page.text(f"Refused: {reason}" if reason else "It passes the gate.", good=not reason)
    against = made.report.get("champion")
    if isinstance(against, Mapping):
        page.text(f"Champion, version {against.get('version')}: {against.get('verdict', '')}")
    facts: dict[str, Cell] = {f"{metric} on {len(made.splits.test):,} test samples": _between(found.overall)}
    if isinstance(against, Mapping) and isinstance(gain := against.get("gain"), Mapping):
        facts["gain over the champion"] = _ends(gain.get("low"), gain.get("middle"), gain.get("high"), gain.get("level"))
    if found.worst is not None:
        sure = "surely worse than the whole" if found.worst.surely_worse else "not surely worse than the whole"
        facts["worst condition"] = f"{found.worst.condition}, {found.worst.name}: {_between(found.worst.value)}, {sure}"
    if after := found.calibration.get("after"):
        facts["calibration error"] = f"{after.ece:.3f} expected, {after.mce:.3f} at most"
    if found.suspects:
        facts["labels that look wrong"] = len(found.suspects)
    page.facts(facts)
    page.text(
        f"Behind each figure stands the interval that holds the true one in {found.overall.level:.0%} of all cases; drawn from"
        f" {found.overall.units:,} {found.overall.unit}."
    )


def _files(page: Page, made: Made) -> None:
    variants = made.report.get("variants")
    if not isinstance(variants, Mapping) or not variants:
        return
    page.section("Files", "Each in the runtimes devices run it in, on the test split.")
    refused = made.report.get("refused")
    why = refused if isinstance(refused, Mapping) else {}
    rows: list[list[Cell]] = []
    for target, each in variants.items():
        verdict = Mark(str(why[target]), good=False) if target in why else Mark("passes", good=True)
        size = each.get("size_bytes")
        rows.append(
            [
                str(target),
                each.get(made.metric.name),
                each.get("output_error"),
                each.get("latency_p50_ms"),
                round(size / 1024) if isinstance(size, int) else None,
                verdict,
            ]
        )
    page.table(["target", made.metric.name, "output error", "p50 ms", "KiB", "gate"], rows)


def _parts(page: Page, made: Made) -> None:
    found, metric = made.findings, made.metric.name
    if found.classes:
        page.section("Classes", "The worst first.")
        _forest(page, found.classes, found.overall, metric, named=False)
    elif by_class := _by_class(made):
        page.section("Classes")
        page.table(["class", "figure"], [[name, value] for name, value in sorted(by_class.items(), key=lambda item: item[1])])
    if found.parts:
        page.section("Devices and conditions", "Beside each name the number of samples; the blue band is the whole.")
        _forest(page, found.parts, found.overall, metric, named=True)
        surely = [each for each in found.parts if each.surely_worse]
        page.items(f"{each.condition}, {each.name} is surely worse: {_between(each.value)}" for each in surely)


def _by_class(made: Made) -> dict[str, float]:
    tests = made.report.get("variants")
    mine = (made.report.get("test") or {}).get(made.target) or (made.report.get("student") or {}).get("test") or {}
    found = mine.get("by_class") if isinstance(tests, Mapping) and isinstance(mine, Mapping) else None
    return dict(found) if isinstance(found, Mapping) else {}


def _forest(page: Page, found: Sequence[Found], whole: Interval, metric: str, *, named: bool) -> None:
    def name(each: Found) -> str:
        return f"{each.condition} {each.name}" if named else each.name

    page.figure(drawings.forest([(name(each)[:60], each.value, each.samples) for each in found], whole, metric))
    rows: list[list[Cell]] = [
        [
            *([each.condition] if named else []),
            each.name,
            each.samples,
            each.value.middle,
            _ends(each.value.low, None, each.value.high, each.value.level),
            Mark("surely worse", good=False) if each.surely_worse else "",
        ]
        for each in found
    ]
    page.table([*(["condition"] if named else []), "which", "samples", metric, "surely", ""], rows)


def _compression(page: Page, made: Made) -> None:
    """Whatever the stages before have left in the job's report."""
    variants = made.report.get("variants")
    files = variants if isinstance(variants, Mapping) else {}
    parities = {target: parity for target, each in files.items() if (parity := each.get("parity"))}
    for title, part in (
        ("Compression", made.report.get("compression")),
        ("Parity with the network", parities),
        ("Labels", made.report.get("labels")),
    ):
        if part:
            page.section(title)
            _any(page, part)


def _data(page: Page, made: Made) -> None:
    data = made.report.get("data")
    if not isinstance(data, Mapping):
        return
    page.section("Data")
    sizes = data.get("splits")
    facts: dict[str, Cell] = {f"{name} samples": int(n) for name, n in sizes.items()} if isinstance(sizes, Mapping) else {}
    facts |= {str(key): value for key, value in data.items() if isinstance(value, str | int | float)}
    page.facts(facts)
    if isinstance(dropped := data.get("dropped"), Mapping) and dropped:
        page.table(["left out because", "samples"], [[str(why), int(count)] for why, count in dropped.items()])
    if isinstance(notes := data.get("notes"), Sequence):
        page.items(str(note) for note in notes)


def _training(page: Page, made: Made) -> None:
    page.section("Training")
    if any(made.histories.values()):
        page.figure(drawings.training(made.histories, made.metric.name))
    for name in ("teacher", "student"):
        if isinstance(each := made.report.get(name), Mapping):
            page.heading(name)
            page.facts({str(key): value for key, value in each.items() if isinstance(value, str | int | float)})
    if isinstance(stages := made.report.get("stages_s"), Mapping) and stages:
        page.table(["stage", "seconds"], [[str(stage), float(seconds)] for stage, seconds in stages.items()])
    if isinstance(made_with := made.report.get("made_with"), Mapping):
        page.heading("made with")
        page.facts({str(key): value for key, value in made_with.items() if isinstance(value, str | int | float)})


def _any(page: Page, part: object) -> None:
    """JSON whose shape its own module knows: lists of records as tables, the rest as facts."""
    if isinstance(part, Mapping):
        page.facts({str(key): value for key, value in part.items() if isinstance(value, str | int | float | bool)})
        for key, value in part.items():
            if isinstance(value, Mapping | Sequence) and not isinstance(value, str) and value:
                page.heading(str(key))
                _any(page, value)
    elif isinstance(part, Sequence) and not isinstance(part, str):
        records = [each for each in part if isinstance(each, Mapping)][:LISTED]
        if records:
            columns = list(dict.fromkeys(key for each in records for key in each))
            page.table([str(key) for key in columns], [[_cell(each.get(key)) for key in columns] for each in records])
        else:
            page.items(str(each) for each in list(part)[:LISTED])


def _cell(value: object) -> Cell:
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def _between(each: Interval) -> str:
    return _ends(each.low, each.middle, each.high, each.level)


def _ends(low: object, middle: object, high: object, level: object) -> str:
    numbers = [value for value in (low, high) if isinstance(value, int | float) and np.isfinite(value)]
    between = f"{numbers[0]:.4g} to {numbers[1]:.4g}" if len(numbers) == 2 else "not known how surely"
    return f"{middle:.4g} ({between})" if isinstance(middle, int | float) else between


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, list | tuple) else value
