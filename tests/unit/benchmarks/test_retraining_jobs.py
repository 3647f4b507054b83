from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.retraining import design, jobs, worlds
from benchmarks.retraining.jobs import Job, execute, units
from benchmarks.retraining.runs import run_one
from benchmarks.retraining.tasks import DEVELOPMENT, TASKS, Deck, Rows, Source, Task
from undrift.train.pool import held_out


def source(seed: int) -> Source:
    return Source(Path(), Path(), "made", seed)


def made(n: int = 400) -> tuple[np.ndarray, np.ndarray]:
    return np.arange(n, dtype=np.float32)[:, None], np.arange(n, dtype=np.int64) % 10


def test_development_never_sees_a_reported_row() -> None:
    reported, developed = (
        Deck(made(), source(seed)).deal(200).x.ravel() for seed in (0, DEVELOPMENT)
    )
    assert not set(reported) & set(developed)


def test_a_row_is_dealt_once_and_is_of_the_wanted_classes() -> None:
    deck = Deck(made(), source(0))
    first, second = deck.deal(50, range(5)), deck.deal(50, range(5))
    assert not set(first.x.ravel()) & set(second.x.ravel())
    assert set(first.y) | set(second.y) <= set(range(5))


def test_dealing_more_rows_than_there_are_is_refused() -> None:
    with pytest.raises(ValueError, match="only 200 rows"):
        Deck(made(), source(0)).deal(201)


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> str:
    """A task of two clouds that move twice."""

    def cloud(source: Source, shift: float, n: int) -> Rows:
        x = source.rng.normal(size=(n, 2)).astype(np.float32)
        y = (x[:, 0] + shift * x[:, 1] > 0).astype(np.int64)
        return Rows(x + np.float32(shift), y)

    def build(source: Source) -> tuple[Any, ...]:
        parts = [(cloud(source, s, 300), cloud(source, s, 180)) for s in (0.0, 1.0, 2.0)]
        return tuple(worlds.Regime(train, test, test) for train, test in parts)

    def net() -> torch.nn.Module:
        return torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))

    monkeypatch.setitem(TASKS, "made", Task("made", net, build, 2, epochs=10, memory=200))
    return "made"


@pytest.mark.thorough
def test_new_rows_follow_the_memory_and_are_known_by_their_numbers(
    tiny: str, tmp_path: Path
) -> None:
    it = worlds.world(tiny, 0, Path(), tmp_path)
    step = it.step(2)
    assert step.start == 600
    assert (step.pool.row >= step.start).sum() == 300
    assert ((step.pool.row >= 0) & (step.pool.row < step.start)).sum() == 200
    old, new = step.candidates()
    assert len(old) + len(new) == (~held_out(step.pool)).sum()
    assert step.full_flops == 10 * (len(old) + len(new)) * step.row_flops


@pytest.mark.thorough
@pytest.mark.parametrize("method", ["random", "bandit"])
def test_a_run_spends_no_more_than_its_share_at_any_step(
    tiny: str, tmp_path: Path, method: str
) -> None:
    found = run_one(tiny, method, 0.5, 0, {"batch_size": 16}, data_dir=Path(), out=tmp_path)
    assert found["refused"] == 0
    assert 0.3 * found["full_flops"] < found["flops"] <= 0.5 * found["full_flops"]
    assert [len(row) for row in found["accuracy"]] == [1, 2, 3]


def test_a_share_too_small_for_one_step_leaves_the_model_as_it_was(
    tiny: str, tmp_path: Path
) -> None:
    found = run_one(tiny, "random", 1e-6, 0, data_dir=Path(), out=tmp_path)
    assert found["refused"] == 2
    assert found["steps"] == found["flops"] == 0
    assert {row[0] for row in found["accuracy"]} == {found["accuracy"][0][0]}


@pytest.mark.thorough
def test_a_result_is_kept_and_not_made_again(
    tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    some = [Job(tiny, "random", share, 0, (("batch_size", 16),)) for share in (0.1, 0.2)]
    assert execute(some, Path(), tmp_path) == 2
    first = some[0].read(tmp_path)
    assert execute(some, Path(), tmp_path) == 0
    monkeypatch.setattr(jobs, "source_digest", lambda _: "other code")
    assert not some[0].is_done(tmp_path)
    assert execute(some[:1], Path(), tmp_path) == 1
    assert some[0].read(tmp_path)["accuracy"] == first["accuracy"]


def test_runs_that_differ_in_settings_are_kept_apart(tmp_path: Path) -> None:
    plain = Job("made", "bandit", 0.25, 0)
    other = Job("made", "bandit", 0.25, 0, (("learning_rate", 0.001),))
    assert plain.path(tmp_path) != other.path(tmp_path)


def test_units_share_task_seed_and_interpreter() -> None:
    some = [
        Job(task, method, 0.25, seed)
        for method in ("bandit", "avalanche ewc")
        for task in ("mnist-usps", "insects")
        for seed in (0, 1)
    ]
    found = units(some)
    assert sorted(map(len, found)) == [1] * 8
    assert units([*some, Job("insects", "random", 0.25, 0)])[0] != []
    assert max(map(len, units([*some, Job("insects", "random", 0.25, 0)]))) == 2


def test_every_combination_of_ingredients_is_run_and_off_means_off() -> None:
    runs = design.ablation_jobs("insects", 2, {})
    assert len(runs) == 16
    off = dict(runs[(False, False, False, False)][0].settings)
    assert not any(off.values())
    on = dict(runs[(True, True, True, True)][0].settings)
    assert all(on.values())


def test_every_compared_method_has_runs_at_every_share() -> None:
    methods = design.compared(without_avalanche=False)
    assert methods[0] == design.OURS
    assert design.FULL not in methods
    runs = design.frontier_jobs("insects", methods, 5, {})
    assert len(runs) == 5 * (len(methods) * len(design.SHARES) + 2)


def test_the_best_setting_has_the_best_mean_over_development_seeds(tmp_path: Path) -> None:
    runs = {rate: [Job("made", "random", 0.25, 100 + s, (("learning_rate", rate),))
                   for s in range(2)] for rate in (0.001, 0.01)}  # fmt: skip
    for rate, values in ((0.001, (0.9, 0.1)), (0.01, (0.6, 0.6))):
        for job, value in zip(runs[rate], values, strict=True):
            job.keep({"mean": value}, tmp_path)
    assert design.best(runs, tmp_path) == 0.01
