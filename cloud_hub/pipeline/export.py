"""A trained network -> the files devices run. One conversion at a time in a process: converters are not thread-safe."""

import contextlib
import copy
import importlib
import logging
import os
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from cloud_hub.pipeline.data import Splits
from protos.contract.inputs import Layout
from protos.contract.manifest import Format, Precision

Tell = Callable[[float, str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """One model file."""

    target: str  # one of spec.TARGETS
    format: Format
    precision: Precision
    layout: Layout
    data: bytes

    @property
    def runtimes(self) -> tuple[str, ...]:
        """Those of ``boards.RUNTIMES`` that run it, best first."""
        return ("onnx",) if self.format is Format.ONNX else ("tflite", "tflite-legacy")


def export(network: nn.Module, splits: Splits, targets: tuple[str, ...], folder: Path, tell: Tell) -> tuple[Artifact, ...]:
    """Every file of the formats in ``targets``: int8 is made from fp32 and timed against it, so both are always made."""
    plain, wanted = ready(network), formats(targets)
    made: list[Artifact] = []
    for number, name in enumerate(wanted, 1):
        with quiet(folder / "converters.log"):
            # Imported where it is needed: each converter costs seconds, hundreds of megabytes and pages of warnings.
            converter = importlib.import_module(f"cloud_hub.pipeline.to_{name}")
            made += converter.convert(plain, splits, folder)
        tell(number / len(wanted), ", ".join(f"{a.target} {len(a.data) / 1024:.0f} KiB" for a in made[-2:]))
    return tuple(made)


def formats(targets: tuple[str, ...]) -> list[str]:
    """Those that ``targets`` name; each has its module ``to_<format>``."""
    return [name for name in ("onnx", "tflite") if any(target.startswith(name) for target in targets)]


def ready(network: nn.Module) -> nn.Module:
    """A copy as converters want it: in eval mode, on the CPU, laid out plainly."""
    copied: nn.Module = copy.deepcopy(network).cpu().eval().to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    return copied


@contextlib.contextmanager
def quiet(log: Path) -> Iterator[None]:
    """Send what converters print, from C++ too, to a file: nobody else may write to this process's outputs meanwhile."""
    previous = logging.root.manager.disable
    logging.disable(logging.ERROR)
    kept = [os.dup(1), os.dup(2)]
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        for descriptor in (1, 2):
            os.dup2(file, descriptor)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for descriptor, saved in zip((1, 2), kept, strict=True):
            os.dup2(saved, descriptor)
            os.close(saved)
        os.close(file)
        logging.disable(previous)
