"""Which kinds of problem the pipeline solves: what a specification may say of each, without loading what solves it.

Tasks are found by name among the entry points of the group ``tideline.tasks``, ours and those of other packages alike, and in
the Python files that the hub's own configuration names. Each is a ``TaskDeclaration``.
"""

import importlib.util
import stat
import sys
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import IntEnum
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

from cloud_hub.core.errors import HubError, Invalid
from protos.contract.inputs import SampleKind

GROUP = "tideline.tasks"


class Annotation(IntEnum):
    """What a label of a sample is, as text."""

    NONE = 0  # nothing: the samples speak for themselves
    CLASS = 1  # one of the data set's labels
    BOXES = 2  # JSON: [{"label": ..., "box": [left, top, right, bottom]}], sides as shares of the picture, 0..1
    VALUES = 3  # JSON: a number, or a list of numbers


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """How good a model is, in one number. Errors, where less is better, are compared by their ratio."""

    name: str  # "accuracy", "rmse"
    higher_is_better: bool = True
    highest: float = 1.0  # it can be, where higher is better: a bound above it is a slip of the pen

    def gain(self, ours: float, theirs: float) -> float:
        """How much better ``ours`` is: the difference, or for errors the share of theirs that is saved."""
        if self.higher_is_better:
            return ours - theirs
        return (theirs - ours) / max(abs(theirs), 1e-12)

    def holds(self, value: float, bound: float) -> bool:
        """At least ``bound``; for errors at most. NaN never holds."""
        return value >= bound if self.higher_is_better else value <= bound


class Section(Protocol):
    """A frozen dataclass of a specification, each field with a default or required."""

    def check(self, where: str, preprocess: Any) -> None:
        """Raises Invalid naming the key under ``where``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskDeclaration:
    name: str  # as a specification says it
    kind: SampleKind
    annotation: Annotation
    metric: Metric
    bound: float  # of the metric, by default: what is worse is not published
    preprocess: type[Any]  # dataclass of the section ``preprocess``
    network: type[Any]  # dataclass of ``teacher`` and ``student``; a Section
    teacher: Callable[[], Any]  # its defaults
    student: Callable[[], Any]
    losses: tuple[str, ...]  # the first is the default
    augmentations: tuple[str, ...] = ()  # what ``train.augment`` may name; "" picks ``augment``
    augment: tuple[str, ...] = ()  # the default of ``train.augment``
    unused: tuple[str, ...] = ()  # keys of a specification, as "train.temperature", that are of no use to it: refused
    # "package.module:Class" or "/path/to/file.py:Class", a ``cloud_hub.pipeline.task.Task``; loaded by the worker alone
    implementation: str


def find(name: str) -> TaskDeclaration:
    """Raises Invalid naming those there are."""
    known = _known()
    if name not in known:
        raise Invalid(f"training spec: 'task' must be one of {', '.join(sorted(known))}, got {name!r}")
    return known[name]


def names() -> tuple[str, ...]:
    return tuple(sorted(_known()))


def register(files: Iterable[Path]) -> None:
    """Take in the tasks of Python files, each with one or more ``TaskDeclaration`` at its top level.

    Only the configuration of the hub may name them: they are code. Raises Invalid, also where a name is taken.
    """
    for path in files:
        found = [each for each in vars(load_file(path)).values() if isinstance(each, TaskDeclaration)]
        if not found:
            raise Invalid(f"task file {path} declares no task: it needs a TaskDeclaration")
        for task in found:
            if task.name in _known() and _of_files.get(task.name) != path:
                raise Invalid(f"task file {path} declares {task.name!r}, which is there already: give it another name")
            _known()[task.name] = task
            _of_files[task.name] = path


def file_of(name: str) -> Path | None:
    """That declares the task; None: it is of an installed package."""
    return _of_files.get(name)


def load_file(path: Path) -> ModuleType:
    """A Python file as a module, once. Raises Invalid."""
    name = f"tideline_task_{path.stem}_{zlib.crc32(str(path.absolute()).encode()):08x}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if path.suffix != ".py" or spec is None or spec.loader is None:
        raise Invalid(f"task file {path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # so that ``implementation`` may name it, and dataclasses find their own module
    try:
        if path.stat().st_mode & stat.S_IWOTH:
            raise PermissionError("everybody may write it, and the hub runs it: chmod o-w it")
        spec.loader.exec_module(module)
    except _OF_CODE as error:
        del sys.modules[name]
        raise Invalid(f"task file {path} cannot be used: {type(error).__name__}: {error}") from error
    return module


# What code of others raises while it is loaded.
_OF_CODE = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    ImportError,
    LookupError,
    NameError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    HubError,
)
_of_files: dict[str, Path] = {}  # by name of the task


@cache
def _known() -> dict[str, TaskDeclaration]:
    return {point.name: _loaded(point.name, point.load) for point in entry_points(group=GROUP)}


def _loaded(name: str, load: Callable[[], Any]) -> TaskDeclaration:
    task = load()
    if not isinstance(task, TaskDeclaration) or task.name != name:
        raise Invalid(f"the entry point {name!r} of {GROUP} is no TaskDeclaration of that name")
    return task
