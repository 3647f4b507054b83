"""A recording as a labelled stream, and the options that name a history."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file
from typer.testing import CliRunner

from tests.helpers import rows as by_hand
from tests.helpers.tuning import labelled, project
from undrift.cli.verbs import app
from undrift.config import load_config
from undrift.errors import ConfigError
from undrift.records import Labels, Predictions, Reference
from undrift.replay.loop import Pace
from undrift.store.store import Store
from undrift.streams.stream import NEVER, UNKNOWN
from undrift.tune.history import History, recorded_stream

ROWS = labelled(8, 8, seed=3)


def predictions(*rows: int) -> Predictions:
    index = np.array(rows)
    x, ids = ROWS.x[index], [f"id-{row}" for row in rows]
    return replace(by_hand.predictions(x, ids=ids, at=100.0 + index / 4, embedding=x), row=index)


def labels(*told: tuple[str, int]) -> Labels:
    names, values = zip(*told, strict=True)
    return Labels(names, np.array(values), np.zeros(len(told)))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return project(tmp_path)


def record(
    path: Path, ticks: Sequence[tuple[Predictions | None, Labels | None]], trained_s: float = 0.0
) -> Path:
    """Write the model's folder of the state; the first version is the project's."""
    config = load_config(path)
    state = config.model_state
    store = Store(state)
    with np.load(config.reference) as found:
        x, y = found["x"], found["y"]
    output = np.full((len(y), 2), 0.5, dtype=np.float32)
    reference = Reference(x, y, x, output, np.ones(len(y), dtype=np.bool_))
    for seconds in (0.0, trained_s):
        store.add_version(
            load_file(config.model.weights),
            parent=None,
            reference=reference,
            metrics={"seconds": {"total": seconds}},
            plan={"regime_start": 0} if seconds else None,
            run_id=f"run-{seconds}",
        )
    for seq, (rows, told) in enumerate(ticks, start=1):
        if rows is not None:
            store.append_predictions(seq, rows)
        if told is not None:
            store.append_labels(seq, told)
    return state


def test_labels_keep_the_lags_that_they_really_had(path: Path) -> None:
    ticks = [
        (predictions(0, 1, 2), labels(("id-1", 1), ("id-5", 0))),  # id-5 is not predicted yet
        (predictions(3, 4), labels(("id-1", 0), ("nobody", 1))),  # the first label stands
        (None, labels(("id-0", 7))),  # no class of the model
        (predictions(5, 6, 7), labels(("id-2", 1))),
        (None, labels(("id-7", 0))),
    ]
    stream, pace, version = recorded_stream(load_config(path), record(path, ticks))
    assert stream.live.y.tolist() == [UNKNOWN, 1, 1, UNKNOWN, UNKNOWN, 0, UNKNOWN, 0]
    assert stream.label_at.tolist() == [NEVER, 3, 8, NEVER, NEVER, 8, NEVER, 8]
    np.testing.assert_array_equal(stream.live.x, ROWS.x)
    assert (pace, version) == (Pace(rows_per_s=4.0), 1)


def test_retrainings_take_as_long_as_they_took(path: Path) -> None:
    state = record(path, [(predictions(0, 1), labels(("id-0", 1)))], trained_s=7.0)
    assert recorded_stream(load_config(path), state)[1].training_s == 7.0


def test_first_version_comes_from_the_recording(path: Path) -> None:
    state = record(path, [(predictions(*range(8)), labels(("id-0", 1)))])
    config = load_config(path)
    stream, pace, version = recorded_stream(config, state)
    past = History(stream, path, 4, pace, state, version)
    path.parent.joinpath("weights.safetensors").unlink()  # the recording has its own
    output, _ = past.shelf(config).answers(1, stream.live.x, 0, 8)
    np.testing.assert_array_equal(output.argmax(axis=1), stream.live.x[:, 0] > 0)


def test_recording_without_labels_cannot_be_compared(path: Path) -> None:
    with pytest.raises(ConfigError, match="has no labels"):
        recorded_stream(load_config(path), record(path, [(predictions(0, 1), None)]))


def refused(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["tune", *arguments])
    assert result.exit_code == 1, result.output
    return result.stderr


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("--lag", "3"), "--lag goes with --data"),
        (("--state", "a", "--data", "b"), "tune on one at a time"),
        (("--out", "undrift.yaml"), "name another file beside"),
        (("--out", "elsewhere/tuned.yaml"), "name another file beside"),
        (("--out", "line_model.py"), "it is there, and not from `undrift tune`"),
        (("--set", "train.steps=uniform(1, 2)"), "draw it with randint"),
        (("--search", "none.yaml"), "no such file"),
        ((), "nothing was recorded"),
    ],
)
def test_options_that_make_no_sense_are_refused_before_anything_runs(
    path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], reason: str
) -> None:
    monkeypatch.chdir(path.parent)
    monkeypatch.setenv("COLUMNS", "200")
    before = sorted(path.parent.iterdir())
    assert reason in refused(*arguments)
    assert sorted(path.parent.iterdir()) == before


def test_file_alone_wants_a_folder_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    taken = tmp_path / "taken"
    taken.mkdir()
    project(taken)
    for out in ("tuned.yaml", "taken/tuned.yaml"):
        assert "a folder of its own" in refused("--data", "t.csv", "--out", out)
