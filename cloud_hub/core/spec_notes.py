"""What a specification says and nobody acts on: settings of a section that is switched off. No mistake, but hardly meant."""

from collections.abc import Iterator
from dataclasses import fields
from typing import Any

from cloud_hub.core.spec import TrainingSpec
from cloud_hub.core.spec_sections.train import TrainSpec


def idle(spec: TrainingSpec) -> list[str]:
    """In words, in the order of the specification."""
    return [f"'{key}' makes no difference: {why}" for key, why in _idle(spec)]


def _idle(spec: TrainingSpec) -> Iterator[tuple[str, str]]:
    train, labels, resources = spec.train, spec.labels, spec.resources
    yield from _of_training(train)
    if hasattr(spec.preprocess, "noise") and "noise" not in spec.augment:
        yield from _said("preprocess", spec.preprocess, "train.augment has no noise", "noise")
    if spec.compress.search == "off":
        yield from _said("compress", spec.compress, "compress.search is off")
    if not labels.pseudo:
        yield from _said("labels", labels, "labels.pseudo is off", "floor", "precision", "max_share")
    if not spec.triggers.metric_drop:
        yield from _said("triggers", spec.triggers, "triggers.metric_drop is 0", "metric_samples")
    if not spec.deploy.auto:
        yield from _said("deploy", spec.deploy, "deploy.auto is off")
    if resources.executor == "ray":
        yield from _said("train", train, "resources.executor is ray: resources.workers says how many", "processes")
    else:
        yield from _said("resources", resources, "resources.executor is not ray", "workers")
    if not spec.tuning.trials:
        yield from _said("tuning", spec.tuning, "tuning.trials is 0")


def _of_training(train: TrainSpec) -> Iterator[tuple[str, str]]:
    if train.optimizer != "sgd":
        yield from _said("train", train, "train.optimizer is not sgd", "momentum")
    if train.adversarial.attack == "none":
        yield from _said("train.adversarial", train.adversarial, "train.adversarial.attack is none")
    if train.finetune.mode == "off":
        yield from _said("train.finetune", train.finetune, "train.finetune.mode is off")
    elif train.finetune.mode != "lora":
        yield from _said("train.finetune", train.finetune, "train.finetune.mode is not lora", "rank", "patch_bytes")
        if train.finetune.mode == "full":
            yield from _said("train.finetune", train.finetune, "train.finetune.mode is full", "layers")
    if not train.replay.dataset:
        yield from _said("train.replay", train.replay, "train.replay.dataset is not given")


def _said(where: str, section: Any, why: str, *names: str) -> Iterator[tuple[str, str]]:
    """Keys that are not as they are by default: ``names``, or all."""
    plain = type(section)()
    for name in names or [field.name for field in fields(section)]:
        if getattr(section, name) != getattr(plain, name):
            yield f"{where}.{name}", why
