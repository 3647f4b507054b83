"""Friedman's five-variable function with drift: a number from ten inputs, five of them idle.

y = 10 sin(pi x_a x_b) + 20 (x_c - 1/2)^2 + 10 x_d + 5 x_e + noise, with uniform inputs and standard
normal noise (Friedman. "Multivariate adaptive regression splines", Annals of Statistics 1991). The
drift is the global recurring abrupt one of Ikonomovska, Gama, Dzeroski ("Learning model trees from
evolving data streams", 2011), as River's `FriedmanDrift` has it: from live row 600 on other inputs
take the places of the five, x_d, x_e, x_b, x_a, x_c.
"""

import numpy as np
from torch import nn

ROWS, CHANGE, STEPS = 5600, 3200, 2000
BEFORE, AFTER = (0, 1, 2, 3, 4), (3, 4, 1, 0, 2)


def build() -> nn.Module:
    """Return the untrained model: a batch of rows to one number per row."""
    return nn.Sequential(
        nn.Linear(10, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 1)
    )


def rows() -> tuple[np.ndarray, np.ndarray]:
    """Return (n, 10) inputs in order of time, and the (n,) number of each."""
    rng = np.random.default_rng(0)
    x = rng.uniform(size=(ROWS, 10))
    y = np.concatenate([_friedman(x[:CHANGE], BEFORE), _friedman(x[CHANGE:], AFTER)])
    y += rng.normal(size=ROWS)
    return x.astype(np.float32), y.astype(np.float32)


def _friedman(x: np.ndarray, order: tuple[int, ...]) -> np.ndarray:
    a, b, c, d, e = x[:, order].T
    return 10 * np.sin(np.pi * a * b) + 20 * (c - 0.5) ** 2 + 10 * d + 5 * e
