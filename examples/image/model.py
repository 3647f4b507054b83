"""Handwritten digits, read by a small residual network.

The images are the 1,797 of scikit-learn's `load_digits`, doubled to 16 by 16 pixels and drawn again
and again with noise. From live row 600 on a new scanner delivers negatives.
"""

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn

CLASSES = tuple("0123456789")
ROWS, CHANGE = 5600, 3200


class Block(nn.Module):
    """Two convolutions beside which the input goes on."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return (n, channels, h, w) features."""
        return torch.relu(x + self.body(x))


def build() -> nn.Module:
    """Return the untrained model: a batch of images to one logit per digit."""
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, stride=2, padding=1),
        nn.ReLU(),
        Block(8),
        nn.Conv2d(8, 16, 3, stride=2, padding=1),
        nn.ReLU(),
        Block(16),
        nn.Flatten(),
        nn.Linear(256, 32),
        nn.ReLU(),
        nn.Linear(32, 10),
    )


def rows() -> tuple[np.ndarray, np.ndarray]:
    """Return (n, 1, 16, 16) images from 0 to 1 in order of time, and the (n,) digit of each."""
    rng = np.random.default_rng(0)
    found = load_digits()
    images = np.kron(found.images / 16.0, np.ones((1, 2, 2)))
    index = rng.integers(0, len(images), ROWS)
    seen = images[index]
    seen[CHANGE:] = 1.0 - seen[CHANGE:]
    seen = seen + rng.normal(0.0, 0.1, seen.shape)
    return seen[:, None].astype(np.float32), found.target[index].astype(np.int64)
