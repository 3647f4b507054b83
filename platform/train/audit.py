"""What the bandits of a retraining chose, and what choosing uniformly would have earned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from undrift.bandits import Log, doubly_robust, inverse_propensity, self_normalized
from undrift.views import AuditView

Columns = Mapping[str, NDArray[Any]]
"""Choices by column: step, bandit, arm, probability, reward; each (n,)."""


def columns(choices: Sequence[Draw]) -> Columns:
    """Return choices by column."""
    step, bandit, arm, probability, reward = zip(*choices, strict=True) if choices else [()] * 5
    return {
        "step": np.array(step, dtype=np.int32),
        "bandit": np.array(bandit, dtype=np.str_),
        "arm": np.array(arm, dtype=np.int32),
        "probability": np.array(probability, dtype=np.float32),
        "reward": np.array(reward, dtype=np.float32),
    }


def summary(log: Columns, arms: Mapping[str, Sequence[str]]) -> dict[str, list[dict[str, Any]]]:
    """Return what was drawn of each arm, as plain JSON values.

    Args:
        log: Every choice.
        arms: Names of the arms of each bandit.

    Returns:
        For each bandit that chose, a dict an arm: ``arm`` (its name), ``draws``, mean
        ``probability`` and ``reward`` over its draws, ``first`` and ``last`` step of them. Of the
        bandit ``sample``, ``draws`` are rounds, ``probability`` is how often rows of a stratum
        came, of their due, and ``reward`` the share of its held-out twins that the model named.
    """
    return {
        bandit: [_arm(name, log, own & (log["arm"] == i)) for i, name in enumerate(names)]
        for bandit, names in arms.items()
        if (own := log["bandit"] == bandit).any()
    }


def _arm(name: str, log: Columns, drawn: NDArray[np.bool_]) -> dict[str, Any]:
    if not drawn.any():
        return {"arm": name, "draws": 0}
    return {
        "arm": name,
        "draws": int(drawn.sum()),
        "probability": round(float(log["probability"][drawn].mean()), 5),
        "reward": round(float(log["reward"][drawn].mean()), 5),
        "first": int(log["step"][drawn].min()),
        "last": int(log["step"][drawn].max()),
    }


def _instead(log: Columns, bandit: str, n_arms: int) -> dict[str, Any] | None:
    """Samples are not drawn arm by arm: each stratum comes as often as it is worth."""
    return None if bandit == "sample" else uniform_instead(log, bandit, n_arms)


def uniform_instead(log: Columns, bandit: str, n_arms: int) -> dict[str, Any] | None:
    """Estimate the mean reward if each choice of a bandit had been uniform over its arms.

    Args:
        log: Every choice.
        bandit: Which bandit; choices that left it nothing to choose do not count.
        n_arms: How many arms it has.

    Returns:
        ``choices``, their mean ``reward``, and the estimates ``ips``, ``snips`` and ``dr``, each
        with ``value, standard_error, effective, warning``; None if it had nothing to choose.
    """
    free = (log["bandit"] == bandit) & (log["probability"] < 1.0)
    if not free.any() or n_arms < 2:
        return None
    logged = Log(log["arm"][free], log["reward"][free], log["probability"][free])
    uniform = np.full(n_arms, 1.0 / n_arms)
    return {
        "choices": len(logged),
        "reward": float(logged.rewards.mean()),
        "ips": asdict(inverse_propensity(logged, uniform)),
        "snips": asdict(self_normalized(logged, uniform)),
        "dr": asdict(doubly_robust(logged, uniform, _mean_of_the_others(logged, n_arms))),
    }


def _mean_of_the_others(log: Log, n_arms: int) -> NDArray[np.float64]:
    """Return (n, n_arms) mean reward of each arm over the other rows; over all of them if none."""
    own = np.eye(n_arms)[log.arms]
    count, total = own.sum(axis=0) - own, own.T @ log.rewards - own * log.rewards[:, None]
    mean: NDArray[np.float64] = np.where(
        count > 0, total / np.maximum(count, 1.0), log.rewards.mean()
    )
    return mean


def report(manifest: Mapping[str, Any], log: Columns) -> AuditView:
    """Return what is known of how a version was made.

    Args:
        manifest: Its manifest as plain JSON values.
        log: Every choice of a bandit.
    """
    metrics, plan = manifest["metrics"], manifest["plan"] or {}
    gate, training = metrics.get("gate", {}), metrics.get("training", {})
    return AuditView(
        version=manifest["version"],
        parent=manifest["parent"],
        run_id=manifest["run_id"],
        plan={
            key: plan.get(key) for key in ("method", "steps", "budget", "kind", "origin", "weights")
        },
        accepted=metrics.get("accepted"),
        reason=metrics.get("reason", ""),
        training=training,
        compute={"flops": metrics.get("flops"), "seconds": metrics.get("seconds", {})},
        recent=_part(gate, "validation_"),
        older=_part(gate, "retention_"),
        bandits={
            bandit: {"arms": arms, "uniform_instead": _instead(log, bandit, len(arms))}
            for bandit, arms in metrics.get("audit", {}).items()
        },
    )


def _part(figures: Mapping[str, float], prefix: str) -> dict[str, float]:
    return {k.removeprefix(prefix): v for k, v in figures.items() if k.startswith(prefix)}


class Draw(NamedTuple):
    """One choice of a bandit, for the audit log."""

    step: int
    bandit: str
    arm: int
    probability: float
    reward: float
