"""What networks of all tasks share."""

from typing import TypeVar

import torch
from torch import nn

N = TypeVar("N", bound=nn.Module)


def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())
