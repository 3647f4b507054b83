"""Cells of breast tumours: thirty measurements to a row, benign or malignant.

The rows are the 569 of scikit-learn's `load_breast_cancer`, drawn again and again with a tenth of a
standard deviation of noise. From live row 600 on a new microscope reports means and worst values,
two thirds of the columns, upside down: the largest nucleus gets the smallest number.
"""

import numpy as np
from sklearn.datasets import load_breast_cancer
from torch import nn

CLASSES = ("malignant", "benign")
ROWS, CHANGE = 5600, 3200


def build() -> nn.Module:
    """Return the untrained model: a batch of rows to one logit per class."""
    return nn.Sequential(
        nn.Linear(30, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 2)
    )


def rows() -> tuple[np.ndarray, np.ndarray]:
    """Return (n, 30) standardised measurements in order of time, and the (n,) class of each."""
    rng = np.random.default_rng(0)
    x, y = load_breast_cancer(return_X_y=True)
    x = (x - x.mean(axis=0)) / x.std(axis=0)
    index = rng.integers(0, len(y), ROWS)
    seen = x[index] + rng.normal(0.0, 0.1, (ROWS, 30))
    seen[CHANGE:, :10] *= -1.0
    seen[CHANGE:, 20:] *= -1.0
    return seen.astype(np.float32), y[index].astype(np.int64)
