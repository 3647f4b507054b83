from __future__ import annotations

import threading

import numpy as np
import pytest
from pydantic import ValidationError

from undrift.records import Predictions
from undrift.serve.settings import ServeSettings, TapSettings
from undrift.serve.slots import Answer
from undrift.serve.tap import Answered, Tap


def rows(first: int, n: int) -> Predictions:
    return Predictions(
        ids=tuple(str(i) for i in range(first, first + n)),
        row=np.zeros(n, np.int64),
        at=np.zeros(n),
        version=np.ones(n, np.int64),
        x=np.arange(first, first + n, dtype=np.float32)[:, None],
        embedding=np.zeros((n, 2), np.float32),
        output=np.zeros((n, 2), np.float32),
    )


def test_rows_come_out_in_order_and_parts_are_cut() -> None:
    tap = Tap(TapSettings())
    for first in (0, 3, 6):
        tap.offer(rows(first, 3))
    seen: list[str] = []
    for size in (4, 4, 1):
        part = tap.take(4)
        assert part is not None
        assert len(part) == size
        assert part.x[:, 0].tolist() == [float(i) for i in part.ids]
        seen += part.ids
    assert seen == [str(i) for i in range(9)]
    assert tap.take(4) is None
    assert (len(tap), tap.nbytes) == (0, 0)


def at_hand(first: int, n: int, *, answered: bool) -> Answered:
    """Rows of requests of two rows each, as a forward pass answers them."""
    whole = rows(first, n)
    answer = Answer(whole.output, whole.output, whole.embedding, version=first, hash="cafe")
    ids = [whole.ids[i : i + 2] for i in range(0, n, 2)]
    return Answered(ids, float(first), whole.x, answer, np.ones(n, np.int64) if answered else None)


@pytest.mark.parametrize("mixed", [False, True])
def test_rows_as_they_are_at_hand_come_out_as_if_each_part_had_been_made_rows(mixed: bool) -> None:
    parts = [
        at_hand(0, 3, answered=False),
        at_hand(3, 4, answered=mixed),
        rows(7, 2),
        at_hand(9, 1, answered=False),
    ]
    tap = Tap(TapSettings())
    for part in parts:
        tap.offer(part)
    assert tap.nbytes == sum(part.nbytes for part in parts)
    taken = Predictions.concat([found for size in (5, 5) if (found := tap.take(size)) is not None])
    assert taken.ids == tuple(map(str, range(10)))
    assert taken.x[:, 0].tolist() == [float(i) for i in range(10)]
    assert taken.at.tolist() == [0.0] * 3 + [3.0] * 4 + [0.0] * 2 + [9.0]
    assert taken.version.tolist() == [0] * 3 + [3] * 4 + [1] * 2 + [9]
    assert taken.answers.tolist() == [0] * 3 + [int(mixed)] * 4 + [0] * 3
    assert (len(tap), tap.nbytes) == (0, 0)


def test_numbers_of_a_long_part_are_not_copied_as_it_is_cut() -> None:
    tap, whole = Tap(TapSettings()), rows(0, 1000)
    tap.offer(whole)
    while (part := tap.take(300)) is not None:
        assert np.shares_memory(part.x, whole.x)
        assert part.x[:, 0].tolist() == [float(i) for i in part.ids]


def test_newest_rows_are_dropped_when_rows_run_out() -> None:
    tap = Tap(TapSettings(max_rows=5))
    tap.offer(rows(0, 3))
    tap.offer(rows(3, 3))
    tap.offer(rows(6, 2))
    taken = tap.take(10)
    assert taken is not None
    assert taken.ids == ("0", "1", "2", "6", "7")
    assert (tap.rows_offered, tap.rows_dropped) == (8, 3)


def test_newest_rows_are_dropped_when_bytes_run_out() -> None:
    tap = Tap(TapSettings(max_bytes=rows(0, 4).nbytes))
    tap.offer(rows(0, 4))
    tap.offer(rows(4, 1))
    assert (len(tap), tap.nbytes, tap.rows_dropped) == (4, rows(0, 4).nbytes, 1)
    tap.take(4)
    tap.offer(rows(5, 1))
    assert len(tap) == 1


def test_rows_lost_after_taking_count_as_dropped() -> None:
    tap = Tap(TapSettings())
    tap.offer(rows(0, 3))
    tap.take(3)
    tap.mark_lost(3)
    assert tap.rows_dropped == 3


def test_every_row_is_taken_or_counted_with_many_threads() -> None:
    tap = Tap(TapSettings(max_rows=50))
    taken: list[str] = []
    done = threading.Event()

    def offer(first: int) -> None:
        for i in range(300):
            tap.offer(rows(first + 2 * i, 2))

    def take() -> None:
        while True:
            last = done.is_set()
            part = tap.take(7)
            taken.extend(part.ids if part else ())
            if last and part is None:
                return

    offering = [threading.Thread(target=offer, args=(k * 10_000,)) for k in range(3)]
    taking = threading.Thread(target=take)
    for thread in [*offering, taking]:
        thread.start()
    for thread in offering:
        thread.join(20)
    done.set()
    taking.join(20)
    assert tap.rows_offered == 1_800
    assert len(taken) == len(set(taken)) == tap.rows_offered - tap.rows_dropped
    assert (len(tap), tap.nbytes) == (0, 0)


def test_settings_reject_what_makes_no_sense() -> None:
    for bad in ({"port": 0}, {"replicas": 0}, {"tap": {"max_rows": -1}}, {"prot": 1}):
        with pytest.raises(ValidationError):
            ServeSettings.model_validate(bad)


def test_rows_that_nobody_will_take_count_as_lost() -> None:
    tap = Tap(TapSettings())
    tap.offer(rows(0, 3))
    tap.offer(rows(3, 2))
    tap.take(1)
    tap.drop()
    tap.drop()
    assert (len(tap), tap.nbytes, tap.take(1)) == (0, 0, None)
    assert (tap.rows_offered, tap.rows_dropped) == (5, 4)
