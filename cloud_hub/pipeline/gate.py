"""May this be published? Every no is a sentence with the two numbers that decided."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cloud_hub.core.spec import GateSpec
from cloud_hub.pipeline.data import Splits
from cloud_hub.pipeline.verify import Verified, run
from edge_agent.core.errors import AgentError
from edge_agent.infer.runtimes import load
from protos.contract.manifest import Manifest


@dataclass(frozen=True, slots=True, kw_only=True)
class Champion:
    """The version to beat, as devices run it."""

    version: int
    target: str
    manifest: Manifest
    model: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    kept: tuple[Verified, ...]  # in the order of spec.targets
    refused: dict[str, str]  # target -> why
    reason: str  # why nothing is published; empty: publish ``kept``
    champion_accuracy: float | None  # on this job's test split; None: no champion, or it does not run

    def lines(self, champion: Champion | None) -> list[str]:
        """In words, one fact a line."""
        said = [f"{target} is left out: {why}" for target, why in self.refused.items()]
        if champion is not None and self.champion_accuracy is not None:
            said.append(f"champion version {champion.version} ({champion.target}): accuracy {self.champion_accuracy:.4f}")
        return said


def decide(
    spec: GateSpec, targets: Sequence[str], verified: Sequence[Verified], network_accuracy: float, champion: Champion | None,
    splits: Splits,
) -> Decision:  # fmt: skip
    """Drop the files that break the gate; refuse the version where none is left or the champion is better."""
    by_target = {item.artifact.target: item for item in verified}
    reasons = {target: refusal(spec, by_target[target], network_accuracy) for target in targets}
    refused = {target: reason for target, reason in reasons.items() if reason}
    kept = tuple(by_target[target] for target in targets if target not in refused)
    accuracy, problem = champion_accuracy(champion, splits)
    if not kept:
        reason = "no variant passes the gate: " + "; ".join(f"{target}: {why}" for target, why in refused.items())
    elif champion is not None and accuracy is not None:
        reason = _against(spec, champion, accuracy, kept)
    else:
        reason = ""
    if problem:
        refused = {**refused, "champion": problem}
    return Decision(kept=kept, refused=refused, reason=reason, champion_accuracy=accuracy)


def refusal(spec: GateSpec, item: Verified, network_accuracy: float) -> str:
    """Why this file must not be published; empty where it may."""
    accuracy, size = item.score.accuracy, len(item.artifact.data)
    if item.problem:
        return f"it fails in a device's runtime: {item.problem}"
    if accuracy < spec.min_accuracy:
        return f"accuracy {accuracy:.4f} is below gate.min_accuracy {spec.min_accuracy}"
    for name, check in item.runtimes.items():
        if check.fall > max(spec.max_accuracy_drop, 2 / check.samples):
            here = f"accuracy in {name} is {check.accuracy:.4f} over {check.samples} frames"
            return f"{here}, {check.best_accuracy:.4f} in the best runtime"
    if network_accuracy - accuracy > spec.max_accuracy_drop:
        fall = f"accuracy fell from the network's {network_accuracy:.4f} to {accuracy:.4f}"
        return f"{fall}, gate.max_accuracy_drop is {spec.max_accuracy_drop}"
    if not item.output_error <= spec.max_output_error:
        return f"output error {item.output_error:.4f} is above gate.max_output_error {spec.max_output_error}"
    if size > spec.max_size_bytes:
        return f"{size} bytes, gate.max_size_bytes is {spec.max_size_bytes}"
    return ""


def champion_accuracy(champion: Champion | None, splits: Splits) -> tuple[float | None, str]:
    """Of the champion's own file, in the device's runtime, on this test split; or why it cannot be had.

    A class it does not know counts as an error: the fleet would get it wrong.
    """
    if champion is None:
        return None, ""
    theirs = champion.manifest.classification.labels
    try:
        logits = run(load(champion.manifest.format, champion.model), splits.test.frames, champion.manifest.preprocess)
    except AgentError as error:
        return None, f"version {champion.version} could not be compared: {error}"
    ours = {label: i for i, label in enumerate(splits.labels)}
    mapped = np.array([ours.get(label, -1) for label in theirs])
    return float((mapped[logits.argmax(1)] == splits.test.labels).mean()), ""


def _against(spec: GateSpec, champion: Champion, accuracy: float, kept: Sequence[Verified]) -> str:
    """Compared where both have the same kind of file, else the first one kept."""
    own = next((item for item in kept if item.artifact.target == champion.target), kept[0])
    if own.score.accuracy >= accuracy + spec.min_gain - 1e-9:
        return ""
    return (
        f"accuracy {own.score.accuracy:.4f} ({own.artifact.target}) does not reach the champion's: version {champion.version}"
        f" has {accuracy:.4f} on the same {own.score.samples} test images, and gate.min_gain is {spec.min_gain}"
    )
