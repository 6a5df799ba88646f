"""Convolutions over time and one pooled linear head."""

import torch

from cloud_hub.pipeline.tasks.sections import ConvSpec
from cloud_hub.pipeline.temporal import Temporal


def build(spec: ConvSpec, *, channels: int, classes: int, seed: int) -> Temporal:
    """``(B, steps, channels)`` normalised -> ``(B, classes)`` logits; random weights from ``seed``."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Temporal(spec, channels=channels, outputs=classes, newest=False)
