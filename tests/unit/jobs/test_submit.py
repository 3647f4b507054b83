"""Handing in a job to a cluster that is still starting."""

from __future__ import annotations

import pytest

from undrift.errors import PlatformError
from undrift.jobs import submit
from undrift.jobs.submit import Jobs


class Starting:
    """A cluster whose agents come after some refusals."""

    def __init__(self, refusals: int, text: str = "500: No available agent to submit job") -> None:
        self.refusals, self.text = refusals, text

    def submit_job(self, **job: object) -> str:
        self.refusals -= 1
        if self.refusals >= 0:
            raise RuntimeError(self.text)
        return f"job-{job['entrypoint']}"


@pytest.fixture
def jobs(monkeypatch: pytest.MonkeyPatch) -> Jobs:
    monkeypatch.setattr(submit.time, "sleep", lambda _: None)
    jobs = object.__new__(Jobs)
    jobs.address = "http://head:8265"
    return jobs


def test_cluster_that_is_starting_is_asked_again(jobs: Jobs) -> None:
    jobs._client = Starting(3)
    assert jobs._taken(entrypoint="up") == "job-up"


def test_other_refusals_and_patience_that_ends_are_told(
    jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs._client = Starting(1, "no space left")
    with pytest.raises(PlatformError, match="did not take the job: no space left"):
        jobs._taken(entrypoint="up")
    monkeypatch.setattr(submit, "AGENT_S", -1.0)
    jobs._client = Starting(1)
    with pytest.raises(PlatformError, match=r"No available agent.*--dashboard-agent-listen-port"):
        jobs._taken(entrypoint="up")
