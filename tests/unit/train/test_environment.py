"""Who goes first where training shares its cores."""

from __future__ import annotations

import os
import threading

import pytest

from undrift.train.environment import give_way
from undrift.train.settings import TrainSettings


@pytest.mark.skipif(not hasattr(os, "SCHED_IDLE"), reason="Linux alone has this policy")
def test_idle_is_a_policy_of_the_thread_that_trains_and_of_those_that_it_starts() -> None:
    found: list[int] = []

    def note() -> None:
        found.append(os.sched_getscheduler(threading.get_native_id()))

    def train() -> None:
        give_way(TrainSettings.model_validate({"nice": "idle"}).nice)
        note()
        later = threading.Thread(target=note)
        later.start()
        later.join()

    worker = threading.Thread(target=train)
    worker.start()
    worker.join()
    note()
    assert found == [os.SCHED_IDLE, os.SCHED_IDLE, os.SCHED_OTHER]


def test_niceness_is_added(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[int] = []
    monkeypatch.setattr(os, "nice", given.append)
    give_way(TrainSettings().nice)
    monkeypatch.delattr(os, "SCHED_IDLE", raising=False)
    give_way("idle")
    assert given == [10, 19]


@pytest.mark.parametrize("wrong", [-1, 20, "idly", None, 1.5])
def test_what_is_neither_is_refused(wrong: object) -> None:
    with pytest.raises(ValueError, match="nice"):
        TrainSettings.model_validate({"nice": wrong})
