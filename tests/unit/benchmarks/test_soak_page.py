"""What a soak reports: slopes of memory, and what must not be."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from benchmarks.soak_page import memory, name, page, slopes, wrong

MIB = 2**20
GOOD: dict[str, Any] = {
    "at": 400.0,
    "kind": "end",
    "requests": 9,
    "raw": 1,
    "failed": 0,
    "acknowledged": 72,
    "refused": 0,
    "wrong": 0,
    "missing": 0,
    "replay": {"decisions": {"same": 3, "live": 3}},
    "unclean": "",
    "tracebacks": 0,
    "trouble": [],
}


def looks(size: Any, until: int = 400) -> list[dict[str, Any]]:
    """Return a look every five seconds at processes of ``size(at)``: title to pid to MiB."""
    return [
        {
            "at": float(at),
            "kind": "look",
            "state": MIB,
            "told": {"promoted": 1},
            "lost_rows": at % 200,
            "rss": {t: {p: int(s * MIB) for p, s in of.items()} for t, of in size(at).items()},
        }
        for at in range(0, until, 5)
    ]


def test_slope_is_that_of_the_line_whatever_a_few_points_say() -> None:
    at = np.arange(0, 600, 5.0)
    value = 100 + at / 60 + np.random.default_rng(0).normal(0, 0.1, len(at))
    value[[7, 50, 90]] += 500
    assert np.median(slopes(at, value)) == pytest.approx(60, rel=0.05)


def test_memory_is_fitted_by_life_and_without_its_warm_up() -> None:
    def size(at: int) -> dict[str, dict[str, float]]:
        monitor = {"1": 500 + at} if at < 100 else {"2": 100 + min(at - 100, 80)}
        return {"ray::MonitorActor": monitor, "raylet": {"9": 100 + at / 36}}

    monitor, raylet = memory(looks(size))
    assert monitor[:3] == ("ray::MonitorActor", 2, 595.0)
    assert monitor[4] == (0, 0, 0), "it is warm when it no longer grows; the first life is short"
    assert raylet[4][1] == pytest.approx(100 * 100 / 106.7, rel=0.02)
    assert raylet[3] == pytest.approx(5.1, abs=0.1)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"missing": 2}, "2 acknowledged labels"),
        ({"replay": {"decisions": {"same": 2, "live": 3}}}, "2 of 3 decisions"),
        ({"replay": "error: damaged"}, "damaged"),
        ({"unclean": "a process is left"}, "a process is left"),
        ({"failed": 1}, "1 requests failed"),
        ({"wrong": 1}, "1 labels"),
        ({"kind": "look"}, "cut off"),
    ],
)
def test_what_must_not_be_is_told(change: dict[str, Any], said: str) -> None:
    assert wrong([GOOD]) == []
    (found,) = wrong([{**GOOD, **change}])
    assert said in found


def test_page_has_the_figures() -> None:
    begin = {"at": 0, "kind": "begin", "drift_s": 180, "fault_s": 45, "full": True, "seed": 0}
    faults = [
        {"at": 9.0, "kind": "fault", "what": "full disk", "back_s": 7.5},
        {"at": 9.0, "kind": "fault", "what": "full disk", "trouble": "AssertionError: no"},
    ]
    text = page([begin, *looks(lambda _: {"raylet": {"9": 100}}), *faults, GOOD])
    assert "| full disk | 2 | 1 | 7.5 s |" in text
    assert "| raylet | 1 | 100 MiB | 5 | +0 % | +0 … +0 % |" in text
    assert "full disk did not heal: AssertionError: no" in text
    assert "| labels acknowledged | 72 |" in text
    assert "the disk being full | 195 |" in text


@pytest.mark.parametrize(
    ("line", "called"),
    [
        ("ray::ServeReplica:spirals:Model", "ray::ServeReplica"),
        ("/x/python -m undrift.cli up", "undrift up"),
        ("/x/raylet/raylet --a", "raylet"),
        ("/x/python -u /x/dashboard/agent.py --a", "Ray agent"),
        ("/x/sleep 3", "sleep"),
    ],
)
def test_processes_have_names(line: str, called: str) -> None:
    assert name(line) == called
