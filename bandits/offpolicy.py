"""What another policy would have earned, from a log of choices with their propensities."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from undrift.bandits.base import Arms, Floats, Probabilities, require

_MIN_EFFECTIVE = 100  # choices; with fewer, a standard error is itself a guess
_MIN_SHARE = 0.02  # effective sample over choices; below, a few choices decide
_FAR = 4.0  # standard errors by which the mean weight may miss 1


@dataclass(frozen=True, slots=True)
class Log:
    """Choices of a policy, with the probability of each at the time it was made.

    Args:
        arms: Arms drawn (n,).
        rewards: What they earned (n,).
        probabilities: With which probability they were drawn (n,), in (0, 1].

    Raises:
        ValueError: Lengths differ, nothing is logged, or a value is outside its range.
    """

    arms: Arms
    rewards: Floats
    probabilities: Probabilities

    def __post_init__(self) -> None:
        for name, kind in (("arms", None), ("rewards", float), ("probabilities", float)):
            object.__setattr__(self, name, np.asarray(getattr(self, name), dtype=kind))
        n, p = len(self), self.probabilities
        shapes = [self.arms.shape, self.rewards.shape, p.shape]
        require(n > 0 and shapes == [(n,)] * 3, "the log", "of equal columns, not empty", shapes)
        integer = np.issubdtype(self.arms.dtype, np.integer)
        require(integer and self.arms.min() >= 0, "arms", "integers from 0", self.arms)
        require(bool(np.isfinite(self.rewards).all()), "rewards", "finite", "NaN or infinity")
        inside = (p > 0.0) & (p <= 1.0 + 1e-9)
        require(bool(inside.all()), "probabilities", "in (0, 1]", p[~inside][:5])

    def __len__(self) -> int:
        return len(self.arms)


@dataclass(frozen=True, slots=True)
class Estimate:
    """An off-policy estimate.

    Attributes:
        value: Estimated mean reward of the target policy.
        standard_error: Of ``value``, from the spread over the log.
        effective: Effective sample size: so many choices of the target itself would tell as much.
        warning: Why not to trust the estimate, in words; empty if nothing speaks against it.
    """

    value: float
    standard_error: float
    effective: float
    warning: str


def inverse_propensity(log: Log, target: Probabilities) -> Estimate:
    """Estimate the target's mean reward by weighting every reward by target / propensity (IPS).

    Unbiased if every arm that the target may draw could be drawn when the log was made, also if
    the logging policy learnt as it went; the standard error then holds in large samples.

    Args:
        log: The log.
        target: Probabilities of the policy to evaluate: (K,), or (n, K) if they change by row.

    Raises:
        ValueError: The target is no distribution, or never draws an arm that was logged.

    Example:
        >>> log = Log(np.array([0, 1, 1, 0]), np.array([0.0, 1.0, 1.0, 0.0]), np.full(4, 0.5))
        >>> inverse_propensity(log, np.array([0.0, 1.0])).value
        1.0

    Reference:
        Horvitz, Thompson: A generalization of sampling without replacement from a finite
        universe. JASA 47, 1952.
    """
    weight = _weights(log, target)
    return _mean(weight * log.rewards, weight, log)


def self_normalized(log: Log, target: Probabilities) -> Estimate:
    """Estimate the target's mean reward by a weighted mean of the rewards (SNIPS).

    The bias vanishes as the log grows, the variance is usually far below that of
    `inverse_propensity`, and the estimate stays within the range of the rewards. The standard
    error is that of a ratio, by linearisation.

    Args:
        log: The log.
        target: Probabilities of the policy to evaluate: (K,), or (n, K) if they change by row.

    Raises:
        ValueError: The target is no distribution, or never draws an arm that was logged.

    Reference:
        Swaminathan, Joachims: The self-normalized estimator for counterfactual learning.
        NeurIPS 2015.
    """
    weight = _weights(log, target)
    value = float((weight * log.rewards).sum() / weight.sum())
    error = float(np.sqrt((weight**2 * (log.rewards - value) ** 2).sum()) / weight.sum())
    return Estimate(value, error, _effective(weight), _warning(weight, log))


def doubly_robust(log: Log, target: Probabilities, predicted: Floats) -> Estimate:
    """Estimate the target's mean reward from predicted rewards, corrected by propensities.

    Unbiased as `inverse_propensity` is, whatever the predictions, as long as the prediction for
    a row was not fitted to that row's reward; the better they are, the smaller the error.

    Args:
        log: The log.
        target: Probabilities of the policy to evaluate: (K,), or (n, K) if they change by row.
        predicted: Predicted reward of every arm: (K,), or (n, K) if it changes by row.

    Raises:
        ValueError: The target is no distribution, or never draws an arm that was logged, or the
            predictions have another shape or are not finite.

    Reference:
        Dudík, Langford, Li: Doubly robust policy evaluation and learning. ICML 2011.
    """
    weight = _weights(log, target)
    table, guess = _table(target, log, "target"), _table(predicted, log, "predicted")
    require(table.shape == guess.shape, "predicted", f"for {table.shape[1]} arms", guess.shape)
    require(bool(np.isfinite(guess).all()), "predicted", "finite", "NaN or infinity")
    residual = log.rewards - guess[np.arange(len(log)), log.arms]
    return _mean((table * guess).sum(axis=1) + weight * residual, weight, log)


def _mean(terms: Floats, weight: Floats, log: Log) -> Estimate:
    error = float(terms.std(ddof=1) / np.sqrt(len(terms))) if len(terms) > 1 else float("inf")
    return Estimate(float(terms.mean()), error, _effective(weight), _warning(weight, log))


def _table(values: Floats, log: Log, name: str) -> Floats:
    table = np.asarray(values, dtype=np.float64)
    if table.ndim == 1:
        table = np.broadcast_to(table, (len(log), len(table)))
    fits = table.ndim == 2 and len(table) == len(log) and table.shape[1] > np.max(log.arms)
    expected = f"of shape (K,) or ({len(log)}, K), K above {np.max(log.arms)}"
    require(fits, name, expected, np.shape(values))
    return table


def _weights(log: Log, target: Probabilities) -> Floats:
    table = _table(target, log, "target")
    proper = bool((table >= 0.0).all()) and bool(np.allclose(table.sum(axis=1), 1.0, atol=1e-6))
    require(proper, "target", "probabilities that sum to 1", target)
    weight: Floats = table[np.arange(len(log)), log.arms] / log.probabilities
    require(bool(weight.any()), "target", "able to draw an arm that was logged", target)
    return weight


def _effective(weight: Floats) -> float:
    return float(weight.sum() ** 2 / (weight**2).sum())


def _warning(weight: Floats, log: Log) -> str:
    """Say what is wrong with the weights, if anything."""
    n, mean, found = len(weight), float(weight.mean()), []
    effective = _effective(weight)
    off = abs(mean - 1.0)
    if off > 1e-6 and off > _FAR * weight.std() / np.sqrt(n):
        found.append(
            f"the weights average {mean:.3g} and not 1: the target draws arms that the logged "
            "policy could not draw, or the logged probabilities are not those of the draws"
        )
    if effective < _MIN_EFFECTIVE or effective < _MIN_SHARE * n:
        worst = int(weight.argmax())
        found.append(
            f"{n} logged choices tell as much as {effective:.0f} of the target's own: propensities "
            f"are too small where the target draws (the largest weight, {weight[worst]:.3g}, comes "
            f"from a propensity of {log.probabilities[worst]:.3g}); log with more exploration, or "
            "ask about a target closer to the logged policy"
        )
    return "; ".join(found)
