"""What an interrupted training goes on from: one safetensors file, replaced whole after every epoch."""

import json
import logging
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler
from torch.optim import Optimizer

from cloud_hub.core.errors import Invalid
from cloud_hub.pipeline.optimise import Average
from edge_agent.core.files import write_atomic

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """Where a training stands after ``epoch`` whole epochs."""

    epoch: int = 0
    epochs: int = 0  # that fit into the budget; 0: not known yet
    value: float = 0.0  # of the last epoch, validation split; more is better
    best_value: float = float("-inf")
    best_loss: float = float("inf")
    stale: int = 0  # epochs since the best one
    seconds: float = 0.0
    history: tuple[tuple[float, float, float], ...] = ()  # of each epoch: training loss, validation loss, metric as it is


class Learner:
    """Everything that changes while a network learns, and so is kept."""

    def __init__(
        self, network: nn.Module, optimizer: Optimizer, average: Average | None = None, scaler: GradScaler | None = None
    ) -> None:
        self.network, self.optimizer, self.average, self.scaler = network, optimizer, average, scaler

    def shown(self) -> AbstractContextManager[None]:
        """The network holds the weights that are kept inside: the averaged ones, where there are."""
        return nullcontext() if self.average is None else self.average.in_place(self.network)

    def tensors(self) -> dict[str, Tensor]:
        found = {f"last/{name}": tensor for name, tensor in self.network.state_dict().items()}
        for index, values in self.optimizer.state_dict()["state"].items():
            known = {name: value for name, value in values.items() if value is not None}
            found |= {f"optimizer/{index}/{name}": torch.as_tensor(value) for name, value in known.items()}
        if self.average is not None:
            found |= {f"average/{name}": tensor for name, tensor in self.average.tensors.items()}
        return found

    def numbers(self) -> dict[str, object]:
        """JSON."""
        scale = self.scaler.state_dict() if self.scaler is not None else {}
        return {"average_steps": self.average.steps if self.average is not None else 0, "scaler": scale}

    def load(self, tensors: dict[str, Tensor], numbers: dict[str, object]) -> None:
        """Raises Invalid, RuntimeError where they are another network's."""
        self.network.load_state_dict(_under("last", tensors))
        _load_optimizer(self.optimizer, _under("optimizer", tensors))
        steps, scale = numbers.get("average_steps", 0), numbers.get("scaler")
        if self.average is not None and isinstance(steps, int):
            self.average.load(_under("average", tensors), steps)
        if self.scaler is not None and isinstance(scale, dict) and scale:
            self.scaler.load_state_dict(scale)


class Checkpoint:
    """One network's training in one file.

    Args:
        key: of everything that shapes the training (data, spec); a file made under another key is not used.
    """

    def __init__(self, path: Path, key: str) -> None:
        self._path = path
        self._key = key
        self._best: dict[str, Tensor] = {}

    def content(self) -> bytes:
        """Of the file; empty where there is none."""
        try:
            return self._path.read_bytes()
        except FileNotFoundError:
            return b""
        except OSError as error:
            self._unusable(error)
            return b""

    def load(self, learner: Learner, content: bytes | None = None) -> State:
        """Put back what was saved under the same key; a fresh State where there is nothing to go on from."""
        content = self.content() if content is None else content
        if not content:
            return State()
        try:
            about = metadata(content)
            if about.get("key") != self._key:
                return State()
            tensors = safetensors.torch.load(content)
            learner.load(tensors, json.loads(about["numbers"]))
            state = State(**json.loads(about["state"]))
        except (safetensors.SafetensorError, Invalid, RuntimeError, ValueError, KeyError, TypeError) as error:
            self._unusable(error)
            return State()
        self._best = _under("best", tensors)
        log.info("training goes on from a checkpoint", extra={"path": str(self._path), "epoch": state.epoch})
        return state

    def judged(self, state: State, network: nn.Module, value: float, loss: float, *, seconds: float) -> State:
        """The state after one more epoch; remembers the weights where they are the best so far (value, then loss)."""
        better = (value, -loss) > (state.best_value, -state.best_loss)
        following = replace(state, epoch=state.epoch + 1, value=value, seconds=state.seconds + seconds)
        if not better:
            return replace(following, stale=state.stale + 1)
        self._best = {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}
        return replace(following, best_value=value, best_loss=loss, stale=0)

    def save(self, state: State, learner: Learner) -> None:
        """Durable on return; a crash leaves the previous file or this one."""
        tensors = learner.tensors() | {f"best/{name}": tensor for name, tensor in self._best.items()}
        about = {"key": self._key, "state": json.dumps(asdict(state)), "numbers": json.dumps(learner.numbers())}
        plain = {name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()}
        write_atomic(self._path, safetensors.torch.save(plain, about))

    def restore_best(self, network: nn.Module) -> None:
        if self._best:
            network.load_state_dict(self._best)

    def take_best(self, network: nn.Module) -> bool:
        """Put the weights of the best epoch of the file into the network; False where there is no such file."""
        content = self.content()
        if not content or metadata(content).get("key") != self._key:
            return False
        network.load_state_dict(_under("best", safetensors.torch.load(content)))
        return True

    def _unusable(self, error: Exception) -> None:
        log.warning("checkpoint cannot be read, training starts again", extra={"path": str(self._path), "error": str(error)})


class Unkept(Checkpoint):
    """Of a training that nobody goes on with: it knows its best weights, and writes nothing."""

    def __init__(self) -> None:
        super().__init__(Path(), "")

    def content(self) -> bytes:
        return b""

    def save(self, state: State, learner: Learner) -> None:
        """Not kept."""


def metadata(content: bytes) -> dict[str, str]:
    """Of a safetensors file: eight bytes of length, then JSON."""
    size = int.from_bytes(content[:8], "little")
    head = json.loads(content[8 : 8 + size]) if size < len(content) else {}
    about = head.get("__metadata__") if isinstance(head, dict) else None
    return about if isinstance(about, dict) else {}


def _under(part: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(f"{part}/"): tensor for name, tensor in tensors.items() if name.startswith(f"{part}/")}


def _load_optimizer(optimizer: Optimizer, tensors: dict[str, Tensor]) -> None:
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        index, _, key = name.partition("/")
        state.setdefault(int(index), {})[key] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    for parameter, values in optimizer.state.items():
        for name, value in values.items():  # laid out as its weight is: elsewhere sums are taken in another order
            if isinstance(value, Tensor) and value.shape == parameter.shape:
                values[name] = torch.empty_like(parameter).copy_(value)
