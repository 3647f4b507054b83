from __future__ import annotations

from benchmarks.neighbours import KINDS, table


def test_each_round_is_held_against_its_own_period_alone() -> None:
    found = {kind: [(10, 1.0, 2.0), (20, 2.0, 10.0), (30, 3.0, 4.0)] for kind in KINDS}
    found["both"] = [(1, 5.0, 3.0), (1, 4.0, 10.0), (1, 6.0, 8.0)]
    last = table(found).splitlines()[-1]
    assert last == "| both | 3 | 5.00 (4.00 to 6.00) | 8.00 (3.00 to 10.00) | 1.50 (1.00 to 2.00) |"
