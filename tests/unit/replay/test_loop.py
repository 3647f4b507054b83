"""`undrift replay --data`: monitor, lifecycle and new versions over a labelled file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import save_file
from torch import nn
from typer.testing import CliRunner, Result

from undrift.cli.verbs import app
from undrift.control.settings import LifecycleSettings
from undrift.monitor.join import LabelCounts
from undrift.monitor.monitor import Monitor
from undrift.monitor.settings import MonitorSettings
from undrift.records import Labels, Predictions
from undrift.replay.loop import Pace, Simulation, simulate
from undrift.replay.training import Recalibrator, Shelf, Trainer
from undrift.streams.stream import Rows, Stream, fixed_lag
from undrift.train.settings import TrainSettings

MODEL = """\
from torch import nn


def build():
    return nn.Sequential(nn.Linear(2, 2))
"""
FIRST, SECOND = 1_000, 2_500  # rows at which more labels than before are flipped
LAG = 100
MONITOR = MonitorSettings(rows_per_false_drift=100_000, probation_labels=100)
LIFECYCLE = LifecycleSettings(
    retrain_when="worse", cooldown_s=0.0, backoff_s=1.0, backoff_max_s=5.0, refine_growth=0.0
)
TRAIN = TrainSettings(method="finetune", steps=100, batch_size=32, learning_rate=0.2)


def weights() -> dict[str, torch.Tensor]:
    """A model that says 1 where the first number is positive."""
    return {"0.weight": torch.tensor([[-4.0, 0.0], [4.0, 0.0]]), "0.bias": torch.zeros(2)}


def rows(n: int, flips: dict[int, float], seed: int = 0) -> Rows:
    """Rows of which, from a row on, a share has the wrong label."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 2)).astype(np.float32)
    share = np.zeros(n)
    for row, flipped in flips.items():
        share[row:] = flipped
    return Rows(x, ((x[:, 0] > 0) ^ (rng.random(n) < share)).astype(np.int64))


def stream(flips: dict[int, float], n: int = 4_000) -> Stream:
    live = rows(n, flips)
    return Stream(
        name="m",
        title="a stream",
        task="",
        input_shape=(2,),
        class_names=("no", "yes"),
        train=rows(0, {}),
        reference=rows(0, {}),
        live=live,
        label_at=fixed_lag(live.y, LAG),
    )


def shelf() -> Shelf:
    reference = rows(400, {0: 0.05}, seed=1)
    return Shelf(nn.Sequential(nn.Linear(2, 2)), weights(), reference.x, reference.y)


def played(flips: dict[int, float], kind: type[Trainer], *, mixes: bool = False) -> Simulation:
    versions = shelf()
    return simulate(
        stream(flips),
        versions,
        kind(versions, TRAIN, MONITOR.min_reference_rows),
        monitor=MONITOR,
        lifecycle=LIFECYCLE,
        train=TRAIN,
        pace=Pace(rows_per_s=200.0, training_s=1.0),
        mixes=mixes,
    )


def happened(found: Simulation) -> list[tuple[int, str]]:
    return [(entry.row, entry.kind) for entry in found.timeline.entries]


@pytest.mark.thorough
def test_later_drift_is_seen_against_the_regime_of_an_earlier_one() -> None:
    found = played({0: 0.05, FIRST: 0.35, SECOND: 0.9}, Recalibrator)
    changed = [
        e.evidence.change_row for e in found.timeline.entries if e.kind == "drift" and e.evidence
    ]
    assert any(abs(row - FIRST) < 100 for row in changed if row is not None)
    assert any(abs(row - SECOND) < 100 for row in changed if row is not None)
    assert {kind for _, kind in happened(found)} <= {
        "warning", "drift", "calm", "retraining", "rearmed", "failed",
    }  # fmt: skip
    assert found.retrainings >= 2
    assert all(rows >= LIFECYCLE.min_regime_rows for rows in found.trained.values())


def test_nothing_happens_to_a_stream_that_stays_as_it_was() -> None:
    found = played({0: 0.05}, Recalibrator)
    assert not [kind for _, kind in happened(found) if kind == "drift"]
    assert found.retrainings == 0
    assert found.timeline.last.rows == 4_000
    assert found.timeline.trace.row[-1] == 4_000


