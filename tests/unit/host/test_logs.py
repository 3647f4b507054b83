"""Logs as JSON lines, as a process of its own writes them."""

from __future__ import annotations

import json
import subprocess
import sys

PROGRAM = """
import logging
from undrift.host.cluster import lasting

class Actor:
    def __init__(self, told):
        logger = logging.getLogger("undrift.monitor.actor")
        logger.info("%s is live", told, extra={"run": "run-1", "version": 2})
        try:
            1 / 0
        except ZeroDivisionError:
            logger.exception("two\\nlines")
        logging.getLogger("other").error("not ours")

lasting(Actor, LOGS)("version 2")
"""


def written(logs: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.replace("LOGS", logs)],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stderr.splitlines()


def test_each_entry_is_one_json_line_with_run_and_version_where_it_concerns_one() -> None:
    told, failed, other = written('{"model": "spirals", "role": "monitor"}')
    first, second = json.loads(told), json.loads(failed)
    assert first.pop("time").endswith("+00:00")
    assert first == {
        "level": "info",
        "logger": "undrift.monitor.actor",
        "message": "version 2 is live",
        "model": "spirals",
        "role": "monitor",
        "run": "run-1",
        "version": 2,
    }
    assert (second["level"], second["message"]) == ("error", "two\nlines")
    assert "ZeroDivisionError" in second["exception"]
    assert "run" not in second
    assert other == "not ours"


def test_text_stays_as_it_is() -> None:
    lines = written("None")
    assert lines[:2] == ["two", "lines"]
