"""Which networks a job trains: teachers and a student, or the champion further; by one process or several."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from cloud_hub.pipeline import finetune, networks, train
from cloud_hub.pipeline.adversarial import robust
from cloud_hub.pipeline.checkpoint import Checkpoint
from cloud_hub.pipeline.data import Splits
from cloud_hub.pipeline.distil import distillation
from cloud_hub.pipeline.ensemble import Ensemble, seeded
from cloud_hub.pipeline.gate import Champion
from cloud_hub.pipeline.group import ALONE, Group
from cloud_hub.pipeline.progress import Stages, Step
from cloud_hub.pipeline.task import Loss, Outputs, Score, Task, predict
from cloud_hub.pipeline.train import Fitted, Tell

STUDENT = "student"


@dataclass(frozen=True, slots=True, kw_only=True)
class Lesson:
    """One network to be trained. Made of the same things it is the same in every process."""

    name: str  # STUDENT, "teacher-0", ...
    task: Task
    network: nn.Module
    loss: Loss
    epochs: int
    checkpoint: Checkpoint
    notes: tuple[str, ...] = ()

    def fit(self, splits: Splits, tell: Tell, step: Step = train.unheard, group: Group = ALONE) -> Fitted:
        fitted = train.fit(
            self.task,
            self.network,
            splits,
            epochs=self.epochs,
            loss=self.loss,
            checkpoint=self.checkpoint,
            tell=tell,
            step=step,
            group=group,
        )
        finetune.finish(self.network)
        return fitted


Fit = Callable[[Lesson, Splits, Tell, Step], Fitted]  # how a lesson is given: here, or by several processes


def alone(lesson: Lesson, splits: Splits, tell: Tell, step: Step) -> Fitted:
    return lesson.fit(splits, tell, step)


def goes_on(task: Task, champion: Champion | None) -> bool:
    """Whether the champion is trained further, instead of a student from chance by a teacher."""
    return task.spec.train.finetune.mode != "off" and champion is not None


def teachers(task: Task, splits: Splits, folder: Path) -> list[Lesson]:
    """``train.teachers`` of them, each with a seed of its own."""
    return [_teacher(task, splits, folder, number) for number in range(task.spec.train.teachers)]


def student(task: Task, splits: Splits, folder: Path, teacher: nn.Module) -> Lesson:
    """Distilled from what ``heard`` makes of its teachers."""
    spec = task.spec
    return Lesson(
        name=STUDENT,
        task=task,
        network=task.network(spec.student, splits).to(networks.device()),
        loss=distillation(task, teacher, splits),
        epochs=spec.student.epochs,
        checkpoint=_checkpoint(task, splits, folder, STUDENT),
    )


def further(task: Task, splits: Splits, folder: Path, champion: Champion) -> Lesson:
    """The champion, on this data; ``splits`` have its input already. Raises Invalid where its weights do not fit."""
    spec = task.spec
    network = task.network(spec.student, splits)
    finetune.load(network, champion, splits.labels)
    notes = finetune.freeze(network, task, splits)
    return Lesson(
        name=STUDENT,
        task=task,
        network=network.to(networks.device()),
        loss=task.loss(splits),
        epochs=spec.train.finetune.epochs,
        checkpoint=_checkpoint(task, splits, folder, STUDENT, started_from=champion.weights),
        notes=tuple(notes),
    )


def heard(taught: Sequence[nn.Module]) -> nn.Module:
    """One teacher's opinion, or the mean of several."""
    return taught[0] if len(taught) == 1 else Ensemble(list(taught))


def _teacher(task: Task, splits: Splits, folder: Path, number: int) -> Lesson:
    own = task.under(seeded(task.spec, number))
    name = f"teacher-{number}"
    return Lesson(
        name=name,
        task=own,
        network=own.network(own.spec.teacher, splits).to(networks.device()),
        loss=own.loss(splits),
        epochs=own.spec.teacher.epochs,
        checkpoint=_checkpoint(own, splits, folder, name),
    )


def _checkpoint(task: Task, splits: Splits, folder: Path, name: str, started_from: bytes = b"") -> Checkpoint:
    """Of everything that shapes the training."""
    spec = task.spec
    shaped_by: tuple[Any, ...] = (
        *(splits.fingerprint, splits.labels, splits.input, name),
        *(spec.task, spec.preprocess, spec.teacher, spec.student, spec.train, spec.labels),
        hashlib.sha256(started_from).hexdigest(),
    )
    return Checkpoint(folder / f"{name}.safetensors", hashlib.sha256(repr(shaped_by).encode()).hexdigest())


