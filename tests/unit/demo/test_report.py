from __future__ import annotations

import dataclasses
import io
import math
import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from rich.console import Console
from torch import nn

from undrift.demo.charts import accuracy_chart, phases, signals_chart, versions_chart
from undrift.demo.driver import Driver
from undrift.demo.recording import SignalPoint, Snapshot
from undrift.demo.report import render_report, write_report
from undrift.demo.result import DemoResult, summarise
from undrift.demo.view import bars, line, render
from undrift.streams.stream import Rows, Stream, fixed_lag
from undrift.views import EventView, VersionView

N = 600


def driver_of() -> Driver:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(N, 2)).astype(np.float32)
    y = (x[:, 0] > 0).astype(np.int64)
    live = Rows(x, y)
    stream = Stream(
        name="toy",
        title="Toy <b>& co</b>",
        task="Tell <them> apart.",
        input_shape=(2,),
        class_names=("0", "1"),
        train=live,
        reference=live,
        live=live,
        label_at=fixed_lag(y, 10),
        notes=("A note & more.",),
        drift_row=100,
    )
    driver = Driver(stream, nn.Linear(2, 2), "http://127.0.0.1:1")
    record = driver.recording
    record.predicted[:] = y
    record.version[:] = np.where(np.arange(N) < 300, 1, 2)
    record.due_at[:] = record.sent_at[:] = 1000.0 + np.arange(N) / 100
    record.answered_at[:] = record.sent_at + 0.002
    record.sent = N
    record.hashes = {1: {"a"}, 2: {"b"}}
    for row in range(0, N + 1, 10):
        value = math.nan if row == 50 else row % 300 / 40
        signal = SignalPoint("input", "warning" if value > 3 else "none", value, 3.0, 5.0)
        phase = "retraining" if 200 <= row < 300 else "healthy"
        at = 1000.0 + row / 100
        record.snapshots.append(
            Snapshot(at, at, row, phase, 1 if row < 300 else 2, signals=(signal,))
        )
    record.events = [
        EventView(seq=1, at=1001.0, kind="drift", text="<script>alert(1)</script>"),
        EventView(seq=2, at=1003.0, kind="promoted", text="version 2"),
    ]
    record.versions = [
        VersionView(version=1, live=False, parent=None, hash="aa", created_at=1.0),
        VersionView(
            version=2,
            live=True,
            parent=1,
            hash="b" * 64,
            created_at=2.0,
            metrics={"recent": {"new": 0.9, "old": 0.5}, "passed": True},
            plan={"method": "bandit", "arms": [1, 2]},
        ),
    ]
    return driver


@pytest.fixture(scope="module")
def driver() -> Driver:
    return driver_of()


@pytest.fixture(scope="module")
def result(driver: Driver) -> DemoResult:
    return summarise(driver.stream, driver.recording, 100.0, {"Machine": "2 <cores>"})


class Tags(HTMLParser):
    """Collects tags and attributes, and checks that they nest."""

    VOID = ("meta", "br")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_report_nests_and_needs_nothing_from_outside(result: DemoResult) -> None:
    text = render_report(result)
    tags = Tags()
    tags.feed(text)
    assert tags.open == []
    names = {tag for tag, _ in tags.seen}
    assert not names & {"script", "link", "img", "iframe", "object"}
    attributes = {name for _, attrs in tags.seen for name in attrs}
    assert not attributes & {"src", "href", "srcset", "xlink:href"}
    assert "@import" not in text
    assert not re.search(r"url\((?!#)", text)


def test_text_from_outside_is_escaped(result: DemoResult) -> None:
    text = render_report(result)
    assert "&lt;script&gt;" in text
    assert "Toy &lt;b&gt;&amp; co&lt;/b&gt;" in text
    assert "2 &lt;cores&gt;" in text


def test_report_says_what_is_missing(result: DemoResult) -> None:
    assert "did not close" in render_report(result)
    assert "no warning" in render_report(result)
    counts = {**result.counts, "warning": 1, "retraining": 1}
    assert "The loop closed." in render_report(dataclasses.replace(result, counts=counts))


def test_gate_figures_and_plan_of_each_version_are_shown(result: DemoResult) -> None:
    text = render_report(result)
    assert "recent new 0.9" in text
    assert "bbbbbbbbbbbb<" in text
    assert "&quot;method&quot;: &quot;bandit&quot;" in text


def test_report_of_a_run_without_answers_can_be_written(driver: Driver, tmp_path: Path) -> None:
    empty = Driver(driver.stream, nn.Linear(2, 2), "http://127.0.0.1:1").recording
    path = tmp_path / "report.html"
    write_report(summarise(driver.stream, empty, 100.0), path)
    assert "n/a" in path.read_text()


@pytest.mark.parametrize("chart", [accuracy_chart, versions_chart, signals_chart])
def test_charts_are_well_formed_and_within_their_frame(result: DemoResult, chart: object) -> None:
    root = ElementTree.fromstring(chart(result))  # type: ignore[operator]
    svg = root.find("svg")
    assert svg is not None
    width, height = (float(v) for v in svg.attrib["viewBox"].split()[2:])
    for path in svg.iter("path"):
        if "line" not in path.attrib["class"].split():
            continue
        points = [p.lstrip("ML").split(",") for p in path.attrib["d"].split()]
        assert len(points) > 20
        assert all(0 <= float(x) <= width and 0 <= float(y) <= height for x, y in points)
    assert "nan" not in chart(result)  # type: ignore[operator]


def test_unknown_value_breaks_the_line(result: DemoResult) -> None:
    root = ElementTree.fromstring(signals_chart(result))
    (drawn,) = [p.attrib["d"] for p in root.iter("path") if p.attrib["class"] == "line signal"]
    assert drawn.count("M") == 2


def test_phases_are_stretches_of_rows(driver: Driver) -> None:
    assert phases(driver.recording.snapshots) == [
        (0, 200, "healthy"),
        (200, 300, "retraining"),
        (300, 600, "healthy"),
    ]


def test_live_picture_fits_a_terminal_of_100_by_30(driver: Driver) -> None:
    console = Console(width=100, file=io.StringIO(), record=True)
    console.print(render(driver))
    lines = console.export_text().rstrip("\n").split("\n")
    assert len(lines) <= 29
    assert max(map(len, lines)) <= 100
    text = "\n".join(lines)
    for said in ("row 600 of 600", "phase healthy", "version 2", "input", "promoted", "2.0 ms"):
        assert said in text


def test_live_picture_before_the_first_answer_is_drawn(driver: Driver) -> None:
    fresh = Driver(driver.stream, nn.Linear(2, 2), "http://127.0.0.1:1")
    console = Console(width=100, file=io.StringIO(), record=True)
    console.print(render(fresh))
    assert "no report yet" in console.export_text()
    assert "row 0/600" in line(fresh)


def test_unknown_accuracy_leaves_a_blank_column() -> None:
    assert bars([1.0, math.nan, 1.0], height=1) == ["█ █"]
