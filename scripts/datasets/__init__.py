"""Real data sets as samples, for tests and for the table of tasks (``scripts/tasks``).

Every module here reads one data set and says in ``EXAMPLES`` which models are trained on it: found by ``examples``, each with
the specification ``docs/examples/specs/NAME.yaml``.
"""

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

from cloud_hub.core.spec import TrainingSpec, parse
from cloud_hub.pipeline.clean import RawSample
from protos.contract.ids import digest_of

REPOSITORY = Path(__file__).resolve().parents[2]
SPECS = REPOSITORY / "docs" / "examples" / "specs"


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One model on real data."""

    name: str  # of the specification's file too
    data: str  # in words, with how it is split
    samples: Callable[[Path], Iterable[RawSample]]  # from the folder that holds all data sets
    labels: tuple[str, ...] = ()  # of the data set, where samples are of classes
    reference: str = ""  # what others, or a simple method, reach on the same data
    figures: tuple[str, ...] = ()  # further figures of the score's details for the table
    quick: Mapping[str, Any] = field(default_factory=dict)  # changes to the specification that train it in seconds

    def spec(self, *, quick: bool = False) -> TrainingSpec:
        text = (SPECS / f"{self.name}.yaml").read_text(encoding="utf-8")
        return parse(text if not quick else _changed(text, self.quick))


def examples() -> tuple[Example, ...]:
    """Of every module here, by name."""
    modules = (import_module(f"{__name__}.{found.name}") for found in iter_modules(__path__))
    return tuple(sorted((each for module in modules for each in getattr(module, "EXAMPLES", ())), key=lambda each: each.name))


def folder() -> Path:
    """Where the data sets are: TIDELINE_DATA, or ``../shared/data`` beside the checkout."""
    return Path(os.environ.get("TIDELINE_DATA", REPOSITORY.parent / "shared" / "data"))


def raw(
    content: bytes, label: str = "", *, name: str = "", source: str = "", split: str = "", group: str = "", at_ms: int = 0
) -> RawSample:
    """A sample as a data set has it."""
    digest = digest_of(content)
    return RawSample(
        id=digest[-12:],
        digest=digest,
        content=content,
        label=label,
        source=source,
        split=split,
        name=name or digest[-6:],
        group=group,
        at_ms=at_ms,
    )


def _changed(text: str, changes: Mapping[str, Any]) -> str:
    import yaml

    values = yaml.safe_load(text)
    for key, change in changes.items():
        values[key] = {**values.get(key, {}), **change} if isinstance(change, Mapping) else change
    return yaml.safe_dump(values, sort_keys=False)
