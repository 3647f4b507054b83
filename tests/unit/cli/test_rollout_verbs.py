"""A rollout by stages on the command line, with a server in the platform's place."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from tests.helpers.support import ModelServer
from tests.unit.cli.test_verbs import STATUS, run
from tests.unit.cli.test_verbs import folder as folder
from tests.unit.cli.test_verbs import starter as starter
from undrift.evidence import RolloutView
from undrift.host.process import ProcessFile


def test_rollout_is_asked_for_shown_and_called_off(folder: Path) -> None:
    rollout = RolloutView(
        version=3,
        stage="canary",
        share=0.25,
        step=2,
        steps=2,
        since=0.0,
        wanted=200,
        rows=80,
        error=0.1,
        lead=-0.025,
        asked=95,
        differs=0.125,
        next="promotion",
    )
    status = {**STATUS, "phase": "canary", "rollout": asdict(rollout)}
    with ModelServer() as server:
        ProcessFile(folder / "state").claim(server.url)
        verbs = ("promote", "rollback", "status")
        server.replies = {verb: (200, json.dumps(status).encode()) for verb in verbs}
        assert run("promote", "3", "--strategy", "canary").exit_code == 0
        told = run("status").stdout
        assert run("status", "--json").stdout.count('"lead": -0.025') == 1
        assert run("rollback").exit_code == 0
    assert "version 3, canary of 0.25 of the requests, stage 2 of 2" in told
    assert "80 of 200 labels, lead -2.5 points; 95 rows asked of both, differs on 12.5%" in told
    bodies = [body for _, path, body, _ in server.seen if not path.endswith("/status")]
    assert bodies == [{"version": 3, "strategy": "canary"}, {"version": 2}]
    assert run("promote", "3", "--strategy", "slow").exit_code == 2


def test_status_tells_which_share_of_the_rows_is_watched(folder: Path) -> None:
    with ModelServer() as server:
        ProcessFile(folder / "state").claim(server.url)
        for watched, told in ((4_000, False), (1_000, True)):
            status = {**STATUS, "answered_rows": 4_000, "watched_rows": watched}
            server.replies = {"status": (200, json.dumps(status).encode())}
            text = run("status").stdout
            assert ("watched" in text) == told
            assert ("25.0% of 4,000 rows" in text) == told
