"""Linear maps over time that all channels share (Zeng et al.: Are Transformers Effective for Time Series Forecasting? 2023)."""

import torch
from torch import Tensor, nn

from cloud_hub.pipeline.tasks.forecasting import ForecasterSpec
from cloud_hub.pipeline.temporal import conv


class Forecaster(nn.Module):
    """``(B, lookback, channels)`` scaled -> ``(B, levels * horizon * told)``: levels, then steps, then channels."""

    def __init__(
        self, spec: ForecasterSpec, *, lookback: int, horizon: int, channels: int, told: tuple[int, ...], levels: int
    ) -> None:
        super().__init__()
        self.told = None if told == tuple(range(channels)) else told
        self.anchored, self.levels = spec.anchored, levels
        self.over_time = nn.Linear(lookback, levels * horizon)
        nn.init.constant_(self.over_time.weight, 0.0 if spec.anchored else 1 / lookback)  # the last value, or the mean
        self.bend: nn.Module | None = None
        if spec.kind == "conv":
            self.bend = _Bend(spec, lookback, levels * horizon)

    def forward(self, batch: Tensor) -> Tensor:
        if self.told is not None:
            batch = torch.cat([batch[:, :, i : i + 1] for i in self.told], 2)
        series = batch.permute(0, 2, 1)  # (B, told, lookback)
        last = series[:, :, -1:]
        ahead = self.over_time(series - last if self.anchored else series)  # (B, told, levels * horizon)
        if self.bend is not None:
            ahead = ahead + self.bend(series)
        if self.anchored:
            ahead = ahead + last
        answer: Tensor = ahead.permute(0, 2, 1).flatten(1)
        return answer


class _Bend(nn.Module):
    """What is not linear, as a correction that starts at nothing: convolutions over the time of each channel alone."""

    def __init__(self, spec: ForecasterSpec, lookback: int, values: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs, width, steps = 1, spec.width, lookback
        for _ in range(spec.stages):
            layers += conv(inputs, width, kernel=spec.kernel, stride=2)
            inputs, width, steps = width, 2 * width, (steps + 1) // 2
        self.features = nn.Sequential(*layers)
        self.drop = nn.Dropout(spec.dropout)
        self.head = nn.Linear(inputs * steps, values)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, series: Tensor) -> Tensor:
        seen = self.features(series.unsqueeze(1))  # (B, width, told, steps): channels lie where pictures have their height
        out: Tensor = self.head(self.drop(seen.permute(0, 2, 1, 3).flatten(2)))
        return out


def build(
    spec: ForecasterSpec, *, lookback: int, horizon: int, channels: int, told: tuple[int, ...], levels: int, seed: int
) -> Forecaster:
    """Random weights from ``seed``."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Forecaster(spec, lookback=lookback, horizon=horizon, channels=channels, told=told, levels=levels)
