from __future__ import annotations

import numpy as np

from undrift.monitor.statistics.detector import aligned
from undrift.monitor.statistics.quarantine import Quarantine


def push(quarantine: Quarantine, values: np.ndarray, trusted: bool = True) -> list[float]:
    return quarantine.push(values, trusted=trusted).tolist()


def test_rows_join_in_order_after_the_wait() -> None:
    quarantine, joined = Quarantine(), []
    for block in np.arange(640.0).reshape(10, 64):
        joined += push(quarantine, block)
    assert joined == list(range(640 - Quarantine.WAIT))


def test_rows_join_alike_however_they_are_cut() -> None:
    values = np.arange(1_000.0)
    whole: list[list[float]] = []
    for cuts in ([1_000], [1, 6, 63, 65, 700, 165]):
        quarantine, joined, count = Quarantine(), [], 0
        for size in cuts:
            for part in aligned(count, size):
                joined += push(quarantine, values[count : count + size][part])
            count += size
        whole.append(joined)
    assert whole[0] == whole[1]
    assert len(whole[0]) == 15 * 64 - Quarantine.WAIT


def test_rows_that_wait_when_drift_is_found_never_join() -> None:
    quarantine = Quarantine()
    for _ in range(4):
        assert push(quarantine, np.ones(64)) == []
    assert push(quarantine, np.ones(64), trusted=False) == []
    for _ in range(4):
        assert push(quarantine, np.zeros(64)) == []
    assert push(quarantine, np.zeros(64)) == [0.0] * 64


def test_saved_and_loaded_within_a_block() -> None:
    quarantine, other = Quarantine(), Quarantine()
    for size in (64, 64, 64, 64, 30):
        push(quarantine, np.arange(float(size)))
    other.load(quarantine.state())
    rest = np.arange(30.0, 64.0)
    assert push(quarantine, rest) == push(other, rest) == list(range(64))
