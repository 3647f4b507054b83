"""The model that undrift serves; put your own in its place.

undrift calls `build` and fills the model with the weights that undrift.yaml names. Running this
file trains it on made-up points, three spiral arms, and writes the two files that undrift.yaml
names: weights.safetensors and reference.npz.
"""

from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn

FOLDER = Path(__file__).parent
CLASSES = 3


def build() -> nn.Module:
    """Return the untrained model: a batch of inputs to one logit per class."""
    return nn.Sequential(
        nn.Linear(2, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, CLASSES)
    )


def points(n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return n points on three spiral arms, and the arm of each."""
    y = rng.integers(0, CLASSES, n)
    radius = rng.uniform(0.1, 1.0, n)
    angle = 2 * np.pi * y / CLASSES + 3 * radius + rng.normal(0, 0.5, n)
    x = radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return x.astype(np.float32), y


def main() -> None:
    """Train the model and write its weights and its reference rows."""
    rng = np.random.default_rng(0)
    torch.manual_seed(0)
    x, y = points(3000, rng)
    model = build()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(200):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(torch.from_numpy(x)), torch.from_numpy(y))
        loss.backward()
        optimizer.step()
    save_file(model.state_dict(), FOLDER / "weights.safetensors")
    # The reference must be rows that the model has not been trained on.
    x, y = points(1000, rng)
    np.savez(FOLDER / "reference.npz", x=x, y=y)


if __name__ == "__main__":
    main()
