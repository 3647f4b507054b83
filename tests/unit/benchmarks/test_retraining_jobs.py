from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.retraining import design, nets, place, record, run, tables, worlds
from benchmarks.retraining.jobs import Job, execute, units
from benchmarks.retraining.place import Place
from benchmarks.retraining.results import Results
from benchmarks.retraining.runs import run_one
from benchmarks.retraining.task import DEVELOPMENT, Deck, Rows, Source, Task
from benchmarks.retraining.tasks import TASKS
from undrift.train.pool import held_out
from undrift.train.settings import TrainSettings


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
    it = worlds.world(tiny, 0, Place(Path(), tmp_path))
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
def test_a_result_is_kept_and_made_again_only_for_another_version(
    tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = Place(Path(), tmp_path)
    some = [Job(tiny, "random", share, 0, (("batch_size", 16),)) for share in (0.1, 0.2)]
    assert execute(some, here) == 2
    first = some[0].read(here)
    assert execute(some, here) == 0
    monkeypatch.setattr(place, "VERSION", place.VERSION + 1)
    assert some[0].read(here) is None
    assert execute(some[:1], here) == 1
    again = some[0].read(here)
    assert first is not None
    assert again is not None
    assert again["accuracy"] == first["accuracy"]


@pytest.mark.thorough
def test_page_is_written_of_whatever_runs_are_there(tiny: str, tmp_path: Path) -> None:
    here, methods = Place(Path(), tmp_path), ("bandit", "random")
    results = Results(here, (tiny,), methods, 3, (), {})
    tables.write(results, tmp_path / "empty")
    assert "met |" not in (tmp_path / "empty" / "retraining.md").read_text()
    for seed, mean in ((0, 0.8), (1, 0.9)):
        for method, share, less in (("bandit", 0.25, 0.0), ("random", 0.25, 0.1), ("full", 1, 0.2)):
            settings = design.settings_for({}, method)
            found = dict.fromkeys(("flops", "cpu_s", "seconds", "peak_mb", "steps"), 1.0)
            found |= {"mean": mean - less, "new": mean, "old": mean, "forgetting": 0.1}
            found |= {"full_flops": 2e9, "refused": 0, "kind": "both", "ahead": [mean] * 2}
            job = Job(tiny, method, share, seed, settings)
            job.keep(found | {"accuracy": [[0.9], [0.8, 0.9]]}, here)
    tables.write(Results(here, (tiny,), methods, 3, (), {}), tmp_path / "some")
    page = (tmp_path / "some" / "retraining.md").read_text()
    assert "| full, at 100 % | **+20.00** (+20.00 to +20.00; 2 pairs) | +20.0 |" in page
    assert "| random | **+10.00** (+10.00 to +10.00; 2 pairs) | +10.0 |" in page
    assert f"DIR`; 6 of {3 * (2 * 4 + 2 + 4)} runs, up to 3 seeds" in page
    assert "<!--" not in page


def test_run_on_record_counts_as_made_and_one_made_here_comes_first(tmp_path: Path) -> None:
    file = tmp_path / "runs.jsonl.xz"
    one, other = (Job("moons", "random", 0.5, seed) for seed in (0, 1))
    record.write(file, place.VERSION, {one.name(): {"mean": 1 / 3, "accuracy": [[0.5]]}})
    here = Place(Path(), tmp_path, record=file)
    assert (one.is_done(here), other.is_done(here)) == (True, False)
    assert one.read(here) == {"mean": 0.333333, "accuracy": [[0.5]]}
    one.keep({"mean": 0.9}, here)
    assert one.read(here) == {"mean": 0.9}
    assert record.recorded(file, place.VERSION + 1) == {}


def test_page_of_fewer_seeds_keeps_the_record_of_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["retraining", "--data-dir", ".", "--page", "--seeds", "1"])
    job = Job("mnist-usps", "bandit", 0.25, 2)
    record.write(record.FILE, place.VERSION, {job.name(): {"mean": 0.5}})
    monkeypatch.setattr(tables, "write", lambda *_: None)
    run.main()
    record.recorded.cache_clear()
    assert record.recorded(record.FILE, place.VERSION) == {job.name(): {"mean": 0.5}}
    record.recorded.cache_clear()


def test_nothing_is_begun_when_the_minutes_are_over(tmp_path: Path) -> None:
    here = Place(Path(), tmp_path)
    assert run.make([[Job("none", "lost", 0.1, 0)]], here, 1, minutes=-1.0) == 0
    assert not here.kept.exists()


