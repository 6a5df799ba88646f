"""May this be published? Every no is a sentence with the two numbers that decided."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from cloud_hub.core.errors import Invalid
from cloud_hub.core.tasks import Metric
from cloud_hub.pipeline import fitting
from cloud_hub.pipeline.data import Splits
from cloud_hub.pipeline.evaluation.bootstrap import Interval, paired_gain
from cloud_hub.pipeline.export import Artifact
from cloud_hub.pipeline.task import Outputs, Score, Task
from cloud_hub.pipeline.timing import Speedup
from cloud_hub.pipeline.verify import RuntimeCheck, Verified, run
from edge_agent.core.errors import AgentError
from edge_agent.infer.runtimes import load
from protos.contract.manifest import Manifest

LARGE_CLASS = 20  # test samples: in a smaller class one sample that falls weighs more than ``gate.max_class_drop``
LEVEL = 0.95  # of the interval in which the gain over the champion lies
_EXACT = 1e-9  # of gains, for rounding


@dataclass(frozen=True, slots=True, kw_only=True)
class Champion:
    """The version to beat, as devices run it."""

    version: int
    target: str
    manifest: Manifest
    model: bytes
    weights: bytes = b""  # safetensors, float32; empty: not kept, or nobody goes on from them
    files: Mapping[str, bytes] = field(default_factory=dict)  # all of its version, by target


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A file of this job and the champion's, on the same test split."""

    target: str  # of ours
    ours: float
    theirs: float
    gain: Interval  # ``Metric.gain`` of ours over theirs
    passes: bool
    verdict: str  # in words

    def as_json(self, metric: Metric) -> dict[str, object]:
        return {
            metric.name: round(self.theirs, 5),
            "challenger": {"target": self.target, metric.name: round(self.ours, 5)},
            "gain": self.gain.as_json(),
            "verdict": self.verdict,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    kept: tuple[Verified, ...]  # in the order of spec.targets
    refused: dict[str, str]  # target -> why; "champion": why it could not be compared
    reason: str  # why nothing is published; empty: publish ``kept``
    compared: Comparison | None  # None: no champion, or it does not run, or nothing was kept

    def lines(self, champion: Champion | None) -> list[str]:
        """In words, one fact a line."""
        said = [f"{target} is left out: {why}" for target, why in self.refused.items()]
        if champion is not None and self.compared is not None:
            said.append(f"champion version {champion.version} ({champion.target}): {self.compared.verdict}")
        return said


def decide(
    task: Task, verified: Sequence[Verified], network: Score, champion: Champion | None, splits: Splits, *, before: int = 0
) -> Decision:
    """Drop the files that break the gate; refuse the version where none is left, or where it does not beat the champion.

    Args:
        network: of the network the files were made from, on the test split.
        before: how many candidates of this job were refused on the same test split.
    """
    targets = task.spec.targets
    by_target = {item.artifact.target: item for item in verified}
    reasons = {target: refusal(task, by_target[target], network) or fitting.nowhere(by_target[target]) for target in targets}
    refused = {target: reason for target, reason in reasons.items() if reason}
    kept = tuple(by_target[target] for target in targets if target not in refused)
    if not kept:
        reason = "no variant passes the gate: " + "; ".join(f"{target}: {why}" for target, why in refused.items())
        return Decision(kept=kept, refused=refused, reason=reason, compared=None)
    if champion is None:
        return Decision(kept=kept, refused=refused, reason="", compared=None)
    try:
        theirs = champion_outputs(task, champion, splits)
    except (AgentError, Invalid) as error:
        why, unsure_is = f"version {champion.version} could not be compared: {error}", task.spec.gate.when_unsure
        reason = "" if unsure_is == "promote" else f"the champion, {why}; gate.when_unsure is {unsure_is}"
        return Decision(kept=kept, refused={**refused, "champion": why}, reason=reason, compared=None)
    compared = compare(task, champion, theirs, kept, splits, level=1 - (1 - LEVEL) / 2**before)
    return Decision(kept=kept, refused=refused, reason="" if compared.passes else compared.verdict, compared=compared)


class Judged(Protocol):
    """A file and what was measured of it: ``Verified`` on the test split, or a candidate of a search on another one."""

    @property
    def artifact(self) -> Artifact: ...

    @property
    def score(self) -> Score: ...

    @property
    def output_error(self) -> float: ...  # |file - network| / |network|

    @property
    def where(self) -> str: ...  # that error begins, in words; empty: not looked for

    @property
    def latency_p50_ms(self) -> float: ...

    @property
    def speedup(self) -> Speedup | None: ...  # of int8

    @property
    def runtimes(self) -> Mapping[str, RuntimeCheck]: ...

    @property
    def problem(self) -> str: ...


def refusal(task: Task, item: Judged, network: Score) -> str:
    """Why this file must not be published; empty where it may."""
    if item.problem:
        return f"it fails in a device's runtime: {item.problem}"
    return _too_bad(task, item, network) or _too_costly(task, item)


def _too_bad(task: Task, item: Judged, network: Score) -> str:
    spec, metric, value = task.spec.gate, task.metric, item.score.value
    if not metric.holds(value, task.spec.bound):
        side = "below" if metric.higher_is_better else "above"
        return f"{metric.name} {value:.4f} is {side} gate.bound {task.spec.bound}"
    for name, check in item.runtimes.items():
        if not _fall(metric, check.best_value, check.value) <= max(spec.max_drop, 2 / max(check.samples, 1)):
            here = f"{metric.name} in {name} is {check.value:.4f} over {check.samples} samples"
            return f"{here}, {check.best_value:.4f} in the best runtime"
    if not _fall(metric, network.value, value) <= spec.max_drop + _EXACT:
        change = f"{metric.name} went from the network's {network.value:.4f} to {value:.4f}"
        return f"{change}, gate.max_drop is {spec.max_drop}"
    if fallen := _fallen_classes(task, item.score, network):
        return f"{'; '.join(fallen)}; gate.max_class_drop is {spec.max_class_drop}"
    if not item.output_error <= spec.max_output_error:
        begins = f"; {item.where}" if item.where else ""
        return f"output error {item.output_error:.4f} is above gate.max_output_error {spec.max_output_error}{begins}"
    return ""


def _fall(metric: Metric, before: float, after: float) -> float:
    """By how much it got worse; of errors the share of ``before`` that came on top. NaN where either is."""
    return -metric.gain(after, before)


def _fallen_classes(task: Task, score: Score, network: Score) -> list[str]:
    """Worst first, three at most: in a mean over many classes the loss of one does not show."""
    falls = {
        name: _fall(task.metric, network.by_class[name], score.by_class.get(name, float("nan")))
        for name, count in network.class_samples.items()
        if count >= LARGE_CLASS
    }
    bad = sorted((-fall, name) for name, fall in falls.items() if not fall <= task.spec.gate.max_class_drop + _EXACT)
    return [
        f"'{name}' went from the network's {network.by_class[name]:.4f} to {score.by_class.get(name, float('nan')):.4f}"
        f" over {network.class_samples[name]} samples"
        for _, name in bad[:3]
    ]


def _too_costly(task: Task, item: Judged) -> str:
    spec, size, speed = task.spec.gate, len(item.artifact.data), item.speedup
    if size > spec.max_size_bytes:
        return f"{size} bytes, gate.max_size_bytes is {spec.max_size_bytes}"
    if spec.max_latency_ms and not item.latency_p50_ms <= spec.max_latency_ms:
        return f"{item.latency_p50_ms:.3f} ms in one thread of this machine, gate.max_latency_ms is {spec.max_latency_ms}"
    if speed is None or speed.high >= spec.min_speedup:
        return ""
    full = item.artifact.target.replace("int8", "fp32")
    took = f"{item.latency_p50_ms:.3f} ms, {full} {speed.fp32_ms:.3f} ms"
    what = f"it is slower than fp32: {took}" if speed.high < 1 else f"it takes {took}"
    hint = "" if full in task.spec.targets else f"; name {full} in 'targets' to publish that"
    return f"{what}; a speed-up of {speed.middle:.2f}, at most {speed.high:.2f}; gate.min_speedup is {spec.min_speedup}{hint}"


def champion_outputs(task: Task, champion: Champion, splits: Splits) -> Outputs:
    """Of the champion's own file, in the device's runtime, on this test split. Raises AgentError, Invalid."""
    manifest = champion.manifest
    outputs = run(load(manifest.format, champion.model), splits.test.contents, manifest.input)
    return task.from_champion(outputs, manifest, splits)


def compare(
    task: Task, champion: Champion, theirs: Outputs, kept: Sequence[Verified], splits: Splits, *, level: float = LEVEL
) -> Comparison:
    """Where both have the same kind of file by that, else by the first one kept.

    The test split is only a sample: what decides is the interval in which the gain lies, drawn from the split's own rows.
    Halving ``1 - level`` for each further candidate keeps the chance that any of them wins by luck below twice that of one.
    """
    own = next((item for item in kept if item.artifact.target == champion.target), kept[0])
    spec, name = task.spec.gate, task.metric.name
    ours, other = own.score.value, task.value(theirs, splits.test, splits)
    gain = paired_gain(task, own.outputs, theirs, splits.test, splits, seed=task.spec.train.seed, level=level)
    figures = f"{name} {ours:.4f} ({own.artifact.target}) against {other:.4f} on the same {len(splits.test)} test samples"
    between = f"the gain is {gain.middle:+.4f} ({gain.low:+.4f} to {gain.high:+.4f} at {100 * gain.level:g}%)"
    asked, unsure_is = f"gate.min_gain is {spec.min_gain}", f"gate.when_unsure is {spec.when_unsure}"
    if gain.low == gain.high == spec.min_gain == 0:  # every draw of such rows would say so: that is no proof of a match
        passes = spec.when_unsure == "promote"
        verdict = f"no test sample tells it from the champion, version {champion.version}: {figures}; {asked} and {unsure_is}"
    elif gain.low >= spec.min_gain - _EXACT:
        passes, verdict = True, f"{figures}: {between}, and {asked}"
    elif gain.high < spec.min_gain - _EXACT:
        passes = False
        verdict = f"it does not reach the champion, version {champion.version}: {figures}; {between}, and {asked}"
    else:
        passes = spec.when_unsure == "promote"
        unsure = f"too few test samples to say whether it reaches the champion, version {champion.version}"
        verdict = f"{unsure}: {figures}; {between}, {asked} and {unsure_is}"
    return Comparison(target=own.artifact.target, ours=ours, theirs=other, gain=gain, passes=passes, verdict=verdict)
