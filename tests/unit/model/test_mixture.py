"""One answer of the live model and the heads beside it."""

from __future__ import annotations

import numpy as np
import pytest

from undrift.model.mixture import Mixture, Scaling

RNG = np.random.default_rng(0)
OUTPUT = RNG.dirichlet(np.ones(3), 20).astype(np.float32)
EMBEDDING = RNG.normal(size=(20, 2)).astype(np.float32)
X = RNG.normal(size=(20, 2, 2)).astype(np.float32)


def plain(width: int) -> Scaling:
    return Scaling(np.zeros(width), np.ones(width), np.zeros((0, 0)))


def mixture(*shares: float, heads: np.ndarray | None = None) -> Mixture:
    if heads is None:
        heads = RNG.normal(size=(1 + 2 + 4, len(shares) - 1, 3))
    return Mixture(1, 64, plain(2), plain(4), heads, np.array(shares))


def test_without_a_share_for_heads_the_model_answers() -> None:
    np.testing.assert_array_equal(mixture(1.0, 0.0, 0.0)(OUTPUT, EMBEDDING, X), OUTPUT)


@pytest.mark.parametrize("shares", [(0.5, 0.5), (0.2, 0.5, 0.3), (0.0, 1.0)])
def test_answers_are_probabilities(shares: tuple[float, ...]) -> None:
    answer = mixture(*shares)(OUTPUT, EMBEDDING, X)
    assert answer.dtype == OUTPUT.dtype
    assert answer.shape == OUTPUT.shape
    assert answer.min() > 0
    np.testing.assert_allclose(answer.sum(axis=1), 1, rtol=1e-5)


def test_head_that_is_sure_is_heard_as_much_as_its_share() -> None:
    heads = np.zeros((7, 1, 3))
    heads[0, 0] = [2 / 3, -1 / 3, -1 / 3]  # one-hot less 1/c: the first class, whatever comes
    answer = mixture(0.25, 0.75, heads=heads)(OUTPUT, EMBEDDING, X)
    sure = np.array([1.0, 0.01, 0.01]) / 1.02
    np.testing.assert_allclose(answer, 0.25 * OUTPUT + 0.75 * sure, rtol=1e-5)


def test_every_row_is_answered_alike_in_any_company() -> None:
    mixed = mixture(0.4, 0.3, 0.3)
    alone = [mixed(OUTPUT[i : i + 1], EMBEDDING[i : i + 1], X[i : i + 1]) for i in range(20)]
    np.testing.assert_allclose(np.concatenate(alone), mixed(OUTPUT, EMBEDDING, X), rtol=1e-5)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38])
def test_input_of_any_size_is_answered_and_a_model_that_fails_shows(value: float) -> None:
    mixed, x = mixture(0.5, 0.5), X.copy()
    x[3] = value
    assert np.isfinite(mixed(OUTPUT, EMBEDDING, x)).all()
    output = OUTPUT.copy()
    output[3, 0] = np.nan
    assert np.isnan(mixed(output, EMBEDDING, x)[3]).any()


def test_columns_are_scaled_clipped_and_projected() -> None:
    scaling = Scaling(np.array([1.0, 0.0]), np.array([2.0, 1.0]), np.array([[1.0], [1.0]]))
    assert scaling.width == 1
    assert scaling(np.array([[3.0, 2.0], [1e9, 0.0]], np.float32)).tolist() == [[3.0], [10.0]]
