"""Matrix products whose rows are the same bits in whatever batch they come."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from undrift.records import IntArray

Matrix = NDArray[np.float64]

PLACES = 32


def row_products(data: Matrix, axes: Matrix, rows: IntArray) -> Matrix:
    """Return ``data @ axes``, each row to the last bit the same whatever its company.

    A matrix product may sum in another order for another shape, or at another place of it. So
    rows are put where their number says in blocks of one size.

    Args:
        data: (n, d) finite numbers.
        axes: (d, k).
        rows: (n,) row numbers, all different.

    Returns:
        (n, k).
    """
    block, where = np.unique(rows // PLACES, return_inverse=True)
    padded = np.zeros((len(block), PLACES, data.shape[1]))
    padded[where, rows % PLACES] = data
    products: Matrix = (padded @ axes)[where, rows % PLACES]
    return products
