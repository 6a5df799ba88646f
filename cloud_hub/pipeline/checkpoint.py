"""What an interrupted training goes on from: one safetensors file, replaced whole after every epoch."""

import json
import logging
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from edge_agent.core.files import write_atomic

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """Where a training stands after ``epoch`` whole epochs."""

    epoch: int = 0
    accuracy: float = 0.0  # of the last epoch, validation split
    best_accuracy: float = -1.0
    best_loss: float = float("inf")
    stale: int = 0  # epochs since the best one
    seconds: float = 0.0


class Checkpoint:
    """One network's training in one file.

    Args:
        key: of everything that shapes the training (data, spec); a file made under another key is not used.
    """

    def __init__(self, path: Path, key: str) -> None:
        self._path = path
        self._key = key
        self._best: dict[str, Tensor] = {}

    def load(self, network: nn.Module, optimizer: Optimizer) -> State:
        """Put back what was saved under the same key; a fresh State where there is nothing to go on from."""
        try:
            with safetensors.safe_open(str(self._path), "pt") as file:
                about = file.metadata() or {}
                if about.get("key") != self._key:
                    return State()
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a mapping
        except FileNotFoundError:
            return State()
        except (safetensors.SafetensorError, OSError) as error:
            log.warning(
                "checkpoint cannot be read, training starts again", extra={"path": str(self._path), "error": str(error)}
            )
            return State()
        network.load_state_dict(_under("last", tensors))
        self._best = _under("best", tensors)
        _load_optimizer(optimizer, _under("optimizer", tensors))
        state = State(**json.loads(about["state"]))
        log.info("training goes on from a checkpoint", extra={"path": str(self._path), "epoch": state.epoch})
        return state

    def judged(self, state: State, network: nn.Module, accuracy: float, loss: float, *, seconds: float) -> State:
        """The state after one more epoch; remembers the weights where they are the best so far (accuracy, then loss)."""
        better = (accuracy, -loss) > (state.best_accuracy, -state.best_loss)
        following = replace(state, epoch=state.epoch + 1, accuracy=accuracy, seconds=state.seconds + seconds)
        if not better:
            return replace(following, stale=state.stale + 1)
        self._best = {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}
        return replace(following, best_accuracy=accuracy, best_loss=loss, stale=0)

    def save(self, state: State, network: nn.Module, optimizer: Optimizer) -> None:
        """Durable on return; a crash leaves the previous file or this one."""
        tensors = {f"last/{name}": tensor for name, tensor in network.state_dict().items()}
        tensors |= {f"best/{name}": tensor for name, tensor in self._best.items()}
        for index, values in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer/{index}/{name}": torch.as_tensor(value) for name, value in values.items()}
        about = {"key": self._key, "state": json.dumps(asdict(state))}
        plain = {name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()}
        write_atomic(self._path, safetensors.torch.save(plain, about))

    def restore_best(self, network: nn.Module) -> None:
        if self._best:
            network.load_state_dict(self._best)


def _under(part: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(f"{part}/"): tensor for name, tensor in tensors.items() if name.startswith(f"{part}/")}


def _load_optimizer(optimizer: Optimizer, tensors: dict[str, Tensor]) -> None:
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        index, _, key = name.partition("/")
        state.setdefault(int(index), {})[key] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
