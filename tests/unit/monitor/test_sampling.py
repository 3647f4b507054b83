"""Whether labels are a fair sample of the rows."""

from __future__ import annotations

import numpy as np
import pytest

from tests.helpers.streams import Stream
from undrift.monitor.monitor import Monitor
from undrift.monitor.settings import MonitorSettings
from undrift.monitor.statistics.sampling import unlike
from undrift.records import Labels

SETTINGS = MonitorSettings(label_lag_rows=1_000, join_window_rows=5_000)


def note(kept: str, seed: int, *, rows: int = 2_000, lag: int = 200) -> str:
    """What is said of labels that come only for some rows."""
    stream, rng = Stream(seed), np.random.default_rng(seed)
    monitor = Monitor(SETTINGS, stream.reference(), 1, class_names=("good", "bad"))
    owed: list[Labels] = []
    for _ in range(rows // 50):
        predictions, labels = stream.take(50)
        chosen = {
            "every": np.ones(50, dtype=bool),
            "fifth": rng.random(50) < 0.2,
            "answered bad": (predictions.output.argmax(axis=1) == 1) | (rng.random(50) < 0.2),
            "large": predictions.x[:, 0] > 0.5,
            "burst": np.full(50, rng.random() < 0.3),
        }[kept]
        index = np.flatnonzero(chosen)
        ids = tuple(labels.ids[i] for i in index)
        owed.append(Labels(ids, labels.label[index], labels.at[index]))
        monitor.fold(predictions, owed.pop(0) if len(owed) > lag // 50 else None)
    return " ".join(monitor.summary().calibration["performance"].notes)


@pytest.mark.parametrize("kept", ["every", "fifth", "burst"])
def test_labels_of_all_or_of_a_random_part_are_a_fair_sample(kept: str) -> None:
    assert sum("no fair sample" in note(kept, seed) for seed in range(4)) == 0


def test_labels_of_one_answer_above_all_are_told_with_a_name() -> None:
    for seed in range(3):
        said = note("answered bad", seed)
        assert "the rows that have labels are no fair sample: good is answered in" in said
        assert "100% of the rest" in said


def test_labels_of_one_kind_of_input_are_told() -> None:
    for seed in range(3):
        assert "no fair sample" in note("large", seed)


def test_too_few_rows_say_nothing() -> None:
    assert "fair" not in note("large", 0, rows=400)


def test_constant_numbers_and_unnamed_classes_are_no_obstacle() -> None:
    labelled = np.arange(1_000) % 2 == 0
    answered = np.where(labelled, 3, 1)
    assert unlike(labelled, answered, np.ones((1_000, 2)), ("a",)).startswith("class 1 is answered")
    assert unlike(labelled, np.zeros(1_000, dtype=np.int64), np.zeros((1_000, 0)), ()) == ""
