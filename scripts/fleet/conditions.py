"""What simulated devices and their links are like: everything that chance decides comes from one seed."""

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from edge_agent.core.errors import ConfigError
from edge_agent.core.layers import build


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    """What a version of a model does in the field."""

    refused: float = 0.0  # share of devices on which its golden run fails
    crashes: float = 0.0  # share of devices whose worker it takes down on trial
    crashes_per_hour: float = 0.0  # of the worker of a device that runs it, told as the agent tells them
    errors: float = 0.0  # share of inferences
    latency_ms: float = 10.0  # p50; the golden run takes as long on every device
    confidence: float = 0.85  # mean

    def __post_init__(self) -> None:
        for name in ("refused", "crashes", "errors", "confidence"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ConfigError(f"'{name}' must be in 0..1, got {getattr(self, name)}")
        if self.latency_ms <= 0 or self.crashes_per_hour < 0:
            raise ConfigError("'latency_ms' must be above 0, and 'crashes_per_hour' not below it")


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    seed: int = 1
    loss: float = 0.0  # chance that a message or a call finds the link broken
    latency_s: float = 0.0  # that the link adds, one way
    restart_every_s: float = 0.0  # mean time between restarts of one device; 0: never
    readings_per_s: float = 1.0  # of each device
    linger_s: float = 10.0  # between two batches of them
    report_s: float = 60.0
    fps: float = 10.0  # inferences a second as a trial counts them; only ``readings_per_s`` of them are told
    probation_s: float = 2.0
    deltas: bool = False  # decoding takes a process of its own each time, as on a device: not for thousands at once
    behaviours: Mapping[int, Behaviour] = field(default_factory=dict)  # by version; others are good

    def __post_init__(self) -> None:
        if not 0.0 <= self.loss < 1.0:
            raise ConfigError(f"'loss' must be in 0..1 and not 1, got {self.loss}")
        for name in ("latency_s", "restart_every_s", "readings_per_s"):
            if getattr(self, name) < 0:
                raise ConfigError(f"'{name}' must not be negative, got {getattr(self, name)}")
        for name in ("linger_s", "report_s", "fps", "probation_s"):
            if getattr(self, name) <= 0:
                raise ConfigError(f"'{name}' must be above 0, got {getattr(self, name)}")

    def of(self, version: int) -> Behaviour:
        return self.behaviours.get(version, Behaviour())

    def dice(self, *words: object) -> random.Random:
        """The same for the same seed and words, whatever else was thrown."""
        return random.Random("/".join(map(str, (self.seed, *words))))


def read_behaviours(path: Path) -> dict[int, Behaviour]:
    """YAML, as in ``2: {errors: 0.2, latency_ms: 40}``. Raises ConfigError."""
    try:
        values = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(f"cannot read {path}: {error}") from error
    if not isinstance(values, dict) or not all(isinstance(version, int) for version in values):
        raise ConfigError(f"{path} must map versions to what they do, as in 2: {{errors: 0.2}}")
    return {version: build(Behaviour, found or {}) for version, found in values.items()}
