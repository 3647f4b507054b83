from __future__ import annotations

from pathlib import Path

from undrift.control.diagram import MEANING, diagram, page
from undrift.control.lifecycle import TABLE, TARGETS
from undrift.control.state import Ignored, Illegal, Phase
from undrift.events import ResumeRequested

PAGE = Path(__file__).parents[3] / "docs" / "lifecycle.md"


def test_every_rule_of_the_table_says_where_it_leads() -> None:
    rules = {rule for row in TABLE.values() for rule in row.values()}
    assert set(TARGETS) == {r for r in rules if not isinstance(r, Ignored | Illegal)}


def test_every_phase_has_a_line_and_is_drawn() -> None:
    assert set(MEANING) == set(Phase)
    for phase in Phase:
        assert f"{phase} --> " in diagram()
        assert f"--> {phase}" in diagram()


def test_diagram_of_one_event_has_its_transitions_alone() -> None:
    lines = diagram([ResumeRequested]).splitlines()
    begins = ["stateDiagram-v2", "    [*] --> healthy"]
    assert lines == [*begins, "    paused --> healthy: resume", "    paused --> probation: resume"]


def test_page_is_current() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run `make docs`"
