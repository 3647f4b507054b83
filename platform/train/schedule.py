"""How fast a model learns over a run."""

from __future__ import annotations

# The rate rises over this share of the run: a confident model that is suddenly wrong everywhere
# starts with gradients that can silence its ReLUs for good.
_WARM_UP = 0.1


def rate(peak: float, share: float) -> float:
    """Return the learning rate: it rises over the first tenth of a run, then falls to zero.

    Args:
        peak: The rate that the two slopes would meet at.
        share: Share of the run that is over.

    Example:
        >>> [round(rate(1.0, share), 2) for share in (0.0, 0.1, 0.5, 1.0)]
        [0.01, 0.9, 0.5, 0.0]
    """
    return peak * min(1.0, (share + 1e-3) / _WARM_UP) * (1.0 - share)
