from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest

from undrift.demo.recording import Recording, Snapshot
from undrift.demo.result import DemoResult, Goal, accuracy, mixed_answers, summarise
from undrift.streams.stream import UNKNOWN, Rows, Stream, fixed_lag
from undrift.views import EventView

N = 1000


def played(swap_row: int = 500) -> tuple[Stream, Recording]:
    """A run at 100 rows/s: the frozen model is wrong from row 400, version 2 is right again."""
    y = np.zeros(N, dtype=np.int64)
    rows = Rows(np.zeros((N, 2), np.float32), y)
    stream = Stream(
        name="toy",
        title="Toy",
        task="",
        input_shape=(2,),
        class_names=("0", "1"),
        train=rows,
        reference=rows,
        live=rows,
        label_at=fixed_lag(y, 10),
        drift_row=400,
    )
    frozen = (np.arange(N) >= 400).astype(np.int64)
    record = Recording.of(stream, frozen)
    record.predicted[:] = np.where(np.arange(N) < swap_row, frozen, 0)
    record.version[:] = np.where(np.arange(N) < swap_row, 1, 2)
    record.due_at[:] = record.sent_at[:] = 1000.0 + np.arange(N) / 100
    record.answered_at[:] = record.sent_at + 0.002
    record.status[:] = 200
    record.sent = N
    record.hashes = {1: {"a"}, 2: {"b"}}
    swap_at = 1000.0 + swap_row / 100
    told = ((1004.2, "warning"), (1004.5, "drift"), (1004.5, "retraining"), (swap_at, "promoted"))
    record.events = [
        EventView(seq=i, at=at, kind=kind, text="") for i, (at, kind) in enumerate(told, start=1)
    ]
    for k in range(21):
        at = 1000.0 + k / 2
        live = 2 if at >= swap_at else 1
        record.snapshots.append(Snapshot(at - 0.01, at, min(N, k * 50), "healthy", live))
    return stream, record


def result(swap_row: int = 500) -> DemoResult:
    return summarise(*played(swap_row), rows_per_s=100.0)


def test_accuracy_is_that_of_judged_rows_only() -> None:
    _, record = played()
    record.predicted[:300] = -1
    record.y = record.y.copy()
    record.y[300:350] = UNKNOWN
    found = accuracy(record, 0, 500)
    assert found.rows == 150
    assert found.ours == found.frozen == pytest.approx(1 / 3)


def test_stretch_without_judged_rows_has_no_accuracy() -> None:
    _, record = played()
    record.predicted[:] = -1
    assert math.isnan(accuracy(record, 0, 100).ours)


def test_gap_is_measured_by_fifths() -> None:
    found = result()
    assert [a.gap_points for a in found.fifths] == pytest.approx([0, 0, 50, 100, 100])
    assert found.last_three_fifths.gap_points == pytest.approx(100 * 500 / 600)
    assert found.overall.rows == N


def test_loop_that_closed_lacks_nothing() -> None:
    assert result().closed(Goal(20.0)) == (True, [])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"failed_requests": 2}, "2 failed requests"),
        ({"mixed_answers": 1}, "1 answers of a version that should not be live"),
        ({"rows": 900}, "ended early, after 900 of 1000"),
        ({"counts": {"warning": 0, "drift": 1, "retraining": 1, "promoted": 1}}, "no warning"),
        ({"counts": {"warning": 1, "drift": 1, "retraining": 1, "promoted": 0}}, "no promotion"),
    ],
)
def test_what_is_missing_is_named(change: dict[str, object], said: str) -> None:
    closed, missing = dataclasses.replace(result(), **change).closed()  # type: ignore[arg-type]
    assert not closed
    assert len(missing) == 1
    assert said in missing[0]


def test_too_small_a_gap_is_missing() -> None:
    closed, missing = result(swap_row=960).closed(Goal(20.5))
    assert not closed
    assert missing == ["the last fifth is +20.0 points from the frozen model, not at least +20.5"]


def test_gap_that_cannot_be_measured_is_missing() -> None:
    stream, record = played()
    record.predicted[800:] = -1
    assert not summarise(stream, record, 100.0).closed()[0]


def test_drift_is_paired_with_the_promotion_that_answers_it() -> None:
    stream, record = played()
    record.events.append(EventView(seq=5, at=1009.0, kind="promoted", text="a refinement"))
    (found,) = summarise(stream, record, 100.0).adaptations
    assert (found.drift_row, found.promoted_row, found.rows) == (451, 501, 50)
    assert found.seconds == pytest.approx(0.5)


def test_answers_after_the_first_drift_begin_one_second_later() -> None:
    found = result().after_drift
    assert found is not None
    assert (found.start, found.stop, found.gap_points) == (551, N, pytest.approx(100))


def test_without_a_drift_there_is_nothing_after_it() -> None:
    stream, record = played()
    record.events = [e for e in record.events if e.kind != "drift"]
    assert summarise(stream, record, 100.0).after_drift is None


def test_spans_tell_which_version_answered() -> None:
    assert result().spans == ((0, 500, 1), (500, 1000, 2))


def test_pace_and_latency_come_from_the_clock() -> None:
    found = result()
    assert found.pace == pytest.approx(100, rel=0.01)
    assert found.latency_ms["p50"] == pytest.approx(2.0, rel=1e-3)
    assert found.label_lag_rows == 10


def test_clean_swap_mixes_nothing() -> None:
    assert mixed_answers(played()[1]) == 0


def test_old_version_after_the_swap_is_mixed() -> None:
    _, record = played()
    record.version[700:703] = 1
    assert mixed_answers(record) == 3


def test_new_version_while_the_swap_is_being_confirmed_is_not_mixed() -> None:
    _, record = played()
    record.version[470:500] = 2
    assert mixed_answers(record) == 0


def test_one_version_with_two_hashes_is_mixed() -> None:
    _, record = played()
    record.hashes[2].add("c")
    assert mixed_answers(record) == 500


def test_result_is_strict_json_and_keeps_the_figures() -> None:
    stream, record = played()
    record.predicted[:200] = -1
    text = summarise(stream, record, 100.0).to_json()
    data = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} in JSON"))
    assert data["fifths"][0]["ours"] is None
    assert data["fifths"][4]["ours"] == 1.0
    assert data["events"][1]["row"] == 451


def test_run_without_a_single_answer_still_has_a_result() -> None:
    stream, _ = played()
    found = summarise(stream, Recording.of(stream, stream.live.y), 100.0)
    assert not found.closed()[0]
    assert found.spans == ()
    assert found.latency_ms == {}


def test_repeated_events_are_kept_once_and_in_order() -> None:
    _, record = played()
    record.events = []
    first, second = (EventView(seq=i, at=i, kind="drift", text="") for i in (1, 2))
    record.tell([first])
    record.tell([first, second])
    assert record.events == [first, second]
