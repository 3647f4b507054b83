"""The models of the benchmark: the same weights in every process. Imports PyTorch alone."""

from __future__ import annotations

import torch
from torch import nn

SHAPES = {"small": (2,), "wide": (256,), "large": (64,), "images": (3, 32, 32)}
CLASSES = 3


def build(name: str) -> nn.Module:
    """Return a model of ``SHAPES`` that answers logits."""
    torch.manual_seed(0)
    if name == "images":
        layers: list[nn.Module] = [
            nn.Conv2d(3, 16, 3, 2, 1),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, 2, 1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(32, CLASSES),
        ]
    elif name == "large":
        layers = [
            nn.Linear(64, 4096),
            nn.ReLU(),
            nn.Linear(4096, 4096),
            nn.ReLU(),
            nn.Linear(4096, 2048),
            nn.ReLU(),
            nn.Linear(2048, CLASSES),
        ]
    else:
        (width,) = SHAPES[name]
        layers = [
            nn.Linear(width, 64),
            nn.ReLU(),
            nn.Linear(64, 64),
            nn.ReLU(),
            nn.Linear(64, CLASSES),
        ]
    return nn.Sequential(*layers).eval()


def small() -> nn.Module:
    """Return the model of small requests."""
    return build("small")


def wide() -> nn.Module:
    """Return the model of batches."""
    return build("wide")


def large() -> nn.Module:
    """Return the model of 25 million parameters."""
    return build("large")


def images() -> nn.Module:
    """Return the model of images."""
    return build("images")
