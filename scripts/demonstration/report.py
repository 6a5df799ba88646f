"""Numbers and pictures of one demo run: the closing table, ``report.html`` and ``summary.json``; and the verdict."""

import base64
import html
import io
import json
from collections import Counter, defaultdict
from datetime import datetime
from typing import TYPE_CHECKING, Any

from rich.table import Table

if TYPE_CHECKING:
    from scripts.demonstration.main import Demo

PHASES = {"day": "day, first model", "changed": "changed scene, first model", "after": "changed scene, retrained model"}


def settle(demo: "Demo") -> None:
    """Join what was shown with what was stored, and put the numbers under ``demo.facts['summary']``."""
    shown = {picture.key: picture for picture in demo.cameras.shown}
    first, second = (demo.facts[job]["published_version"] for job in ("first_job", "second_job"))
    version_of = {
        variant["manifest_digest"]: version["version"] for version in demo.facts["versions"] for variant in version["variants"]
    }
    hits: dict[tuple[str, str], Counter[bool]] = defaultdict(Counter)
    stored: Counter[int] = Counter()
    points: list[tuple[float, bool, int]] = []
    for reading in demo.facts["readings"]:
        key = int(reading["frame_key"])
        stored[key] += 1
        picture = shown.get(key)
        if picture is None or picture.phase not in PHASES:
            continue
        version = version_of[reading["model_manifest"]]
        hit = reading["label_name"] == picture.label
        points.append((_seconds(reading["captured_at"]), hit, version))
        if (picture.phase, version) in (("day", first), ("changed", first), ("after", second)):
            hits[picture.phase, picture.device][hit] += 1
            hits[picture.phase, "fleet"][hit] += 1
    counted = {picture.key for picture in shown.values() if picture.phase != "start"}
    stats = demo.facts["stats"]["devices"]
    demo.facts["summary"] = {
        "scene": demo.scene.name,
        "seconds": round(demo.timeline.elapsed_s, 1),
        "accuracy": {f"{phase}/{device}": round(c[True] / c.total(), 4) for (phase, device), c in sorted(hits.items())},
        "frames_shown": len(counted),
        "frames_stored": len(counted & set(stored)),
        "frames_stored_twice": sum(1 for count in stored.values() if count > 1),
        "records_stored": sum(int(s["records"]) for s in stats),
        "records_in_gaps": sum(int(s["gap_records"]) for s in stats),
        "duplicate_batches_ignored": sum(int(s["duplicate_batches"]) for s in stats),
        "telemetry_bytes": sum(int(s["payload_bytes"]) for s in stats),
        "model_bytes": _model_bytes(demo),
        "samples_labelled": demo.facts["labelled"],
        "drift_episodes": len(demo.facts["drift"]),
        "seconds_until_the_worse_version_stopped": demo.facts["stopped_s"],
    }
    demo.facts["points"] = sorted(points)


def _model_bytes(demo: "Demo") -> int:
    """Model files sent to devices, over all rollouts."""
    size = {(v["version"], a["target"]): int(a["artifact_size_bytes"]) for v in demo.facts["versions"] for a in v["variants"]}
    devices = [(rollout["version"], d["target"]) for rollout in demo.facts["rollouts"] for d in rollout["devices"]]
    return sum(size[version, target] for version, target in devices if target)  # not dispatched: it got no file


def conclude(demo: "Demo") -> int:
    """Print the table, write the page; 0 if the loop closed, 1 with the reason otherwise."""
    summary = demo.facts["summary"]
    demo.folder.joinpath("summary.json").write_text(json.dumps(summary, indent=2))
    page = demo.folder / "report.html"
    page.write_text(_page(demo))
    _print(demo)
    demo.timeline.console.print(f"report: {page}", highlight=False)
    complaints = _complaints(summary)
    for complaint in complaints:
        demo.timeline.console.print(f"[bold red]demo failed:[/bold red] {complaint}", highlight=False)
    return 1 if complaints else 0


def _complaints(summary: dict[str, Any]) -> list[str]:
    from scripts.demonstration.main import RECOVERED

    accuracy = {phase: summary["accuracy"].get(f"{phase}/fleet", 0.0) for phase in PHASES}
    lost = accuracy["day"] - accuracy["changed"]
    found = []
    if lost < 0.02:
        found.append(f"the changed scene cost no accuracy ({accuracy['day']:.3f} -> {accuracy['changed']:.3f})")
    elif accuracy["after"] - accuracy["changed"] < RECOVERED * lost:
        found.append(
            f"accuracy did not recover: {accuracy['changed']:.3f} -> {accuracy['after']:.3f}, day {accuracy['day']:.3f}"
        )
    if summary["frames_stored"] != summary["frames_shown"]:
        found.append(f"{summary['frames_shown'] - summary['frames_stored']} frames are missing from the store")
    if summary["frames_stored_twice"]:
        found.append(f"{summary['frames_stored_twice']} frames are stored more than once")
    return found


def _print(demo: "Demo") -> None:
    console, summary = demo.timeline.console, demo.facts["summary"]
    devices = ["fleet", *demo.cameras.folders]
    table = Table("accuracy", *devices, title="What the cameras got right")
    for phase, title in PHASES.items():
        table.add_row(title, *(_percent(summary["accuracy"].get(f"{phase}/{device}")) for device in devices))
    console.print(table)
    table = Table("version", "variant", "size", "p50 latency", "accuracy", "output error", title="What was deployed")
    for row in _variants(demo):
        table.add_row(*row)
    console.print(table)
    table = Table("what", "number", title="What moved", show_header=False)
    for name in list(summary)[1:]:
        if name != "accuracy":
            table.add_row(name.replace("_", " "), f"{summary[name]:,}")
    console.print(table)


