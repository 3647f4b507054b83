"""Ten minutes of load, drifts, kills and a full disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.soak import soak
from benchmarks.soak_page import page, wrong

pytestmark = [pytest.mark.ray, pytest.mark.slow]


@pytest.mark.timeout(1800)
def test_platform_bears_ten_minutes_of_drifts_and_faults(tmp_path: Path) -> None:
    seen = soak(
        tmp_path,
        tmp_path / "soak.jsonl",
        minutes=10,
        drift_s=120,
        fault_s=30,
        mib=512,
        seed=0,
    )
    assert wrong(seen) == [], page(seen)
    last = [line for line in seen if "told" in line][-1]
    assert last["told"]["promoted"] >= 1, "it has adapted, too"
    assert {line["what"] for line in seen if line["kind"] == "drift"} == {"labels", "inputs"}
