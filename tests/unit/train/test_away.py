"""The trainer whose runs are jobs in another cluster, and a server in that cluster's place."""

from __future__ import annotations

import asyncio
import shlex
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.dashboards import DashboardServer
from tests.helpers.recording import two_versions
from undrift.dashboard.jobs import OWN_TOKEN
from undrift.errors import TrainingError
from undrift.events import Codec, Train
from undrift.model.settings import ModelSettings
from undrift.store.runs import OUTCOME, PROGRESS, TrainingFolder
from undrift.train import away as module
from undrift.train import course
from undrift.train.away import AwayTrainer
from undrift.train.settings import TrainSettings

pytestmark = pytest.mark.thorough
RUN = "run-1.ab"
ORDER = Codec.encode(Train(run_id=RUN, base_version=1, until_row=0))
VERDICT = {"version": 3, "accepted": True, "reason": "better"}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK_S", 0.02)
    monkeypatch.setattr(module, "ASK_S", 0.05)
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_AUTH_MODE", OWN_TOKEN):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def server() -> Iterator[DashboardServer]:
    with DashboardServer("secret") as server:
        yield server


@pytest.fixture
def trainer(tmp_path: Path, server: DashboardServer) -> Callable[..., AwayTrainer]:
    """Return a function that makes a trainer, another one each time, on one state."""
    state, project = tmp_path / "state" / "models" / "m", tmp_path / "project"
    two_versions(state)
    (project / "parts").mkdir(parents=True)
    (project / "parts" / "layers.py").write_text("", encoding="utf-8")
    token = tmp_path / "token"
    token.write_text("secret\n", encoding="utf-8")
    model = ModelSettings(
        name="m", factory="m:build", weights=Path("w"), input_shape=(2,), classes=2
    )

    def make(**changes: Any) -> AwayTrainer:
        given = {"address": server.address, "token_file": token} | changes
        return AwayTrainer(state, TrainSettings(**given), model, project, 100, mixed=False)

    return make


def folder(tmp_path: Path) -> TrainingFolder:
    return TrainingFolder(tmp_path / "state" / "models" / "m", RUN)


async def until(look: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not look():
            await asyncio.sleep(0.01)


def ended(body: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(body(), 120))


def test_run_is_one_job_also_for_a_trainer_that_comes_after_a_kill(
    tmp_path: Path, server: DashboardServer, trainer: Callable[..., AwayTrainer]
) -> None:
    async def body() -> None:
        first = trainer()
        first.stage()
        assert first.progress(RUN) is None
        calls = [asyncio.create_task(first.train(ORDER)) for _ in range(2)]
        await until(lambda: server.jobs)
        await first.stop(True)
        await asyncio.sleep(0.1)
        assert not any(call.done() for call in calls)  # nobody is told that it failed
        second = trainer()
        call = asyncio.create_task(second.train(ORDER))
        folder(tmp_path).tell(PROGRESS, {"step": 7})
        await until(lambda: second.progress(RUN) == {"step": 7})
        folder(tmp_path).tell(OUTCOME, VERDICT)
        assert await call == VERDICT
        (name,) = server.jobs
        server.status[name] = "SUCCEEDED"
        await until(lambda: not folder(tmp_path).is_kept())
        assert server.stopped == []
        for each in calls:
            each.cancel()

    ended(body)
    ((name, job),) = server.jobs.items()
    assert shlex.split(job["entrypoint"])[2:] == ["undrift.train.job", RUN, name]


def test_stopped_platform_stops_its_job_and_the_next_start_hands_in_another(
    tmp_path: Path, server: DashboardServer, trainer: Callable[..., AwayTrainer]
) -> None:
    async def body() -> None:
        first = trainer()
        call = asyncio.create_task(first.train(ORDER))
        await until(lambda: server.jobs)
        await first.stop()
        (before,) = server.jobs
        assert server.stopped == [before]
        assert folder(tmp_path).is_kept()
        second = asyncio.create_task(trainer().train(ORDER))
        await until(lambda: len(server.jobs) == 2)
        assert server.stopped == [before]
        folder(tmp_path).tell(OUTCOME, VERDICT)
        assert await second == VERDICT
        server.status = dict.fromkeys(server.status, "SUCCEEDED")
        call.cancel()

    ended(body)


def test_cancelled_run_is_forgotten_and_its_job_stopped(
    tmp_path: Path, server: DashboardServer, trainer: Callable[..., AwayTrainer]
) -> None:
    async def body() -> None:
        one = trainer()
        call = asyncio.create_task(one.train(ORDER))
        await until(lambda: server.jobs)
        one.cancel(RUN)
        with pytest.raises(TrainingError, match=f"{RUN} was cancelled"):
            await call
        await until(lambda: server.stopped == list(server.jobs))
        assert not folder(tmp_path).is_kept()

    ended(body)


def test_run_that_is_cancelled_between_a_kill_and_its_taking_up_is_forgotten(
    tmp_path: Path, server: DashboardServer, trainer: Callable[..., AwayTrainer]
) -> None:
    async def body() -> None:
        first = trainer()
        call = asyncio.create_task(first.train(ORDER))
        await until(lambda: server.jobs)
        await first.stop(True)
        call.cancel()
        trainer().cancel(RUN)  # by which its job ends itself
        assert not folder(tmp_path).is_kept()

    ended(body)


def failure(trainer: AwayTrainer) -> str:
    """Return why a run fails."""
    found = ""

    async def body() -> None:
        nonlocal found
        with pytest.raises(TrainingError) as error:
            await trainer.train(ORDER)
        found = str(error.value)
        await asyncio.gather(*trainer._ending)

    ended(body)
    return found


def test_token_that_is_refused_is_one_line(
    tmp_path: Path,
    server: DashboardServer,
    trainer: Callable[..., AwayTrainer],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "END_S", 0.0)
    wrong = tmp_path / "wrong"
    wrong.write_text("wrong", encoding="utf-8")
    assert f"the Ray cluster at {server.address} refused the token" in failure(
        trainer(token_file=wrong)
    )
    assert f"cannot read the token in {tmp_path}/none: No such file" in failure(
        trainer(token_file=tmp_path / "none")
    )
    monkeypatch.setenv(OWN_TOKEN, "1")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "f" * 64)  # that of the cluster that serves
    assert "refused the token" in failure(trainer(token_file=None))
    assert server.jobs == {}
    assert not folder(tmp_path).is_kept()


