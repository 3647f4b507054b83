"""What is made of what another cluster says of a job, or that it says nothing."""

from __future__ import annotations

import pytest

from undrift.errors import TrainingError
from undrift.train import course as module
from undrift.train.course import AWAY_S, BEGIN_S, LOST, SETTLE_S, Course, job_name


class Clock:
    """A clock that is set by hand."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def course(clock: Clock) -> Course:
    return Course("http://head:8265", "undrift-m-run-1", clock)


def test_name_is_of_state_model_run_and_attempt() -> None:
    one = ("s3://b/shop", "m", "run-1.ab", 1)
    others = [("s3://b/x", *one[1:]), (one[0], "n", *one[2:]), (*one[:2], "run-2", 1)]
    others.append((*one[:3], 2))
    names = [job_name(*about) for about in (one, *others)]
    assert len(set(names)) == 5
    assert names[0] == job_name(*one)
    assert all(name.startswith(module.JOBS) for name in names)


def test_job_that_nobody_knows_is_handed_in_and_then_waited_for(course: Course) -> None:
    assert course.heard("", "")
    course.taken()
    course.away("refused the token", for_good=True)  # it has the job by now
    assert [course.heard(status, "") for status in ("PENDING", "RUNNING")] == [False, False]


@pytest.mark.parametrize("status", ["FAILED", "STOPPED"])
def test_job_that_failed_is_told_with_its_last_line(course: Course, status: str) -> None:
    course.heard("RUNNING", "")
    with pytest.raises(TrainingError) as failure:
        course.heard(status, "no module named torch")
    assert str(failure.value) == (
        f"job undrift-m-run-1 at http://head:8265 {status.lower()}: no module named torch"
    )


def test_outcome_of_a_job_that_ended_well_may_come_late_and_not_never(
    course: Course, clock: Clock
) -> None:
    for _ in range(2):
        assert not course.heard("SUCCEEDED", "")
        clock.now += SETTLE_S
    clock.now += 1
    with pytest.raises(TrainingError, match="both clusters must reach the same"):
        course.heard("SUCCEEDED", "")


def test_cluster_that_has_the_job_may_be_away_for_longer(course: Course, clock: Clock) -> None:
    course.heard("RUNNING", "")
    for _ in range(3):
        clock.now += AWAY_S
        course.away("refused the token", for_good=True)
        course.heard("RUNNING", "")
    clock.now += AWAY_S + 1
    with pytest.raises(TrainingError, match="no answer"):
        course.away("no answer")


def test_cluster_that_is_to_take_the_job_may_start(course: Course, clock: Clock) -> None:
    clock.now += BEGIN_S
    course.away("no answer")
    assert course.heard("", "")  # it answers, and takes nothing yet
    clock.now += 1
    with pytest.raises(TrainingError, match="No available agent"):
        course.away("No available agent")


def test_what_waiting_does_not_mend_is_told_at_once(course: Course) -> None:
    with pytest.raises(TrainingError, match="refused the token"):
        course.away("refused the token", for_good=True)


def test_job_that_a_restart_of_its_cluster_lost_is_handed_in_again_some_times(
    course: Course, clock: Clock
) -> None:
    for _ in range(LOST):
        course.heard("RUNNING", "")
        clock.now += AWAY_S
        assert course.heard("", "")
        clock.now += BEGIN_S
        course.away("it starts")
    course.heard("RUNNING", "")
    with pytest.raises(TrainingError, match=f"was lost {LOST + 1} times"):
        course.heard("", "")
