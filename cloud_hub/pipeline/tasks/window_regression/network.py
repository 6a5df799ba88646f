"""Convolutions over time, and a linear head that sees their mean and the newest of them."""

import torch

from cloud_hub.pipeline.tasks.sections import ConvSpec
from cloud_hub.pipeline.temporal import Temporal


def build(spec: ConvSpec, *, channels: int, values: int, seed: int) -> Temporal:
    """``(B, steps, channels)`` normalised -> ``(B, values)`` scaled; random weights from ``seed``."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Temporal(spec, channels=channels, outputs=values, newest=True)
