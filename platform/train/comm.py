"""How the workers of one retraining agree: a world of one, or torch.distributed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

import torch
import torch.distributed as dist


class Comm(Protocol):
    """The workers of one retraining.

    Attributes:
        rank: Number of this worker, 0 to world - 1.
        world: Number of workers.
    """

    rank: int
    world: int

    def mean_(self, tensors: Iterable[torch.Tensor]) -> None:
        """Replace each tensor, in place, by its mean over the workers."""


class SingleProcess:
    """A world of one: nothing to agree on."""

    rank = 0
    world = 1

    def mean_(self, tensors: Iterable[torch.Tensor]) -> None:
        """Leave the tensors as they are."""


class TorchDistributed:
    """The default process group of torch.distributed, which must be initialised."""

    def __init__(self) -> None:
        self.rank = dist.get_rank()
        self.world = dist.get_world_size()

    def mean_(self, tensors: Iterable[torch.Tensor]) -> None:
        """Average over the workers with one all-reduce, whatever the number of tensors."""
        parts = list(tensors)
        flat = torch.cat([t.detach().reshape(-1) for t in parts])
        dist.all_reduce(flat)
        flat /= self.world
        means = torch.split(flat, [t.numel() for t in parts])
        for tensor, mean in zip(parts, means, strict=True):
            tensor.copy_(mean.view_as(tensor))