def test_retraining_brings_the_accuracy_back() -> None:
    live = stream({0: 0.05, FIRST: 0.95}).live
    found = played({0: 0.05, FIRST: 0.95}, Trainer)
    promoted = [row for row, kind in happened(found) if kind == "promoted"]
    assert promoted
    after = slice(promoted[0] + 50, None)
    assert (found.predicted[after] == live.y[after]).mean() > 0.85
    assert (
        found.predicted[FIRST : promoted[0] - 50] == live.y[FIRST : promoted[0] - 50]
    ).mean() < 0.2


def test_version_before_is_asked_from_the_swap_to_the_verdict(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    former = np.full(4_000, -1)
    fold = Monitor.fold

    def spy(self: Monitor, rows: Predictions | None, labels: Labels | None) -> LabelCounts:
        if rows is not None:
            former[rows.row] = rows.formers
        return fold(self, rows, labels)

    monkeypatch.setattr(Monitor, "fold", spy)
    found = played({0: 0.05, FIRST: 0.95}, Trainer)
    promoted = next(row for row, kind in happened(found) if kind == "promoted")
    asked = np.flatnonzero(former >= 0)
    assert asked[0] in range(promoted, promoted + 100)
    assert asked[-1] - asked[0] + 1 in range(LAG + 100, 400)
    truth = stream({0: 0.05, FIRST: 0.95}).live.y[asked]
    assert (former[asked] == truth).mean() < 0.2, "the version before has not learnt the flip"
    assert (found.predicted[asked] == truth).mean() > 0.8
    assert "rolled_back" not in {kind for _, kind in happened(found)}


@pytest.mark.thorough
def test_mixture_answers_truly_before_anything_is_retrained() -> None:
    live = stream({0: 0.05, FIRST: 0.95}).live
    found = played({0: 0.05, FIRST: 0.95}, Trainer, mixes=True)
    promoted = next(row for row, kind in happened(found) if kind == "promoted")
    between = slice(FIRST + 2 * LAG + 200, promoted)  # a head has learnt it, and has served it
    assert promoted > between.start + 100
    assert (found.predicted[between] == live.y[between]).mean() > 0.8
    assert (found.predicted[:FIRST] == live.y[:FIRST]).mean() > 0.9


@pytest.mark.thorough
def test_same_stream_and_policy_tell_the_same_story() -> None:
    flips = {0: 0.05, FIRST: 0.95}
    first, again = played(flips, Trainer), played(flips, Trainer)
    assert first.timeline.entries == again.timeline.entries
    assert first.timeline.last == again.timeline.last
    np.testing.assert_array_equal(first.predicted, again.predicted)


def test_answers_are_those_of_the_version_asked_for_wherever_the_rows_begin() -> None:
    versions = shelf()
    other = versions.add({k: -v for k, v in weights().items()}, versions.reference(1))
    x = rows(10_000, {}).x
    for start, stop in ((0, 30), (4_090, 4_120), (9_000, 10_000), (10, 20)):
        for version, sign in ((1, 1), (other, -1)):
            output, embedding = versions.answers(version, x, start, stop)
            assert (output.argmax(axis=1) == (sign * x[start:stop, 0] > 0)).all()
            np.testing.assert_array_equal(embedding, x[start:stop])


# ---------------------------------------------------------------------- the command


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The present folder, with a file whose labels turn round, and no configuration."""
    data = rows(3_000, {0: 0.05, 1_500: 0.95})
    write(tmp_path / "t.csv", data)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path


@pytest.fixture
def project(folder: Path) -> Path:
    """A configuration beside the file."""
    (folder / "line_model.py").write_text(MODEL, encoding="utf-8")
    save_file(weights(), folder / "weights.safetensors")
    reference = rows(300, {0: 0.05}, seed=1)
    np.savez(folder / "reference.npz", x=reference.x, y=reference.y)
    config = {
        "model": {
            "name": "m",
            "factory": "line_model:build",
            "weights": "weights.safetensors",
            "input_shape": [2],
            "classes": ["no", "yes"],
        },
        "reference": "reference.npz",
        "monitor": {"rows_per_false_drift": 10_000, "features": ["b", "a"]},
        "lifecycle": {"mode": "off"},
    }
    (folder / "undrift.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    return folder


def write(path: Path, data: Rows, names: str = "a,kind,b") -> None:
    """Write a table whose columns stand in another order than the model's inputs."""
    words = ("no", "yes")
    lines = [
        f"{a:.5f},{words[y]},{b:.5f}" for (b, a), y in zip(data.x.tolist(), data.y, strict=True)
    ]
    path.write_text("\n".join([names, *lines]) + "\n", encoding="utf-8")


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["replay", "--data", "t.csv", "--label", "kind", *arguments])