def test_own_variables_of_ray_name_the_token(
    tmp_path: Path,
    server: DashboardServer,
    trainer: Callable[..., AwayTrainer],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(OWN_TOKEN, "1")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "f" * 64)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "token"))

    async def body() -> None:
        call = asyncio.create_task(trainer(token_file=None).train(ORDER))
        await until(lambda: server.jobs)
        folder(tmp_path).tell(OUTCOME, VERDICT)
        assert await call == VERDICT
        server.status = dict.fromkeys(server.status, "SUCCEEDED")

    ended(body)


def test_cluster_that_is_not_there_or_takes_nothing_is_told_after_a_while(
    server: DashboardServer, trainer: Callable[..., AwayTrainer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(course, "BEGIN_S", 0.2)
    monkeypatch.setattr(module, "END_S", 0.0)
    gone = "http://127.0.0.1:9"
    assert f"no Ray dashboard answers at {gone}" in failure(trainer(address=gone))
    server.refuses = "No available agent to submit job"
    told = failure(trainer())
    assert f"{server.address} did not take the job" in told
    assert "No available agent" in told


def test_cluster_that_is_lost_while_it_has_the_job_is_told_after_a_while(
    tmp_path: Path, trainer: Callable[..., AwayTrainer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(course, "AWAY_S", 0.2)
    monkeypatch.setattr(module, "END_S", 0.0)

    async def body() -> None:
        with DashboardServer("secret") as lost:
            call = asyncio.create_task(trainer(address=lost.address).train(ORDER))
            await until(lambda: lost.asked)
        with pytest.raises(TrainingError, match=lost.address):
            await call
        await until(lambda: not folder(tmp_path).is_kept())

    ended(body)


def test_failed_job_is_told_by_its_last_line_and_a_failed_run_by_its_outcome(
    tmp_path: Path, server: DashboardServer, trainer: Callable[..., AwayTrainer]
) -> None:
    async def body(outcome: dict[str, Any] | None, told: str) -> None:
        server.jobs, server.status = {}, {}
        call = asyncio.create_task(trainer().train(ORDER))
        await until(lambda: server.jobs)
        (name,) = server.jobs
        server.logs[name] = "begun\nerror: no module named torch\nRay says more\n"
        if outcome is not None:
            folder(tmp_path).tell(OUTCOME, outcome)
        server.status[name] = "FAILED"
        with pytest.raises(TrainingError, match=told):
            await call

    ended(lambda: body(None, "failed: no module named torch"))
    ended(lambda: body({"error": "wait for more labels"}, "^wait for more labels"))


def test_short_silence_of_the_other_cluster_is_waited_through(
    tmp_path: Path, server: DashboardServer, trainer: Callable[..., AwayTrainer]
) -> None:
    async def body() -> None:
        call = asyncio.create_task(trainer().train(ORDER))
        await until(lambda: server.asked)
        server.token = "another"  # as long as it lasts, nothing it says is an answer
        await asyncio.sleep(0.3)
        assert not call.done()
        server.token = "secret"
        await asyncio.sleep(0.2)
        folder(tmp_path).tell(OUTCOME, VERDICT)
        assert await call == VERDICT
        server.status = dict.fromkeys(server.status, "SUCCEEDED")

    ended(body)
    assert len(server.jobs) == 1
    assert threading.active_count() < 50
