"""What one batch costs: time, and memory for what the model computes on its way."""

from __future__ import annotations

import statistics
import time
import weakref
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from undrift.model.network import forward_with_embedding

_TIMES = 5


@dataclass(frozen=True, slots=True)
class Cost:
    """What a batch takes on one core of this machine, as a replica computes it.

    Attributes:
        rows: Rows of the batch.
        seconds: Median of a few forward passes.
        bytes: Most that tensors held at one time, beside the batch and the weights.
    """

    rows: int
    seconds: float
    bytes: int


def batch_cost(model: nn.Module, head: nn.Linear, x: torch.Tensor, rows: int) -> Cost:
    """Run a model on batches of so many rows; it is left in evaluation mode.

    Args:
        model: The model.
        head: Its head.
        x: (n, *row_shape) rows, at least one; they are repeated as often as needed.
        rows: Rows of a batch.

    Raises:
        ModelError: The model fails.

    Example:
        >>> layer = nn.Linear(4, 8)
        >>> batch_cost(layer, layer, torch.zeros(2, 4), 100).bytes == 4 * 100 * (2 * 4 + 2 * 8)
        True
    """
    batch = x[torch.arange(rows) % len(x)]
    model.eval()

    def seconds() -> float:
        begun = time.perf_counter()
        forward_with_embedding(model, head, batch)
        return time.perf_counter() - begun

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            with _Peak() as held:
                seconds()
            taken = statistics.median(seconds() for _ in range(_TIMES))
    finally:
        torch.set_num_threads(threads)
    return Cost(rows, taken, held.most)


class _Peak(TorchDispatchMode):
    """Counts the bytes of tensors that are made while it is on.

    Attributes:
        most: Most of them that lived at one time.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._now = self.most = 0
        self._users: Counter[int] = Counter()  # tensors of each storage that was made

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        made = func(*args, **(kwargs or {}))
        given = {_storage(t)[0] for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)}
        for tensor in tree_leaves(made):
            if not isinstance(tensor, torch.Tensor):
                continue
            key, size = _storage(tensor)
            if key in given and key not in self._users:
                continue  # a view of a weight, or of the batch
            if key not in self._users:
                self._now += size
                self.most = max(self.most, self._now)
            self._users[key] += 1
            weakref.finalize(tensor, self._drop, key, size)
        return made

    def _drop(self, key: int, size: int) -> None:
        self._users[key] -= 1
        if not self._users[key]:
            del self._users[key]
            self._now -= size


def _storage(tensor: torch.Tensor) -> tuple[int, int]:
    storage = tensor.untyped_storage()
    return storage.data_ptr(), storage.nbytes()
