"""Labels that like rows speak against are in doubt; others are not, whatever else is the matter."""

from __future__ import annotations

import numpy as np
import pytest

from undrift.train.doubt import DOUBTED, OUTDATED, UNDOUBTED, Answered, doubts, strata_of

N, CLASSES = 600, 4


def embedded(n: int = N, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings (n, 8) of four well-kept classes, and the classes."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, CLASSES, n)
    return (9.0 * np.eye(CLASSES, 8)[y] + rng.normal(size=(n, 8))).astype(np.float32), y


def wrong(y: np.ndarray, share: float, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Labels of which a share is wrong, and which."""
    rng = np.random.default_rng(seed)
    spoilt = rng.random(len(y)) < share
    return np.where(spoilt, (y + rng.integers(1, CLASSES, len(y))) % CLASSES, y), spoilt


def asked(
    y: np.ndarray,
    embedding: np.ndarray,
    named: np.ndarray,
    *,
    version: np.ndarray | int = 1,
    new: np.ndarray | bool = True,
) -> np.ndarray:
    whole = np.broadcast_to(np.asarray(version), len(y))
    side = np.broadcast_to(np.asarray(new), len(y)).copy()
    held = np.arange(len(y)) % 5 == 4
    return doubts(y, Answered(whole, named, embedding), side, ~held, seed=3)


@pytest.mark.parametrize("new", [False, True])
@pytest.mark.parametrize("share", [0.3, 0.4])
def test_wrong_labels_are_doubted_and_hardly_any_other(share: float, new: bool) -> None:
    x, true = embedded()
    y, spoilt = wrong(true, share)
    found = asked(y, x, true, new=new)
    assert (found[spoilt] == DOUBTED).mean() > 0.85
    assert (found[~spoilt] != UNDOUBTED).mean() < 0.1


@pytest.mark.parametrize("share", [0.0, 0.1])
def test_where_few_labels_are_contrary_none_is_doubted(share: float) -> None:
    x, true = embedded()
    y, _ = wrong(true, share)
    assert (asked(y, x, true) == UNDOUBTED).all()


def test_what_only_the_version_that_answered_still_says_is_outdated() -> None:
    """Two classes change names; every fourth row is labelled in the old way."""
    x, was = embedded()
    late = np.arange(N) % 4 == 0
    y = np.where(late, was, np.array([0, 2, 1, 3])[was])
    found = asked(y, x, named=was)
    stale = late & (y != np.array([0, 2, 1, 3])[was])
    assert (found[stale] == OUTDATED).mean() > 0.8
    assert (found[~stale] == OUTDATED).mean() < 0.02


def test_old_rows_are_never_outdated() -> None:
    x, true = embedded()
    y, _ = wrong(true, 0.2)
    assert OUTDATED in asked(y, x, named=y)
    assert OUTDATED not in asked(y, x, named=y, new=False)


def test_like_rows_that_hardly_agree_do_not_outweigh_the_version_that_answered() -> None:
    """As where a model cannot tell classes apart: what it named is no less likely than they say."""
    x, true = embedded()
    y, _ = wrong(true, 0.4)
    found = asked(y, x, named=y)
    assert (found == OUTDATED).sum() == 0
    assert (found == DOUBTED).mean() > 0.3


def test_only_rows_that_one_version_answered_are_compared() -> None:
    x, true = embedded()
    second = np.arange(N) >= N // 2
    turned = np.where(second[:, None], np.roll(x, 1, axis=1), x)  # a class lies where the next did
    apart = asked(true, turned, (true + 1) % CLASSES, version=np.where(second, 2, 1))
    assert (apart == UNDOUBTED).all()
    assert (asked(true, turned, (true + 1) % CLASSES) == DOUBTED).mean() > 0.3


def test_both_sides_are_judged_alone() -> None:
    x, true = embedded()
    new = np.arange(N) >= N // 2
    y = np.where(new, true, (true + 1) % CLASSES)  # renamed, and consistent on either side
    assert (asked(y, x, true, new=new) == UNDOUBTED).all()


def test_of_too_few_rows_nothing_is_said() -> None:
    x, true = embedded(110)
    y, _ = wrong(true, 0.4)
    assert (asked(y, x, true) == UNDOUBTED).all()  # of 110 rows 88 are candidates


def test_a_label_is_no_evidence_for_itself() -> None:
    """In each of ten places sixteen rows bear two labels: of the fifteen others most say else."""
    place, rng = np.repeat(np.arange(20), 16), np.random.default_rng(0)
    x = (50.0 * np.eye(20)[place] + rng.normal(size=(320, 20))).astype(np.float32)
    torn, everyone = place < 10, np.ones(320, dtype=bool)
    y = np.where(torn, np.arange(320) % 2, place)
    told = Answered(np.ones(320, dtype=int), np.full(320, 2), x)
    assert ((doubts(y, told, everyone, everyone, seed=0) == DOUBTED) == torn).all()


def test_likeness_that_says_no_more_than_chance_is_not_heard() -> None:
    x, _ = embedded()
    y = np.random.default_rng(5).integers(0, CLASSES, N)
    assert (asked(y, x, y) == UNDOUBTED).all()
    assert (asked(y, x, (y + 1) % CLASSES) == UNDOUBTED).all()


def test_numbers_and_rows_that_nobody_answered_are_never_in_doubt() -> None:
    x, true = embedded()
    y, _ = wrong(true, 0.4)
    assert (asked(y.astype(np.float32), x, true) == UNDOUBTED).all()
    everyone = np.ones(N, dtype=bool)
    assert (doubts(y, None, everyone, everyone, seed=0) == UNDOUBTED).all()


def test_embeddings_that_are_not_finite_or_all_alike_are_no_trouble() -> None:
    x, true = embedded()
    y, spoilt = wrong(true, 0.3)
    x[::50] = np.nan
    assert (asked(y, x, true)[spoilt] == DOUBTED).mean() > 0.8
    asked(y, np.zeros_like(x), true)


def test_strata_name_their_rows_and_their_twins() -> None:
    doubt = np.array([0, 1, 2, 0, 1, 0, 1, 2], dtype=np.int8)
    new = np.array([1, 1, 1, 0, 0, 1, 1, 0], dtype=bool)
    stratum, strata = strata_of(doubt, new, np.arange(5), np.array([5, 6, 7]))
    assert [s.name for s in strata] == [
        "new, undoubted", "new, doubted", "new, outdated", "older, undoubted", "older, doubted",
    ]  # fmt: skip
    assert stratum.tolist() == [0, 1, 2, 3, 4]
    assert [s.twins.tolist() for s in strata] == [[5], [6], [], [], []]
