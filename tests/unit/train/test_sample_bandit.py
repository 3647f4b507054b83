"""The sample bandit leaves out what the model comes to say is wrong, and nothing else."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal

from tests.helpers.setups import HELD_OUT, NEW, OLD, setup
from undrift.train.doubt import DOUBTED, OUTDATED, UNDOUBTED, Stratum
from undrift.train.methods.sample_bandit import DoubtSampler
from undrift.train.methods.sampling import TrustSampler
from undrift.train.setup import Setup

TWINS = OLD + NEW + np.arange(HELD_OUT)


def doubted(kind: int = DOUBTED, *, named: float = 0.0, undoubted: float = 1.0) -> Setup:
    """Half of the new rows are in doubt; the model names shares of the held-out twins."""
    it = setup()
    half = np.arange(OLD + NEW) % 2 == 1
    stratum = np.where(it.chosen.new, np.where(half, 1, 0), 2)
    good, bad = TWINS[: HELD_OUT // 2], TWINS[HELD_OUT // 2 :]
    strata = (
        Stratum(new=True, kind=UNDOUBTED, twins=good),
        Stratum(new=True, kind=kind, twins=bad),
        Stratum(new=False, kind=UNDOUBTED, twins=TWINS[:0]),
    )
    with torch.no_grad():
        said = it.model(it.x[torch.as_tensor(TWINS)]).argmax(dim=1).numpy()
    rng = np.random.default_rng(0)
    for rows, share in ((good, undoubted), (bad, named)):
        right = rng.permutation(np.arange(len(rows)) < share * len(rows))
        it.y[rows] = torch.as_tensor(
            np.where(right, said[rows - TWINS[0]], 1 - said[rows - TWINS[0]])
        )
    return replace(it, chosen=replace(it.chosen, stratum=stratum, strata=strata))


def shares(it: Setup, rounds: int = 12) -> tuple[np.ndarray, DoubtSampler]:
    """Share of each stratum among what was drawn of the new side in the second half."""
    sampler = DoubtSampler(it)
    count = np.zeros(3)
    for number in range(rounds):
        sampler.begin_round(number / rounds)
        for _ in range(10):
            batch = sampler.draw(64)
            assert len(batch.index) == 64
            if number >= rounds // 2:
                count += np.bincount(it.chosen.stratum[batch.index], minlength=3)
        sampler.end_round(10 * (number + 1))
    assert count[2] / count.sum() == pytest.approx(OLD / (OLD + NEW), abs=0.002)
    return count[:2] / count[:2].sum(), sampler


def test_labels_that_the_model_never_names_hardly_come() -> None:
    found, _ = shares(doubted(named=0.05))
    assert found[1] < 0.1


@pytest.mark.parametrize("named", [0.8, 1.0])
def test_labels_that_the_model_comes_to_name_come_as_often_as_any(named: float) -> None:
    found, _ = shares(doubted(named=named))
    assert found[1] == pytest.approx(0.5, abs=0.03)


def test_a_model_that_cannot_tell_yet_is_not_asked() -> None:
    found, _ = shares(doubted(named=0.0, undoubted=0.4))
    assert found[1] == pytest.approx(0.5, abs=0.03)


def test_outdated_rows_never_come_though_the_model_names_them() -> None:
    found, sampler = shares(doubted(OUTDATED, named=1.0))
    assert found[1] < 0.1
    assert sampler._setup.meter.flops == 0.0  # nobody need be asked


def test_without_doubt_it_is_drawing_by_trust_and_costs_nothing() -> None:
    it, same = setup(), setup()
    sampler, trust = DoubtSampler(it), TrustSampler(same)
    for number in range(8):
        sampler.begin_round(number / 8)
        assert_array_equal(sampler.draw(64).index, trust.draw(64).index)
        sampler.end_round(number)
    assert it.meter.flops == 0.0
    assert not sampler.log


def test_looks_are_counted_and_few() -> None:
    it = doubted()
    shares(it)
    assert it.meter.flops == 4 * HELD_OUT * it.blocks.forward_flops  # every third of twelve rounds


def test_what_was_left_out_and_why_is_in_the_log() -> None:
    it = doubted(named=0.0)
    _, sampler = shares(it)
    last = {draw.arm: draw for draw in sampler.log[-3:]}
    assert last[0].probability == last[2].probability == 1.0
    assert last[0].reward == 1.0
    assert last[1].probability == pytest.approx(0.05)
    assert last[1].reward == 0.0


def test_it_goes_on_from_its_state_as_if_nothing_had_been() -> None:
    it = doubted(named=0.3)
    _, sampler = shares(it, rounds=7)
    again = DoubtSampler(doubted(named=0.3))
    again.load(sampler.state())
    for number in range(7, 14):
        for one in (sampler, again):
            one.begin_round(number / 14)
        assert_array_equal(sampler.draw(50).index, again.draw(50).index)
        for one in (sampler, again):
            one.end_round(number)
    assert sampler.log == again.log


@pytest.mark.parametrize(("missed", "share"), [(10, 4 / 13), (4, 0.5), (2, 0.5), (1, 1.0)])
def test_missed_rows_come_more_often_until_they_are_half_of_the_new_ones(
    missed: int, share: float
) -> None:
    it = setup()
    one_in = (np.arange(OLD + NEW) % missed == 0) & it.chosen.new
    sampler = DoubtSampler(replace(it, chosen=replace(it.chosen, missed=one_in)))
    drawn = np.concatenate([sampler.draw(64).index for _ in range(200)])
    new = drawn[it.chosen.new[drawn]]
    assert len(new) / len(drawn) == pytest.approx(NEW / (OLD + NEW), abs=0.002)
    assert one_in[new].mean() == pytest.approx(share, abs=0.03)
    assert sampler.figures()["missed"] == one_in.sum()
    assert it.meter.flops == 0.0


def test_rows_that_repeat_come_as_often_as_the_root_of_their_number() -> None:
    it = setup()
    x = it.x.clone()
    some = np.flatnonzero(it.chosen.new)[:100]
    x[torch.as_tensor(some)] = it.x[int(some[0])]
    sampler = DoubtSampler(replace(it, x=x))
    drawn = np.concatenate([sampler.draw(64).index for _ in range(200)])
    new = drawn[it.chosen.new[drawn]]
    assert len(new) / len(drawn) == pytest.approx(NEW / (OLD + NEW), abs=0.002)
    assert np.isin(new, some).mean() == pytest.approx(10 / (10 + NEW - 100), abs=0.03)
    assert sampler.figures()["repeated"] == 100