@dataclass(frozen=True, slots=True, kw_only=True)
class Taught:
    """What the stage ``teacher`` gives."""

    network: nn.Module  # whose opinion counts: the mean of the teachers; of a champion that goes on, its own as it was
    splits: Splits  # as the networks take them
    report: Mapping[str, object]  # JSON
    history: tuple[Mapping[str, float], ...]  # of the first teacher


@dataclass(frozen=True, slots=True, kw_only=True)
class Learned:
    """What the stage ``student`` gives."""

    network: nn.Module
    reference: Outputs  # on test
    score: Score
    report: Mapping[str, object]  # JSON
    history: tuple[Mapping[str, float], ...]


def teach(task: Task, splits: Splits, folder: Path, champion: Champion | None, stages: Stages, fit: Fit = alone) -> Taught:
    """Train the teachers. A champion that goes on needs none: data and files are laid out for it.

    Raises:
        Invalid: the loss is no number, or the champion does not fit.
    """
    if champion is not None and goes_on(task, champion):
        splits = finetune.with_units_of(champion, task, splits)
        network = task.network(task.spec.student, splits)
        for note in finetune.load(network, champion, splits.labels):
            stages.tell(1, note)
        network.to(networks.device())
        if task.spec.train.finetune.freeze_scales:
            finetune.freeze_scales(champion, folder)
        found = {"parameters": networks.parameters(network), "version": champion.version}
        score = _tested(task, network, splits)[1]
        return Taught(network=network, splits=splits, report={**found, "test": score.as_json(task.metric)}, history=())
    lessons = teachers(task, splits, folder)
    told, fits = [], []
    for number, lesson in enumerate(lessons):
        step = stages.part(number / len(lessons), 1 / len(lessons))
        fits.append(fit(lesson, splits, _part(stages.tell, number, len(lessons)), step))
        told.append(_described(lesson, fits[-1]))
    network = heard([lesson.network for lesson in lessons])
    report = {**told[0], "test": _tested(task, network, splits)[1].as_json(task.metric)}
    if len(told) > 1:
        report["members"] = told  # each; the test is their mean's
    return Taught(network=network, splits=splits, report=report, history=fits[0].history)


def study(
    task: Task, taught: Taught, grown: Splits, folder: Path, champion: Champion | None, stages: Stages, fit: Fit = alone
) -> Learned:
    """Train the student, or the champion further. ``grown``: the splits it trains on, with what a teacher has labelled.

    Raises:
        Invalid: the loss is no number.
    """
    report: dict[str, object] = {}
    if champion is not None and goes_on(task, champion):
        lesson = further(task, grown, folder, champion)
        report["finetune"] = {"mode": task.spec.train.finetune.mode, "trained": finetune.trained(lesson.network)}
    else:
        lesson = student(task, grown, folder, taught.network)
    for note in lesson.notes:
        stages.tell(0, note)
    fitted = fit(lesson, grown, stages.tell, stages.step)
    reference, score = _tested(task, lesson.network, taught.splits)
    report = {**_described(lesson, fitted), **report, "test": score.as_json(task.metric)}
    if task.spec.train.adversarial.attack != "none":
        report["robust"] = robust(task, lesson.network, taught.splits, taught.splits.test)
    return Learned(network=lesson.network, reference=reference, score=score, report=report, history=fitted.history)


def _part(tell: Tell, number: int, count: int) -> Tell:
    """One of several trainings in a stage."""
    return lambda fraction, line: tell((number + fraction) / count, f"{number + 1} of {count}: {line}" if count > 1 else line)


def _tested(task: Task, network: nn.Module, splits: Splits) -> tuple[Outputs, Score]:
    outputs = predict(network, task.feeder(splits).to(networks.device()), splits.test.inputs)
    return outputs, task.score(outputs, splits.test, splits)


def _described(lesson: Lesson, fitted: Fitted) -> dict[str, object]:
    """For a report."""
    return {
        "parameters": networks.parameters(lesson.network),
        "epochs": fitted.epochs,
        "train_s": fitted.seconds,
        f"validation_{lesson.task.metric.name}": round(fitted.value, 5),
    }