def _variants(demo: "Demo") -> list[tuple[str, ...]]:
    return [
        (
            f"{version['name']}:{version['version']}",
            variant["target"],
            f"{int(variant['artifact_size_bytes']) / 1000:.1f} kB",
            f"{variant['latency_p50_ms']:.3f} ms",
            f"{variant['score']:.3f}",
            f"{variant['output_error']:.3f}",
        )
        for version in sorted(demo.facts["versions"], key=lambda v: v["version"])
        for variant in version["variants"]
    ]


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.1%}"


def _seconds(at: str) -> float:
    return datetime.fromisoformat(at).timestamp()


# -- the page -----------------------------------------------------------------------------------------------------------


def _page(demo: "Demo") -> str:
    summary = demo.facts["summary"]
    devices = ["fleet", *demo.cameras.folders]
    accuracy = [[PHASES[p], *(_percent(summary["accuracy"].get(f"{p}/{d}")) for d in devices)] for p in PHASES]
    numbers = [[k.replace("_", " "), f"{v:,}"] for k, v in list(summary.items())[1:] if k != "accuracy"]
    episodes = [[e["device_id"], e["opened_at"], e["reason"]] for e in demo.facts["drift"]]
    timeline = [[f"{at:.1f} s", who, text] for at, who, text in demo.timeline.entries]
    parts = [
        f"<h1>Tideline: the closed loop on {html.escape(summary['scene'])}</h1>",
        _html_table(["accuracy", *devices], accuracy),
        _picture(_plot_accuracy(demo), "Share of right answers, over time"),
        _picture(_plot_drift(demo), "Drift windows: population stability index of labels and confidences"),
        _picture(_plot_scene(demo), "The day and the changed scene"),
        "<h2>Deployed files</h2>",
        _html_table(["version", "variant", "size", "p50 latency", "accuracy", "output error"], _variants(demo)),
        "<h2>Drift</h2>",
        _html_table(["device", "opened", "reason"], episodes),
        "<h2>Numbers</h2>",
        _html_table(["what", "number"], numbers),
        "<h2>Timeline</h2>",
        _html_table(["at", "who", "what"], timeline),
    ]
    style = (
        "body{font:15px/1.45 system-ui,sans-serif;max-width:960px;margin:2em auto;padding:0 1em;color:#1d2733}"
        "table{border-collapse:collapse;margin:1em 0}td,th{border-bottom:1px solid #d5dce4;padding:.3em .8em;text-align:left}"
        "img{max-width:100%}figcaption{color:#5b6875}"
    )
    return f"<!doctype html><meta charset=utf-8><title>Tideline demo</title><style>{style}</style>" + "\n".join(parts)


def _html_table(head: list[str], rows: Any) -> str:
    cells = "".join("<tr>" + "".join(f"<td>{html.escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows)
    return "<table><tr>" + "".join(f"<th>{html.escape(name)}</th>" for name in head) + f"</tr>{cells}</table>"


def _picture(png: bytes, caption: str) -> str:
    data = base64.b64encode(png).decode()
    return f'<figure><img alt="{caption}" src="data:image/png;base64,{data}"><figcaption>{caption}</figcaption></figure>'


def _plot_accuracy(demo: "Demo") -> bytes:
    import numpy as np

    points = demo.facts["points"]
    start = points[0][0]
    at = np.array([p[0] - start for p in points])
    hit = np.array([p[1] for p in points], dtype=float)
    version = np.array([p[2] for p in points])
    figure, axes = _figure()
    window = 90
    smooth = np.convolve(hit, np.ones(window) / window, mode="valid")
    axes.plot(at[window - 1 :], smooth, color="#1f6fb2", label=f"mean of {window} frames")
    switch = at[np.argmax(version == version.max())]
    axes.axvline(switch, color="#2a9d55", linestyle="--", label="first frame on the retrained model")
    axes.set(xlabel="seconds", ylabel="right answers", ylim=(0, 1.02))
    axes.legend(loc="lower right")
    return _png(figure)


def _plot_drift(demo: "Demo") -> bytes:
    figure, axes = _figure()
    windows = sorted(demo.facts["windows"], key=lambda w: w["start"])
    start = _seconds(windows[0]["start"])
    for device in demo.cameras.folders:
        mine = [w for w in windows if w["device_id"] == device]
        at = [_seconds(w["end"]) - start for w in mine]
        (line,) = axes.plot(at, [w["label_psi"] for w in mine], marker="o", markersize=3, label=f"{device} labels")
        axes.plot(at, [w["confidence_psi"] for w in mine], linestyle=":", color=line.get_color(), label=f"{device} confidence")
    axes.axhline(0.25, color="#b23a1f", linewidth=1, label="bound")
    axes.set(xlabel="seconds", ylabel="PSI")
    axes.legend(fontsize=8)
    return _png(figure)


def _plot_scene(demo: "Demo") -> bytes:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 2.2), layout="constrained")
    axes = figure.subplots(2, 12)
    for row, pictures in zip(axes, (demo.scene.day, demo.scene.adapt), strict=True):
        for cell, picture in zip(row, pictures, strict=False):
            cell.imshow(picture.image.convert("RGB"))
            cell.axis("off")
    return _png(figure)


def _figure() -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.2), layout="constrained")
    return figure, figure.subplots()


def _png(figure: Any) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()