@pytest.mark.thorough
def test_runs_that_fail_are_told_and_the_others_are_made(
    own: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own.write_text(TASKS_FILE.replace("NAME", "'mine'").replace("lambda source: ()", "build"))
    own.write_text(own.read_text().replace("TASKS =", BUILD + "TASKS ="))
    here, settings = Place(tmp_path / "nothing", tmp_path, own), (("batch_size", 16),)
    good, bad = (Job(task, "random", 0.5, 0, settings) for task in ("mine", "insects"))
    assert run.make([[bad], [good]], here, 1, minutes=5.0) == 1
    assert (bad.read(here), good.is_done(here)) == (None, True)
    assert "failed: insects/random" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("net", "shape"),
    [(nets.cnn, (1, 28, 28)), (nets.resnet, (3, 32, 32)), (nets.insects_mlp, (33,))],
)
def test_a_large_network_answers_as_the_small_one_and_has_more_weights(
    net: Callable[[], torch.nn.Module], shape: tuple[int, ...]
) -> None:
    small, large = net(), nets.LARGE[net]()
    x = torch.zeros(2, *shape)
    assert large(x).shape == small(x).shape
    weights = [sum(p.numel() for p in one.parameters()) for one in (small, large)]
    assert weights[1] > 20 * weights[0]


TASKS_FILE = """
from benchmarks.retraining.nets import electricity_mlp
from benchmarks.retraining.task import Task
TASKS = {NAME: Task("mine", electricity_mlp, lambda source: (), 1, 1)}
"""
BUILD = """
import numpy as np
from benchmarks.retraining.task import Regime, Rows
def build(source):
    def rows(n):
        x = source.rng.normal(size=(n, 6)).astype(np.float32)
        return Rows(x, (x[:, 0] > 0).astype(np.int64))
    test = rows(200)
    return Regime(rows(300), test, test), Regime(rows(300), test, test)
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in list(TASKS):
        monkeypatch.setitem(TASKS, name, TASKS[name])
    monkeypatch.setitem(TASKS, "mine", None)
    monkeypatch.delitem(TASKS, "mine")
    return tmp_path / "own.py"


def test_tasks_of_a_file_are_entered_once_or_more(own: Path) -> None:
    own.write_text(TASKS_FILE.replace("NAME", "'mine'"))
    for _ in range(2):  # as a worker does for each unit
        assert Place(Path(), tasks=own).add_tasks() == ["mine"]
    assert TASKS["mine"].title == "mine"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (TASKS_FILE.replace("NAME", "'insects'"), "a task called 'insects' already"),
        ("TASKS = {'mine': 1}", "'mine' is a int, no Task"),
        ("", "has no dict TASKS"),
    ],
)
def test_a_file_without_usable_tasks_is_refused(own: Path, text: str, said: str) -> None:
    own.write_text(text)
    with pytest.raises(ValueError, match=said):
        Place(Path(), tasks=own).add_tasks()


def test_runs_that_differ_in_settings_are_kept_apart() -> None:
    plain = Job("made", "bandit", 0.25, 0)
    other = Job("made", "bandit", 0.25, 0, (("learning_rate", 0.001),))
    assert plain.name() != other.name()


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


def test_each_part_of_ours_is_switched_by_itself() -> None:
    defaults = TrainSettings()
    found = design.toggled()
    assert [name.split()[1] for name in found] == ["samples", "blocks", "synapse", "neuron"]
    for name, settings in found.items():
        ((key, value),) = settings
        assert bool(getattr(defaults, key)) == name.startswith("without")
        assert bool(value) != bool(getattr(defaults, key))


def test_the_headline_comes_first_and_every_method_has_runs_at_every_share() -> None:
    methods = design.compared(without_avalanche=False)
    assert methods[0] == design.OURS
    assert design.FULL not in methods
    headline, sequences, *others = design.stages(["insects"], methods, 5, ["lifelong-pairs"], {})
    assert len(headline) == 5 * (len(methods) + 2 + 4)
    assert {job.share for job in headline} == {design.HEADLINE, 1.0}
    assert len(sequences) == 5 * 5
    for share, jobs in zip(design.OTHER_SHARES, others, strict=True):
        assert [job.share for job in jobs] == [share] * (5 * len(methods))


def test_ours_and_full_run_as_shipped_and_rivals_at_their_batch_size() -> None:
    tuned = dict.fromkeys(("full", "bandit", "random", "avalanche ewc"), 16)
    for method in ("bandit", "full", "scratch"):
        assert design.settings_for(tuned, method) == ()
    assert design.settings_for(tuned, "random") == (("batch_size", 16),)
    assert dict(design.settings_for({}, "der++")) == {"batch_size": TrainSettings().batch_size}
    ewc = {"batch_size": 16, "learning_rate": TrainSettings().learning_rate, "strength": 1e3}
    assert dict(design.settings_for(tuned, "avalanche ewc")) == ewc


def test_the_best_size_has_the_best_mean_over_development_runs(tmp_path: Path) -> None:
    here = Place(Path(), tmp_path)
    runs = design.trials("random")
    for size, jobs in runs.items():
        for number, job in enumerate(jobs):
            assert job.seed >= DEVELOPMENT
            job.keep({"mean": 0.6 if size == 32 else 0.9 if number == 0 else 0.1}, here)
    assert design.best(runs, here) == 32
