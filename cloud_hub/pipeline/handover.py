"""What the processes that train a job's networks are given: its data as it stands, in files that they map and do not read.

So one that trains holds the batches that it works on, whatever the size of the data, and those of one machine share the pages.
"""

import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cloud_hub.core import spec as specs
from cloud_hub.core import tasks as declarations
from cloud_hub.core.errors import Invalid
from cloud_hub.pipeline import task as tasks
from cloud_hub.pipeline.clean import CleaningReport
from cloud_hub.pipeline.data import Split, Splits
from cloud_hub.pipeline.gate import Champion
from cloud_hub.pipeline.task import Task
from edge_agent.core.files import write_atomic
from protos.contract import codec, inputs, outputs

_ABOUT, _SPEC, _WEIGHTS, _MANIFEST = "about.json", "spec.yaml", "weights.safetensors", "manifest"
_PARTS = ("train", "val")
_PLAIN = "biufU"  # kinds of arrays whose values JSON has
_SUFFIXES = (".npy", ".json", ".yaml", ".safetensors", "")


def work(folder: Path) -> Path:
    """Where a job keeps what its processes need."""
    place = folder / "processes"
    place.mkdir(parents=True, exist_ok=True, mode=0o700)
    return place


def lay_out(task: Task, splits: Splits, folder: Path, champion: Champion | None = None) -> None:
    """Everything from which another process makes the job's lessons. Who reads what was laid out before may go on.

    Raises:
        Invalid: a fact that the task has learned of its data cannot be written down.
    """
    place = work(folder)
    for name, split in (("train", splits.train), ("val", splits.val)):
        _save(place / f"{name}-inputs.npy", split.inputs)
        _save(place / f"{name}-targets.npy", split.targets)
    about = {
        "labels": _written("labels", splits.labels),
        "input": _written("input", splits.input),
        "facts": {name: _written(name, fact) for name, fact in splits.facts.items()},
        "fingerprint": splits.fingerprint,
        "task_file": str(declarations.file_of(task.spec.task) or ""),
        "champion": None if champion is None else {"version": champion.version, "target": champion.target},
    }
    if champion is not None:
        write_atomic(place / _WEIGHTS, champion.weights)
        write_atomic(place / _MANIFEST, codec.encode_manifest(champion.manifest))
    write_atomic(place / _SPEC, specs.dump(task.spec).encode())
    write_atomic(place / _ABOUT, json.dumps(about).encode())


def taken(folder: Path) -> tuple[Task, Splits, Champion | None]:
    """What was laid out. Training and validation have inputs and targets, but no contents; nothing is there to test.

    Raises:
        Invalid: the task's own file is not on this machine.
    """
    place = work(folder)
    about = json.loads((place / _ABOUT).read_bytes())
    if about["task_file"]:
        declarations.register([Path(about["task_file"])])
    task = tasks.make(specs.parse((place / _SPEC).read_text()))
    train, val = (_split(_mapped(place / f"{name}-inputs.npy"), _mapped(place / f"{name}-targets.npy")) for name in _PARTS)
    splits = Splits(
        labels=_made(about["labels"]),
        train=train,
        val=val,
        test=_split(val.inputs[:0], val.targets[:0]),
        calibration=np.zeros(0, np.int64),
        input=_made(about["input"]),
        fingerprint=about["fingerprint"],
        report=CleaningReport(),
        facts={name: _made(fact) for name, fact in about["facts"].items()},
    )
    return task, splits, _champion(place, about["champion"])


def files(folder: Path) -> dict[str, Path]:
    """What a process needs, by its path in the folder: what ``taken`` reads, and the weights of what was trained before."""
    found = [path for path in work(folder).iterdir() if path.suffix in _SUFFIXES] + list(folder.glob("*.safetensors"))
    return {str(path.relative_to(folder)): path for path in found}


def _champion(place: Path, about: Mapping[str, Any] | None) -> Champion | None:
    if about is None:
        return None
    manifest = codec.decode_manifest((place / _MANIFEST).read_bytes())
    return Champion(**about, manifest=manifest, model=b"", weights=(place / _WEIGHTS).read_bytes())


def _split(inputs: NDArray[Any], targets: NDArray[Any]) -> Split:
    return Split(contents=(), inputs=inputs, targets=targets, groups=("",) * len(targets))


def _save(path: Path, array: NDArray[Any]) -> None:
    """A process may still have the file before it mapped."""
    new = path.with_suffix(".new")
    with new.open("wb") as file:
        np.save(file, array, allow_pickle=False)
    new.replace(path)


def _mapped(path: Path) -> NDArray[Any]:
    """Private to the process where it is written to."""
    return np.asarray(np.load(path, mmap_mode="c", allow_pickle=False))


# -- facts: JSON, and what it lacks ---------------------------------------------------------------------------------------


def _written(name: str, value: Any) -> Any:
    """Raises Invalid naming the fact."""
    if isinstance(value, Enum) and type(value) in _contract().values():
        return {"enum": type(value).__name__, "value": value.name}
    if isinstance(value, np.ndarray) and value.dtype.kind in _PLAIN:
        return {"array": value.tolist(), "dtype": str(value.dtype)}
    if isinstance(value, np.generic) and value.dtype.kind in _PLAIN:
        return value.item()
    if value is None or type(value) in (bool, int, float, str):
        return value
    if type(value) in (tuple, list):
        return {type(value).__name__: [_written(name, each) for each in value]}
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {"dict": {key: _written(name, each) for key, each in value.items()}}
    if is_dataclass(value) and type(value) in _contract().values():
        own = {each.name: _written(name, getattr(value, each.name)) for each in fields(value)}
        return {"contract": type(value).__name__, "fields": own}
    raise Invalid(
        f"the task's fact {name!r} holds a {type(value).__name__}: several processes can share numbers, texts, arrays, "
        "tuples, lists, dicts with texts as keys, and a device's inputs and outputs"
    )


def _made(value: Any) -> Any:
    match value:
        case {"enum": kind, "value": name}:
            return _contract()[kind][name]
        case {"array": items, "dtype": kind}:
            return np.array(items, kind)
        case {"tuple": items}:
            return tuple(_made(each) for each in items)
        case {"list": items}:
            return [_made(each) for each in items]
        case {"dict": items}:
            return {key: _made(each) for key, each in items.items()}
        case {"contract": kind, "fields": own}:
            return _contract()[kind](**{key: _made(each) for key, each in own.items()})
    return value


def _contract() -> dict[str, Any]:
    """Types of a device's inputs and outputs, by name."""
    return {name: each for module in (inputs, outputs) for name, each in vars(module).items() if isinstance(each, type)}
