"""Which network and which files of it to publish: cut, train again, quantize, measure, judge as the gate does, pick."""

import hashlib
import importlib
import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from cloud_hub.core.errors import Invalid
from cloud_hub.core.spec_sections.compress import CompressSpec
from cloud_hub.pipeline import export, gate, networks, train
from cloud_hub.pipeline import task as tasks
from cloud_hub.pipeline.checkpoint import Checkpoint
from cloud_hub.pipeline.compress import points, prune
from cloud_hub.pipeline.compress.points import Cut, Point
from cloud_hub.pipeline.compress.searched import Candidate, Searched
from cloud_hub.pipeline.data import Split, Splits
from cloud_hub.pipeline.distil import distillation
from cloud_hub.pipeline.export import Artifact
from cloud_hub.pipeline.int8 import PLAIN, Int8
from cloud_hub.pipeline.progress import Stages
from cloud_hub.pipeline.task import Outputs, Score, Task
from cloud_hub.pipeline.timing import Speedup, in_turns
from cloud_hub.pipeline.verify import output_error, run
from edge_agent.core.errors import AgentError
from edge_agent.infer.inputs import tensors_of
from edge_agent.infer.runtimes import load
from protos.contract.inputs import Layout

_JUDGED_SAMPLES = 1000  # of the validation split: files run sample by sample
_TIMED_S = 4.0  # at least; with many files longer, so that each has its turns
_TIMED_S_PER_FILE = 0.2


def search(task: Task, teacher: nn.Module, student: nn.Module, splits: Splits, folder: Path, stages: Stages) -> Searched:
    """Try what ``spec.compress`` names, judged on the validation split: the test split is the gate's alone.

    An interrupted search that is given its folder again trains no network twice. Without a search the student is exported.

    Raises:
        BadModel, InferenceError: a file does not even run in the best runtime here.
    """
    if task.spec.compress.search == "off":
        made = export.export(student, splits, task.spec.targets, folder, stages.tell)
        return Searched(candidates=(Candidate(name="", network=student, artifacts=made),))
    (folder / "compress").mkdir(parents=True, exist_ok=True)
    return _Search(task, teacher, student, splits, folder / "compress", stages).run()


def ways(spec: CompressSpec, format: str) -> list[Int8]:
    """To quantize beyond the plain one, the likeliest gains first; a format has not all of them."""
    calibrations = spec.calibration if format == "onnx" else ("minmax",)
    ends = Int8(float_first=True, float_last=True)
    if spec.search == "small":
        signed = [Int8(signed=True)] if format == "onnx" else []
        return [ends, *(Int8(calibration=name) for name in calibrations if name != PLAIN.calibration), *signed]
    signs = (False, True) if format == "onnx" else (False,)
    every = [
        Int8(signed=signed, per_channel=per_channel, calibration=name, float_first=float_, float_last=float_)
        for float_, name, signed, per_channel in itertools.product((False, True), calibrations, signs, (True, False))
    ]
    return [each for each in every if each != PLAIN]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Network:
    cut: Cut
    network: nn.Module  # plain, on the CPU
    folder: Path  # with what its exports left, to be quantized in other ways
    outputs: Outputs  # on the judged samples


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _File:
    candidate: _Network
    how: Int8 | None
    artifact: Artifact
    score: Score
    output_error: float


