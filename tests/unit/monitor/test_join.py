from __future__ import annotations

import numpy as np
import pytest

from tests.helpers import rows as by_hand
from undrift.monitor.join import LabelCounts, LabelJoin
from undrift.monitor.label_record import LabelRecord
from undrift.records import Labels, Predictions


def predictions(ids: list[str], first_row: int = 0, at: float = 100.0) -> Predictions:
    """Rows that all predict class 1."""
    n = len(ids)
    x, output = np.zeros((n, 2)), np.tile([0.2, 0.8], (n, 1))
    return by_hand.predictions(x, first=first_row, ids=ids, at=at, version=7, output=output)


def labels(ids: list[str], values: list[int], at: float = 160.0) -> Labels:
    return Labels(tuple(ids), np.array(values, dtype=np.int64), np.full(len(ids), at))


def test_label_meets_the_stored_prediction() -> None:
    join = LabelJoin(10)
    join.add(predictions(["a", "b", "c"], first_row=40))
    joined, counts = join.label(labels(["c", "a"], [0, 1]))
    assert counts == LabelCounts(joined=2)
    assert joined.row.tolist() == [42, 40]
    assert joined.wrong.tolist() == [True, False]
    assert joined.version.tolist() == [7, 7]
    assert joined.lag_rows.tolist() == [0, 2]
    assert joined.lag_seconds.tolist() == [60.0, 60.0]


def test_label_meets_what_was_noted_of_its_prediction() -> None:
    join = LabelJoin(4)
    join.label(labels(["e"], [4]))
    notes = np.arange(10, dtype=np.float32).reshape(5, 2)
    joined, _ = join.add(predictions([*"abcde"]), notes)
    assert (joined.label.tolist(), joined.notes.tolist()) == ([4], [[8.0, 9.0]])
    loaded = LabelJoin(2)
    loaded.load(join.state())
    joined, _ = loaded.label(labels(["d"], [-1]))
    assert (joined.label.tolist(), joined.notes.tolist()) == ([-1], [[6.0, 7.0]])


def test_notes_of_another_width_make_older_ones_forgotten() -> None:
    join = LabelJoin(10)
    join.add(predictions(["a"]), np.ones((1, 2), dtype=np.float32))
    join.add(predictions(["b"], 1), np.ones((1, 3), dtype=np.float32))
    joined, _ = join.label(labels(["a", "b"], [1, 1]))
    assert joined.notes.tolist() == [[0.0, 0.0, 0.0], [1.0, 1.0, 1.0]]
    join.add(predictions(["c"], 2))
    assert join.label(labels(["c"], [1]))[0].notes.shape == (1, 0)


def test_predictions_under_an_id_in_use_are_counted_and_the_newest_gets_the_label() -> None:
    join = LabelJoin(3)
    assert join.add(predictions(["same"] * 5))[1] == LabelCounts(reused=4)
    assert join.add(predictions(["same", "b", "c"], 5))[1] == LabelCounts(reused=1)
    joined, counts = join.label(labels(["same", "same"], [1, 1]))
    assert (joined.row.tolist(), counts) == ([5], LabelCounts(joined=1, duplicate=1))
    assert join.add(predictions(["d", "same"], 8))[1] == LabelCounts()  # the last is out of reach


def test_outcomes_saved_before_there_was_another_are_taken_over() -> None:
    record = LabelRecord(10)
    record.count(LabelCounts(joined=3, expired=2, reused=4))
    state = record.state()
    again = LabelRecord(10)
    again.load(state)
    assert again.outcomes() == record.outcomes()
    again.load(state | {"_counts": state["_counts"][:-1]})
    assert again.outcomes() == record.outcomes() | {"reused": 0}


def test_second_label_is_duplicate_or_conflict_and_the_first_stands() -> None:
    join = LabelJoin(10)
    join.add(predictions(["a"]))
    joined, counts = join.label(labels(["a", "a", "a"], [1, 1, 0]))
    assert counts == LabelCounts(joined=1, duplicate=1, conflict=1)
    assert joined.wrong.tolist() == [False]


def test_label_for_unknown_id_is_counted_and_joins_when_its_prediction_comes() -> None:
    join = LabelJoin(10)
    join.add(predictions(["x"]))
    joined, counts = join.label(labels(["a", "a", "a"], [0, 0, 1], at=90.0))
    assert (len(joined), join.waiting) == (0, 1)
    assert counts == LabelCounts(unknown=1, duplicate=1, conflict=1)
    joined, counts = join.add(predictions(["a"], first_row=1))
    assert counts == LabelCounts(joined=1)
    assert joined.wrong.tolist() == [True]
    assert joined.lag_seconds.tolist() == [0.0]  # the clocks of client and replica differ
    assert join.waiting == 0
    assert join.label(labels(["a"], [0]))[1] == LabelCounts(duplicate=1)


def test_label_whose_prediction_never_comes_expires() -> None:
    join = LabelJoin(10)
    join.add(predictions(["x"]))
    join.label(labels(["a"], [0]))
    assert join.add(predictions([f"p{i}" for i in range(10)], 1))[1] == LabelCounts()
    assert join.add(predictions(["q"], 11))[1] == LabelCounts(expired=1)
    assert join.waiting == 0


def test_flood_of_unknown_labels_is_bounded() -> None:
    join = LabelJoin(10)
    _, counts = join.label(labels([f"a{i}" for i in range(25)], [0] * 25))
    assert counts == LabelCounts(unknown=25, expired=15)
    assert join.waiting == 10


