"""A PyTorch network's values, function by function."""

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from cloud_hub.pipeline.taps import Tap

_WEIGHTED = {"conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d", "linear"}


@torch.inference_mode()
def taps(network: nn.Module, batch: Tensor) -> list[Tap]:
    """What each function gives for ``batch``; the network is in eval mode, on the batch's device."""
    listener = _Listener()
    with ExitStack() as stack:
        for name, module in network.named_modules():
            stack.callback(module.register_forward_pre_hook(listener.entering(name)).remove)
            stack.callback(module.register_forward_hook(listener.leaving).remove)
        stack.enter_context(listener)
        network(batch)
    return listener.taps


class _Listener(TorchFunctionMode):
    def __init__(self) -> None:
        super().__init__()
        self.taps: list[Tap] = []
        self._inside: list[str] = []  # modules that are being run, the innermost last

    def entering(self, name: str) -> Callable[[nn.Module, Any], None]:
        def enter(module: nn.Module, inputs: Any) -> None:
            self._inside.append(name)

        return enter

    def leaving(self, module: nn.Module, inputs: Any, output: Any) -> None:
        self._inside.pop()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = func(*args, **(kwargs or {}))
        first = given[0] if isinstance(given, tuple) and given else given  # an RNN's outputs come before its state
        if isinstance(first, Tensor) and first.is_floating_point() and first.ndim >= 2:
            operator = getattr(func, "__name__", str(func))
            self.taps.append(
                Tap(
                    operator=operator,
                    name=self._inside[-1] if self._inside else "",
                    weighted=operator in _WEIGHTED,
                    values=first.detach().float().cpu().contiguous().numpy().copy(),
                )
            )
        return given