class _Search:
    def __init__(
        self, task: Task, teacher: nn.Module, student: nn.Module, splits: Splits, folder: Path, stages: Stages
    ) -> None:
        self._task, self._teacher, self._student, self._splits = task, teacher, student, splits
        self._folder, self._stages, self._spec = folder, stages, task.spec.compress
        self._judged: Split = splits.val.take(
            np.unique(np.linspace(0, len(splits.val) - 1, min(_JUDGED_SAMPLES, len(splits.val))).astype(np.int64))
        )
        contents = splits.train.take(np.arange(min(2, len(splits.train)))).contents
        self._example: Tensor = torch.from_numpy(tensors_of(contents, splits.input_for(Layout.NCHW)))
        self._end = time.monotonic() + self._spec.budget_minutes * 60
        self._networks: list[_Network] = []
        self._files: list[_File] = []
        self._notes: list[str] = []
        self._share = (0.0, 0.0)  # of the stage: begun at, as long as

    def run(self) -> Searched:
        spec = self._spec
        cuts = [(0.0, ""), *self._cuts()]
        for number, (ratio, trained) in enumerate(cuts):
            self._share = (0.8 * number / len(cuts), 0.8 / len(cuts))
            if number and self._late(f"cutting {ratio:.0%}"):
                break
            candidate = self._made(number, ratio, trained)
            if candidate is not None:
                self._networks.append(candidate)
                self._export(candidate)
        self._share = (0.8, 0.2)
        chosen = self._networks
        if spec.search == "small":
            likely = self._choices(self._measured())[0]
            chosen = [each for each in chosen if each.cut == likely[0].cut]
        for candidate in chosen:
            self._quantize(candidate)
        searched = self._searched(self._measured())
        for line in points.lines(searched.marked(), self._task.metric):
            self._tell(1, line)
        return searched

    def _cuts(self) -> Iterator[tuple[float, str]]:
        for ratio in sorted(set(self._spec.prune) - {0.0}):
            for trained in ("distilled", "labels") if self._spec.search == "full" else ("distilled",):
                yield ratio, trained

    def _targets(self) -> tuple[str, ...]:
        return self._task.spec.targets

    # -- networks ---------------------------------------------------------------------------------------------------------

    def _made(self, number: int, ratio: float, trained: str) -> _Network | None:
        """None where it cannot be cut; noted."""
        network = self._student
        if ratio:
            try:
                network = prune.pruned(self._student, self._example, ratio)
            except Invalid as error:
                self._note(f"cut by {ratio:.0%}: {error}")
                return None
            network = self._trained(network.to(networks.device()), f"{ratio:g}-{trained}", trained)
        folder = self._folder / str(number)
        folder.mkdir(exist_ok=True)
        plain = export.ready(network)
        cut = Cut(
            ratio=ratio,
            trained=trained,
            parameters=networks.parameters(plain),
            macs=prune.macs(plain, self._example),
        )
        feeder = self._task.feeder(self._splits).cpu().eval()
        outputs = tasks.predict(plain, feeder, self._judged.inputs)
        return _Network(cut=cut, network=plain, folder=folder, outputs=outputs)

    def _trained(self, network: nn.Module, name: str, trained: str) -> nn.Module:
        task, splits, spec = self._task, self._splits, self._task.spec
        loss = distillation(task, self._teacher, splits) if trained == "distilled" else task.loss(splits)
        shaped_by = (splits.fingerprint, splits.labels, spec.task, spec.preprocess, spec.teacher, spec.student, spec.train)
        key = hashlib.sha256(repr((*shaped_by, self._spec.finetune_epochs, name)).encode()).hexdigest()
        checkpoint = Checkpoint(self._folder / f"{name}.safetensors", key)
        epochs = self._spec.finetune_epochs
        step = self._stages.part(*self._share)
        train.fit(task, network, splits, epochs=epochs, loss=loss, checkpoint=checkpoint, tell=self._tell, step=step)
        return network

    # -- files ------------------------------------------------------------------------------------------------------------

    def _export(self, candidate: _Network) -> None:
        """In fp32 and in plain int8."""
        for name in export.formats(self._targets()):
            with export.quiet(self._folder / "converters.log"):
                converter = importlib.import_module(f"cloud_hub.pipeline.to_{name}")
                full, small = converter.convert(candidate.network, self._splits, candidate.folder)
            self._add(candidate, full, None)
            self._add(candidate, small, PLAIN)

    def _quantize(self, candidate: _Network) -> None:
        """In the other ways."""
        for name in export.formats(self._targets()):
            if f"{name}-int8" not in self._targets():
                continue
            converter = importlib.import_module(f"cloud_hub.pipeline.to_{name}")
            for how in ways(self._spec, name):
                if self._late(f"{name}-int8 by {how}"):
                    return
                try:
                    with export.quiet(self._folder / "converters.log"):
                        made = converter.quantized(self._splits, candidate.folder, how)
                    self._add(candidate, made, how)
                except (AgentError, RuntimeError, ValueError, TypeError, KeyError, IndexError) as error:
                    self._note(f"{candidate.cut}: {name}-int8 by {how} cannot be made: {error}")

    def _add(self, candidate: _Network, artifact: Artifact, how: Int8 | None) -> None:
        outputs = run(load(artifact.format, artifact.data), self._judged.contents, self._splits.input_for(artifact.layout))
        usual = self._task.usual_rows(self._judged)
        file = _File(
            candidate=candidate,
            how=how,
            artifact=artifact,
            score=self._task.score(outputs, self._judged, self._splits),
            output_error=output_error(outputs[usual], candidate.outputs[usual]),
        )
        self._files.append(file)
        made = f"{candidate.cut}, {artifact.target}{f' by {how}' if how else ''}"
        what = f"{self._task.metric.name} {file.score.value:.4f}, output error {file.output_error:.4f}"
        self._tell(1, f"{made}: {what}, {len(artifact.data) / 1024:.0f} KiB")

    # -- judgement --------------------------------------------------------------------------------------------------------

    def _measured(self) -> list[Point]:
        """Every file so far, timed in turns with all the others, with what the gate says of it."""
        files = self._files
        seconds = max(_TIMED_S, _TIMED_S_PER_FILE * len(files))
        times = in_turns([file.artifact for file in files], self._splits, seconds=seconds)
        full = {(file.candidate.cut, file.artifact.format): number for number, file in enumerate(files) if file.how is None}
        uncut, network = self._networks[0], self._task.score(self._networks[0].outputs, self._judged, self._splits)
        found = []
        for file, turns in zip(files, times, strict=True):
            own, plain = full[file.candidate.cut, file.artifact.format], full[uncut.cut, file.artifact.format]
            size = len(file.artifact.data) / len(files[plain].artifact.data)
            point = Point(
                cut=file.candidate.cut,
                how=file.how,
                artifact=file.artifact,
                score=file.score,
                output_error=file.output_error,
                latency_p50_ms=float(np.median(turns)),
                speedup=Speedup.of(turns, times[own]) if file.how else None,
                against_plain=(size, float(np.median(turns / times[plain]))),
            )
            found.append(replace(point, refused=gate.refusal(self._task, point, network)))
        return found

    def _choices(self, measured: list[Point]) -> list[list[Point]]:
        return points.choices(measured, self._targets(), self._spec.objective, self._task.metric)

    def _searched(self, measured: list[Point]) -> Searched:
        fronts = points.front(measured, self._task.metric)
        table = [replace(point, on_front=front) for point, front in zip(measured, fronts, strict=True)]
        found = tuple(self._candidate(chosen, table) for chosen in self._choices(table))
        return Searched(candidates=found, table=tuple(table), notes=tuple(self._notes))

    def _candidate(self, chosen: list[Point], table: list[Point]) -> Candidate:
        """With fp32 and int8 of every format: int8 is held against fp32."""
        cut, targets = chosen[0].cut, {point.artifact.target: point.artifact for point in chosen}
        artifacts = []
        for target in (f"{name}-{how}" for name in export.formats(self._targets()) for how in ("fp32", "int8")):
            first = next(each.artifact for each in table if each.cut == cut and each.artifact.target == target)
            artifacts.append(targets.get(target, first))
        network = next(each.network for each in self._networks if each.cut == cut)
        return Candidate(name=str(cut), network=network, artifacts=tuple(artifacts), chosen=tuple(chosen))

    # -- words ------------------------------------------------------------------------------------------------------------

    def _late(self, what: str) -> bool:
        if time.monotonic() < self._end:
            return False
        self._note(f"compress.budget_minutes {self._spec.budget_minutes:g} are over: not tried are {what} and what comes after")
        return True

    def _note(self, line: str) -> None:
        self._notes.append(line)
        self._tell(1, line)

    def _tell(self, fraction: float, line: str) -> None:
        begun, length = self._share
        self._stages.tell(begun + length * min(1.0, fraction), line)
