from __future__ import annotations

import numpy as np
import pytest

from undrift.train.validity import validity

CENTRES = 4.0 * np.random.default_rng(0).normal(size=(4, 6))


def rows(n: int, seed: int, *, move: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Four classes round centres of their own, moved along one direction."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 4, n)
    x = CENTRES[y] + rng.normal(size=(n, 6))
    return (x + move * np.ones(6)).astype(np.float32), y


def judged(
    old: tuple[np.ndarray, np.ndarray], new: tuple[np.ndarray, np.ndarray], *, doubt: bool = False
) -> np.ndarray:
    """Validity of the older rows by class, and of the new rows last."""
    x, y = np.concatenate([old[0], new[0]]), np.concatenate([old[1], new[1]])
    is_new = np.arange(len(y)) >= len(old[1])
    return validity(x, y, np.where(is_new, 4, y), is_new, doubt=doubt, seed=0)


@pytest.mark.parametrize("doubt", [False, True])
def test_only_renamed_classes_are_no_longer_true(doubt: bool) -> None:
    (x, y), old = rows(800, 2), rows(800, 1)
    found = judged(old, (x, np.array([0, 2, 1, 3])[y]), doubt=doubt)
    assert (found[[1, 2]] < 0.1).all()
    assert (found[[0, 3, 4]] > 0.9).all()


@pytest.mark.parametrize("doubt", [False, True])
def test_labels_that_are_as_before_are_true(doubt: bool) -> None:
    for seed in range(5):
        assert (judged(rows(800, 2 * seed), rows(800, 2 * seed + 1), doubt=doubt) > 0.9).all()


def scattered(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Classes in one place, the later the further apart: the first is everybody's neighbour."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 4, 1_200)
    x = 0.2 * CENTRES[y] + np.array([0.5, 1.0, 2.0, 3.0])[y][:, None] * rng.normal(size=(1_200, 6))
    return x.astype(np.float32), y


def test_rows_among_those_of_other_classes_are_true_if_they_always_were() -> None:
    for seed in range(5):
        assert (judged(scattered(2 * seed), scattered(2 * seed + 1)) > 0.9).all()
    (x, y), old = scattered(2), scattered(1)
    assert (judged(old, (x, np.array([1, 0, 2, 3])[y]))[:2] < 0.3).all()


def test_noise_of_labels_is_no_contradiction() -> None:
    noise = np.random.default_rng(9).integers(0, 4, 1_600)
    (x, y), (x2, y2) = rows(800, 1), rows(800, 2)
    y, y2 = (np.where(np.arange(800) % 3, t, noise[k::2]) for k, t in enumerate((y, y2)))
    assert (judged((x, y), (x2, y2)) > 0.85).all()


@pytest.mark.parametrize("doubt", [False, True])
def test_inputs_that_moved_away_contradict_nothing(doubt: bool) -> None:
    old, new = rows(800, 1), rows(800, 2, move=30.0)
    np.testing.assert_array_equal(judged(old, new, doubt=doubt), np.ones(5))


def test_a_few_old_rows_of_a_class_that_is_still_there_are_in_doubt() -> None:
    old, new = rows(60, 1), rows(800, 2, move=30.0)
    np.testing.assert_array_equal(judged(old, new), np.ones(5))
    assert (judged(old, new, doubt=True)[:4] == 0.0).all()


@pytest.mark.parametrize("doubt", [False, True])
def test_a_class_that_no_longer_comes_is_not_contradicted(doubt: bool) -> None:
    (x, y), old = rows(1_000, 2), rows(800, 1)
    found = judged(old, (x[y != 3], y[y != 3]), doubt=doubt)
    assert found[3] == 1.0
    assert (found > 0.9).all()


@pytest.mark.parametrize("doubt", [False, True])
def test_new_classes_contradict_no_older_one(doubt: bool) -> None:
    (x, y), (x2, y2) = rows(800, 1), rows(1_600, 2)
    assert (judged((x[y < 2], y[y < 2]), (x2[y2 >= 2], y2[y2 >= 2]), doubt=doubt) == 1.0).all()


@pytest.mark.parametrize("new", [0, 1, 5, 15, 40])
def test_few_new_rows_leave_the_benefit_of_the_doubt(new: int) -> None:
    (x, y), old = rows(max(new, 1), 2), rows(400, 1)
    renamed = x[:new], (3 - y)[:new]
    found = judged(old, renamed)
    assert ((found >= 0.0) & (found <= 1.0)).all()
    if new <= 15:
        np.testing.assert_array_equal(found, np.ones(len(found)))


def numbers(n: int, seed: int, *, turn: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Two numbers that follow the inputs and noise, a thousand apart in size; one may turn."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 3)).astype(np.float32)
    y = np.cos(turn) * x[:, 0] + np.sin(turn) * x[:, 1]
    other = 1000.0 * x[:, 2]
    return x, np.column_stack([y, other]) + rng.normal(size=(n, 2)) * [0.3, 300.0]


def judged_numbers(turn: float, *, both: bool, doubt: bool, seed: int = 0) -> np.ndarray:
    """Validity of the older rows by octile of the first number, and of the new rows last."""
    (x, y), (x2, y2) = numbers(1200, 2 * seed), numbers(1200, 2 * seed + 1, turn=turn)
    rows, told = np.concatenate([x, x2]), np.concatenate([y, y2]).astype(np.float32)
    octile = np.searchsorted(np.quantile(y[:, 0], np.arange(1, 8) / 8), y[:, 0])
    stratum = np.concatenate([octile, np.full(1200, 8)])
    told = told if both else told[:, 0]
    return validity(rows, told, stratum, np.arange(2400) >= 1200, doubt=doubt, seed=0)


@pytest.mark.parametrize("doubt", [False, True])
@pytest.mark.parametrize("both", [False, True])
def test_numbers_that_are_as_before_are_true(both: bool, doubt: bool) -> None:
    for seed in range(3):
        assert (judged_numbers(0.0, both=both, doubt=doubt, seed=seed) > 0.7).all()


@pytest.mark.parametrize("doubt", [False, True])
def test_numbers_that_follow_another_input_now_are_no_longer_true(doubt: bool) -> None:
    found = judged_numbers(np.pi / 2, both=False, doubt=doubt)
    assert (found[:8] < 0.3).all()
    assert found[8] == 1.0


def test_numbers_of_which_one_in_two_has_changed_are_true_in_part() -> None:
    whole, part = (judged_numbers(np.pi / 2, both=both, doubt=True)[:8] for both in (False, True))
    assert whole.mean() + 0.05 < part.mean() < 0.9


def test_wide_and_constant_inputs_are_no_obstacle() -> None:
    rng = np.random.default_rng(0)
    basis = rng.normal(size=(6, 3 * 32 * 32)).astype(np.float32)
    (x, y), (x2, y2) = rows(600, 1), rows(600, 2)
    images = (x @ basis).reshape(-1, 3, 32, 32), (x2 @ basis).reshape(-1, 3, 32, 32)
    found = judged((images[0], y), (images[1], np.array([1, 0, 2, 3])[y2]))
    assert (found[:2] < 0.1).all()
    assert (found[2:] > 0.9).all()
    same = np.zeros((600, 4), dtype=np.float32)
    assert np.isfinite(judged((same, y), (same, y2))).all()
