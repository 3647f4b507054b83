"""The networks. Needs torch alone, since Avalanche runs them in an environment of its own."""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from torch import nn


def cnn(width: int = 1) -> nn.Module:
    """Two convolutional layers for 28 x 28 images, 10 classes; 47,000 weights at width 1."""
    first, second, hidden = 16 * width, 32 * width, 64 * width
    return nn.Sequential(
        nn.Conv2d(1, first, 5), nn.MaxPool2d(2), nn.ReLU(),
        nn.Conv2d(first, second, 5), nn.MaxPool2d(2), nn.ReLU(),
        nn.Flatten(), nn.Linear(16 * second, hidden), nn.ReLU(), nn.Linear(hidden, 10),
    )  # fmt: skip


def resnet(width: int = 1) -> nn.Module:
    """A residual network of 8, 16 and 32 channels for 32 x 32 images; 20,000 weights at width 1.

    Reference:
        He et al.: Deep residual learning for image recognition. CVPR 2016.
    """
    a, b, c = 8 * width, 16 * width, 32 * width
    return nn.Sequential(
        nn.Conv2d(3, a, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(a), nn.ReLU(),
        Residual(a, a, 1), Residual(a, b, 2), Residual(b, c, 2),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(c, 10),
    )  # fmt: skip


class Residual(nn.Module):
    """Two 3 x 3 convolutions beside a shortcut."""

    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inside, outside, 3, stride, 1, bias=False)
        self.first_norm = nn.BatchNorm2d(outside)
        self.second = nn.Conv2d(outside, outside, 3, 1, 1, bias=False)
        self.second_norm = nn.BatchNorm2d(outside)
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or inside != outside:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inside, outside, 1, stride, bias=False), nn.BatchNorm2d(outside)
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        inner = F.relu(self.first_norm(self.first(x)))
        return F.relu(self.second_norm(self.second(inner)) + self.shortcut(x))


def mlp(columns: int, classes: int, width: int = 1) -> nn.Module:
    """Two hidden layers of 256 units at width 1, for tables."""
    hidden = 256 * width
    return nn.Sequential(
        nn.Linear(columns, hidden), nn.ReLU(),
        nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, classes),
    )  # fmt: skip


def insects_mlp(width: int = 1) -> nn.Module:
    return mlp(33, 6, width)


def electricity_mlp(width: int = 1) -> nn.Module:
    return mlp(6, 2, width)


def digits_mlp() -> nn.Module:
    return nn.Sequential(nn.Flatten(), mlp(784, 10))


# What takes the place of a network where tasks are run large.
LARGE = {net: partial(net, 8) for net in (cnn, resnet, insects_mlp, electricity_mlp)}
