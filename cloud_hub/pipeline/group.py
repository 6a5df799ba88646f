"""The processes that train one network together, each on its share of every batch; one alone is the usual case."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Where ``world`` is above 1 the default process group of ``torch.distributed`` must be open."""

    rank: int = 0
    world: int = 1

    @property
    def leads(self) -> bool:
        """The one that validates, saves and tells."""
        return self.rank == 0

    def share(self, rows: Tensor) -> Tensor:
        """This process's samples of a batch; together all of them, none twice."""
        return rows[self.rank :: self.world] if self.world > 1 else rows

    def wrap(self, network: nn.Module) -> nn.Module:
        """Gradients become the mean over all processes; batch norm's statistics are those of the leader."""
        if self.world == 1:
            return network
        place = next(network.parameters()).device
        return DistributedDataParallel(network, device_ids=[place] if place.type == "cuda" else None)

    def apart(self, model: nn.Module) -> AbstractContextManager[None]:
        """A forward and a backward pass whose gradients wait for the next one before they are exchanged.

        Compiled networks exchange them each time: the mean of sums is the sum of means.
        """
        return model.no_sync() if isinstance(model, DistributedDataParallel) else nullcontext()

    def agreed(self, values: Sequence[float], place: torch.device) -> tuple[float, ...]:
        """The leader's, for all: decisions made on them are the same everywhere."""
        if self.world == 1:
            return tuple(values)
        said = torch.tensor(values, dtype=torch.float64, device=place)
        distributed.broadcast(said, 0)
        return tuple(said.tolist())

    def mean(self, value: Tensor) -> Tensor:
        if self.world > 1:
            distributed.all_reduce(value)
            value /= self.world
        return value

    def shared(self, data: bytes, place: torch.device) -> bytes:
        """The leader's bytes, for all: they may be on machines that share no disk."""
        if self.world == 1:
            return data
        (size,) = self.agreed([len(data)], place)
        buffer = torch.zeros(int(size), dtype=torch.uint8, device=place)
        if self.leads and data:
            buffer.copy_(torch.frombuffer(bytearray(data), dtype=torch.uint8))
        if size:
            distributed.broadcast(buffer, 0)
        return buffer.cpu().numpy().tobytes()


ALONE = Group()
