"""Linear Thompson sampling: its posterior, its propensities, its state."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy import stats

from undrift.bandits import LinearThompson
from undrift.bandits.best import probability_best


def taught(policy: LinearThompson, rounds: int, seed: int = 0, flip_at: int | None = None) -> float:
    """Play arms whose chances are linear in the context; return the mean dynamic regret."""
    rng = np.random.default_rng(seed)
    k, d = policy.n_arms, 3
    slopes = np.linspace(-0.3, 0.3, k)[:, None] * np.array([1.0, -1.0])
    regret = 0.0
    for t in range(rounds):
        x = np.append(rng.uniform(-1, 1, d - 1), 1.0)
        sign = -1.0 if flip_at is not None and t >= flip_at else 1.0
        mean = 0.5 + sign * slopes @ x[:-1]
        arm, p = policy.select(x)
        policy.update(arm, float(rng.random() < mean[arm]), p, x)
        regret += mean.max() - mean[arm]
    return regret / rounds


def test_probabilities_are_those_of_the_weighted_ridge_posterior() -> None:
    policy = LinearThompson(2, 3, discount=0.9, noise=0.3, ridge=2.0, floor=0.1)
    rng = np.random.default_rng(0)
    x, arms, rewards = rng.normal(size=(12, 3)), rng.integers(2, size=12), rng.random(12)
    for context, arm, reward in zip(x, arms, rewards, strict=True):
        policy.update(int(arm), float(reward), 0.5, context)
    asked, weight = rng.normal(size=(5, 3)), 0.9 ** np.arange(12)[::-1]
    mean, std = np.empty((5, 2)), np.empty((5, 2))
    for arm in range(2):
        own = weight * (arms == arm)
        covariance = np.linalg.inv((x * own[:, None]).T @ x + 2.0 * np.eye(3))
        mean[:, arm] = 0.5 + asked @ covariance @ (x.T @ (own * (rewards - 0.5)))
        std[:, arm] = 0.3 * np.sqrt(np.einsum("nd,de,ne->n", asked, covariance, asked))
    expected = 0.9 * probability_best(mean, std) + 0.05
    assert policy.probabilities(asked) == pytest.approx(expected, abs=1e-9)


def test_logged_probability_is_the_frequency_of_the_draws() -> None:
    policy = LinearThompson(4, 3, seed=1)
    taught(policy, 60)
    context = np.array([0.5, -0.5, 1.0])
    arms, p = policy.draw(np.tile(context, (5_000, 1)))
    expected = policy.probabilities(context[None])[0]
    assert p == pytest.approx(expected[arms], abs=1e-12)
    assert stats.chisquare(np.bincount(arms, minlength=4), 5_000 * expected).pvalue > 1e-4


@pytest.mark.thorough
def test_regret_per_round_shrinks() -> None:
    short = np.mean([taught(LinearThompson(3, 3, seed=s), 60, s) for s in range(2)])
    long = np.mean([taught(LinearThompson(3, 3, seed=s), 400, s) for s in range(2)])
    assert long < 0.6 * short


@pytest.mark.thorough
def test_forgetting_pays_when_the_world_flips() -> None:
    kept, forgot = (
        np.mean([taught(LinearThompson(3, 3, discount=g, seed=s), 400, s, 200) for s in range(2)])
        for g in (1.0, 0.98)
    )
    assert forgot < 0.8 * kept


def test_context_without_information_has_no_favourite() -> None:
    policy = LinearThompson(3, 2)
    policy.update(0, 1.0, 0.3, np.ones(2))
    assert policy.probabilities(np.zeros((1, 2))) == pytest.approx(np.full((1, 3), 1 / 3))


def test_state_round_trip_through_json_continues_identically() -> None:
    one = LinearThompson(3, 3, discount=0.99, seed=4)
    taught(one, 50)
    two = LinearThompson(3, 3, discount=0.99, seed=5)
    two.load(json.loads(json.dumps(one.state())))
    assert taught(one, 50, seed=8) == taught(two, 50, seed=8)
    assert one.state() == two.state()


def test_state_of_other_settings_is_refused() -> None:
    with pytest.raises(ValueError, match=r"discount=0\.99"):
        LinearThompson(3, 2, discount=0.99).load(LinearThompson(3, 2).state())


@pytest.mark.parametrize("context", [[1.0], [1.0, float("nan")], [[1.0, 2.0]]])
def test_bad_context_is_refused_and_changes_nothing(context: list[float]) -> None:
    policy = LinearThompson(2, 2)
    before = policy.state()
    with pytest.raises(ValueError, match="contexts must be"):
        policy.update(0, 0.5, 0.5, np.array(context))
    with pytest.raises(ValueError, match="contexts must be"):
        policy.select(np.array(context))
    assert policy.state() == before


@pytest.mark.parametrize(
    "bad",
    [
        {"n_features": 0},
        {"discount": 0.0},
        {"noise": 0.0},
        {"ridge": 0.0},
        {"ridge": float("inf")},
        {"floor": 1.0},
    ],
)
def test_parameters_out_of_range_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(bad))):
        LinearThompson(2, **{"n_features": 2, **bad})
