"""Small networks on real pictures, without files: what looks at answers needs no more."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from torch import nn

from cloud_hub.core.spec import TrainingSpec
from cloud_hub.pipeline import networks, noise, train
from cloud_hub.pipeline import task as tasks
from cloud_hub.pipeline.checkpoint import Checkpoint
from cloud_hub.pipeline.clean import RawSample, Suspect
from cloud_hub.pipeline.data import Splits
from cloud_hub.pipeline.task import Task, predict
from cloud_hub.pipeline.train import Fitted


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    task: Task
    splits: Splits
    network: nn.Module
    fitted: Fitted
    suspects: Sequence[Suspect]  # of labels.noise.folds

    def accuracy(self, truths: dict[str, str]) -> float:
        """On the test split, against the labels of ``truths`` by sample id."""
        outputs = predict(self.network, self.task.feeder(self.splits), self.splits.test.inputs)
        said = [self.splits.labels[kind] for kind in outputs.argmax(1)]
        return float(np.mean([word == truths[origin.id] for word, origin in zip(said, self.splits.test.origins, strict=True)]))


def fitted(spec: TrainingSpec, labels: tuple[str, ...], samples: Sequence[RawSample], folder: Path) -> Trained:
    task = tasks.make(spec)
    splits, found = noise.look(task, task.load(labels, samples), folder, lambda fraction, line: None)
    network = task.network(spec.teacher, splits).to(networks.device())
    checkpoint = Checkpoint(folder / "network.safetensors", "key")
    loss = task.loss(splits)
    done = train.fit(
        task, network, splits, epochs=spec.teacher.epochs, loss=loss, checkpoint=checkpoint, tell=lambda fraction, line: None
    )
    return Trained(task=task, splits=splits, network=network.cpu(), fitted=done, suspects=found)


def flipped(samples: Sequence[RawSample], labels: tuple[str, ...], share: float) -> list[RawSample]:
    """That share of all labels is another one, whatever split a sample is in."""
    draw = np.random.default_rng(0)
    others = {label: [other for other in labels if other != label] for label in labels}
    return [replace(one, label=str(draw.choice(others[one.label]))) if draw.random() < share else one for one in samples]
