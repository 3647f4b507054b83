"""Windows of a vibration, sorted by its form: sine, square or saw, by convolutions over time.

They are made by a rule: 48 samples of a wave of 3 to 5 periods with random phase and noise. From
live row 600 on a new sensor takes samples half as often: 6 to 10 periods to a window.
"""

import numpy as np
from torch import nn

CLASSES = ("sine", "square", "saw")
ROWS, CHANGE, LENGTH = 5600, 3200, 48


def build() -> nn.Module:
    """Return the untrained model: a batch of windows to one logit per form."""
    return nn.Sequential(
        nn.Conv1d(1, 16, 7, padding=3),
        nn.ReLU(),
        nn.MaxPool1d(2),
        nn.Conv1d(16, 32, 5, padding=2),
        nn.ReLU(),
        nn.AdaptiveMaxPool1d(4),
        nn.Flatten(),
        nn.Linear(128, 32),
        nn.ReLU(),
        nn.Linear(32, 3),
    )


def rows() -> tuple[np.ndarray, np.ndarray]:
    """Return (n, 1, 48) windows in order of time, and the (n,) form of each."""
    rng = np.random.default_rng(0)
    form = rng.integers(0, 3, ROWS)
    periods = rng.uniform(3.0, 5.0, ROWS) * np.where(np.arange(ROWS) >= CHANGE, 2.0, 1.0)
    at = np.arange(LENGTH) / LENGTH
    turns = periods[:, None] * at + rng.random((ROWS, 1))
    sine = np.sin(2 * np.pi * turns)
    waves = np.stack([sine, np.sign(sine), 2.0 * (turns % 1.0) - 1.0])
    seen = waves[form, np.arange(ROWS)] + rng.normal(0.0, 0.3, (ROWS, LENGTH))
    return seen[:, None].astype(np.float32), form.astype(np.int64)