def test_label_older_than_the_window_is_late() -> None:
    def uuid7(seconds: float) -> str:
        stamp = f"{int(seconds * 1000):012x}"
        return f"{stamp[:8]}-{stamp[8:]}-7abc-8def-0123456789ab"

    join = LabelJoin(4)
    ids = [uuid7(100.0 + i) for i in range(6)]
    for i, name in enumerate(ids):
        join.add(predictions([name], first_row=i, at=100.5 + i))
    joined, counts = join.label(labels([ids[0], ids[1], ids[2], uuid7(200.0)], [1, 1, 1, 1]))
    assert counts == LabelCounts(joined=1, late=2, unknown=1)
    assert joined.row.tolist() == [2]


def test_own_id_older_than_the_window_expires() -> None:
    join = LabelJoin(4)
    join.add(predictions(["a", "b", "c", "d", "e"]))
    assert join.label(labels(["a"], [1]))[1] == LabelCounts(unknown=1)
    assert join.add(predictions(list("fghij"), 5))[1] == LabelCounts(expired=1)


def test_more_predictions_at_once_than_the_window_holds() -> None:
    join = LabelJoin(4)
    join.add(predictions([f"p{i}" for i in range(11)]))
    joined, counts = join.label(labels(["p10", "p7", "p6"], [1, 1, 1]))
    assert joined.row.tolist() == [10, 7]
    assert counts == LabelCounts(joined=2, unknown=1)


def test_label_joins_what_it_waited_for_though_the_same_batch_drives_that_from_the_window() -> None:
    join = LabelJoin(1)
    join.label(labels(["a"], [1]))
    joined, _ = join.add(predictions(["a", "a"]))
    assert (joined.row.tolist(), joined.label.tolist()) == ([0], [1])


def test_labels_expire_alike_however_they_are_batched() -> None:
    whole, single = LabelJoin(1), LabelJoin(1)
    _, counts = whole.label(labels(["b", "a", "b"], [0, 0, 0]))
    one_by_one = [single.label(labels([name], [0]))[1] for name in "bab"]
    assert counts == sum(one_by_one, LabelCounts()) == LabelCounts(unknown=3, expired=2)


def test_id_used_again_means_the_newest_prediction() -> None:
    join = LabelJoin(3)
    join.add(predictions(["a", "a", "b"]))
    joined, _ = join.label(labels(["a"], [1]))
    assert joined.row.tolist() == [1]
    join.add(predictions(["c"], 3))  # overwrites the first "a"
    assert join.label(labels(["a"], [1]))[1] == LabelCounts(duplicate=1)


def test_coverage_counts_rows_that_are_due() -> None:
    join = LabelJoin(10)
    assert join.coverage(100) is None
    join.add(predictions(list("abcd")))
    join.label(labels(["a", "d"], [1, 1]))
    assert join.coverage(4) == pytest.approx(0.5)
    assert join.coverage(1) == pytest.approx(1.0)
    assert join.coverage(0) is None
    assert (join.labelled_since(0), join.labelled_since(1), join.labelled_since(4)) == (2, 1, 0)


def test_state_round_trip_keeps_every_outcome() -> None:
    join = LabelJoin(5)
    join.add(predictions([*"abcdefg"]))
    join.label(labels(["d", "später", "\ud800"], [1, 0, 1]))
    loaded = LabelJoin(5)
    loaded.load(join.state())
    for each in (join, loaded):
        joined, counts = each.label(labels(["d", "e", "c", "später"], [0, 1, 1, 0]))
        assert joined.row.tolist() == [4, 2]
        assert counts == LabelCounts(joined=2, conflict=1, duplicate=1)
        joined, _ = each.add(predictions(["später", "\ud800"], 7))
        assert joined.wrong.tolist() == [True, False]
        assert each.label(labels(["c"], [1]))[1] == LabelCounts(unknown=1)


def test_state_of_a_larger_window_loads_into_a_smaller_one() -> None:
    join = LabelJoin(10)
    join.add(predictions([f"p{i}" for i in range(8)]))
    loaded = LabelJoin(3)
    loaded.load(join.state())
    joined, counts = loaded.label(labels(["p7", "p5", "p4"], [1, 1, 1]))
    assert joined.row.tolist() == [7, 5]
    assert counts == LabelCounts(joined=2, unknown=1)


def test_state_of_a_smaller_window_loads_into_a_larger_one() -> None:
    join = LabelJoin(1)
    join.add(predictions(["a", "b"]))
    join.label(labels(["b"], [1]))
    loaded = LabelJoin(3)
    loaded.load(join.state())
    assert loaded.coverage(2) == pytest.approx(1.0)  # the empty places are no rows
    assert loaded.state()["row"].tolist() == [1]


def test_counts_add_up() -> None:
    assert LabelCounts(joined=1, late=2) + LabelCounts(joined=3) == LabelCounts(joined=4, late=2)


@pytest.mark.thorough
def test_million_labels_expire_within_the_time_of_a_test() -> None:
    join, many = LabelJoin(window=1_000), 1_000_000  # a quadratic way takes hours
    unknown = Labels(tuple(map(str, range(many))), np.zeros(many, int), np.zeros(many))
    _, counts = join.label(unknown)
    assert (counts.unknown, counts.expired, join.waiting) == (many, many - 1_000, 1_000)