def refused(*arguments: str) -> str:
    result = run(*arguments)
    assert result.exit_code == 1, result.output
    (line,) = result.stderr.splitlines()
    return line


def replayed(*arguments: str) -> dict[str, Any]:
    result = run("--json", *arguments)
    assert result.exit_code == 0, result.output
    answer: dict[str, Any] = json.loads(result.stdout)
    return answer


@pytest.mark.thorough
def test_configured_model_answers_every_row_of_the_file(project: Path) -> None:
    found = replayed("--lag", "50")
    assert found["totals"]["rows"] == 3_000
    assert found["totals"]["labels"] == 2_950
    assert 0.45 < found["accuracy"]["frozen"]["all"] < 0.55
    assert "platform" not in found["accuracy"]
    drift = next(entry for entry in found["timeline"] if entry["kind"] == "drift")
    assert 1_550 < drift["row"] < 1_800
    assert found["totals"]["training_s"]["estimated"] > 0
    assert "accuracy, frozen" in run("--lag", "50").stdout
    assert not (project / "state").exists()


@pytest.mark.thorough
def test_first_model_is_trained_where_there_is_no_configuration(folder: Path) -> None:
    found = replayed("--set", "lifecycle.min_regime_rows=200", "--set", "train.steps=50")
    assert found["totals"]["rows"] == 2_400
    assert found["totals"]["drifts"] >= 1
    assert "the first model" in found["notes"][0]
    assert sorted(path.name for path in folder.iterdir()) == ["t.csv"]


@pytest.mark.thorough
def test_retraining_is_measured_and_compared(folder: Path) -> None:
    arguments = ("--set", "train.steps=400", "--lag", "100", "--pace", "100")
    found = replayed("--retrain", *arguments)
    late = {name: parts["last_three_fifths"] for name, parts in found["accuracy"].items()}
    assert late["platform"] > late["frozen"] + 0.1
    assert found["totals"]["training_s"]["measured"] > 0
    assert found["totals"]["labels_trained_on"] >= 250
    assert "promoted" in {entry["kind"] for entry in found["timeline"]}


def test_file_that_does_not_fit_the_model_is_refused(project: Path) -> None:
    data = rows(600, {})
    write(project / "t.csv", data)
    assert run().exit_code == 0
    text = (project / "t.csv").read_text(encoding="utf-8")
    cases = {
        text.replace("\n", ",1\n", 2): "cannot be read as a table",
        text.replace("a,kind,b", "a,kind,c"): "names 'b', which the file does not have",
        text.replace("a,kind,b", "A,kind,B"): "does not have (it has 'B' for 'b', 'A' for 'a')",
        text + "1.0,maybe,2.0\n": "row 600 of column 'kind' is 'maybe'",
        text + ",yes,2.0\n": "column 'a' has 1 missing or infinite values, the first in row 600",
        text + "red,yes,2.0\n": "column 'a' has 1 missing or infinite values, the first in row 600",
        "a,kind,b\nred,yes,1\n": "column 'a' is not numbers, which the model takes",
    }
    for content, said in cases.items():
        (project / "t.csv").write_text(content, encoding="utf-8")
        assert said in refused()
    (project / "t.csv").write_text("1.0,yes\n2.0,no\n", encoding="utf-8")
    assert "1 columns besides the label, but model 'm' takes 2" in refused("--label", "1")
