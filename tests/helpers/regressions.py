"""Models that answer numbers: one to a row, several, and in a unit of their own."""

from __future__ import annotations

import torch
from torch import nn

from tests.helpers.family import Family


class OneNumber(nn.Module):
    """Answers (n,), without a dimension of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(6, 16), nn.Linear(16, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.relu(self.body(x)))[:, 0]


class InItsUnit(nn.Module):
    """Undoes a normalisation of its targets, behind its head."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(6, 16), nn.Linear(16, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 1000.0 * self.head(torch.relu(self.body(x))) + 50.0


class Means(nn.Module):
    """Answers a dict: the numbers, and how sure it is of each."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head, self.doubt = nn.Linear(6, 16), nn.Linear(16, 2), nn.Linear(16, 2)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        hidden = torch.relu(self.body(x))
        return {"doubt": self.doubt(hidden).exp(), "mean": self.head(hidden)}


def _mean(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    return model(x)["mean"]


REGRESSIONS: dict[str, Family] = {
    "regression": Family(OneNumber, targets=1),
    "multi-output regression": Family(
        lambda: nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 3)), targets=3
    ),
    "regression that undoes a normalisation": Family(InItsUnit, targets=2),
    "regression with doubt": Family(Means, targets=2, head="head", output="mean", alone=_mean),
}
