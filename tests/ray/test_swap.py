"""Versions change under load: no request fails, and no answer is of two versions."""

from __future__ import annotations

import csv
import itertools
import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import httpx
import numpy as np
import pytest
import torch

from tests.helpers.support import eventually
from tests.ray.faults import REPLICA, anonymous
from tests.ray.running import MODEL, Running, settled
from tests.ray.traffic import Answered, Traffic
from undrift.errors import PlatformError
from undrift.host.haproxy import SocketFolder
from undrift.model.network import load_factory, load_weights

pytestmark = pytest.mark.ray

QUIET = ("healthy", "probation", "cooldown", "warning", "drift")


def add_version(platform: Running, seed: int, nan: bool = False) -> int:
    """Store version 1 with noise in its weights, so that it answers differently."""
    generator = torch.Generator().manual_seed(seed)
    state = {
        name: value + 0.3 * torch.randn(value.shape, generator=generator)
        for name, value in platform.store.state_dict(1).items()
    }
    if nan:
        state["4.bias"][0] = torch.nan
    reference = platform.store.reference(1)
    return platform.store.add_version(
        state, parent=1, reference=reference, metrics={"noisy": not nan}, plan=None
    ).version


def forward(platform: Running, version: int, x: np.ndarray) -> np.ndarray:
    config = platform.config
    model = load_factory(config.model.factory, config.folder)()
    load_weights(model, platform.store.state_dict(version))
    with torch.inference_mode():
        return torch.softmax(model.eval()(torch.from_numpy(x)), dim=-1).numpy()


@pytest.fixture
def versions(platform: Running) -> list[int]:
    """Three versions that answer differently, the same ones for all tests of a platform."""
    known = [m.version for m in platform.store.versions() if m.metrics.get("noisy")]
    return known[:3] or [add_version(platform, seed) for seed in range(3)]


@pytest.fixture
def on_first(platform: Running) -> Iterator[Running]:
    """The platform with version 1 live before and after."""
    go_to(platform, 1)
    yield platform
    go_to(platform, 1)


def go_to(platform: Running, version: int) -> None:
    if platform.client.status().live_version != version:
        platform.client.promote(version)
    eventually(settled(platform, version), 60)


def check(platform: Running, answers: list[Answered]) -> None:
    """Every row of an answer is what its one version computes, and carries its hash."""
    for version in {a.version for a in answers}:
        mine = [a for a in answers if a.version == version]
        assert {a.weights_hash for a in mine} == {platform.store.manifest(version).hash}
        x = np.concatenate([a.x for a in mine])
        output = np.concatenate([a.output for a in mine])
        np.testing.assert_allclose(output, forward(platform, version, x), atol=1e-5)


def change(platform: Running, traffic: Traffic, verb: str, version: int) -> None:
    """Carry out a verb under load; after the acknowledgement only ``version`` may answer."""
    if verb == "promote":
        platform.client.promote(version)
    else:
        platform.client.rollback()
    eventually(lambda: (s := platform.client.status()).live_version == version and s.phase in QUIET)
    acknowledged = time.monotonic()
    eventually(lambda: len(traffic.since(acknowledged)), until=lambda seen: seen >= 40)
    assert {a.version for a in traffic.since(acknowledged)} == {version}


def test_promotions_and_a_rollback_under_load_lose_and_mix_nothing(
    on_first: Running, versions: list[int]
) -> None:
    first, second, third = versions
    with Traffic(on_first.url, "swap") as traffic:
        eventually(lambda: len(traffic.answers), until=lambda seen: seen >= 40)
        change(on_first, traffic, "promote", first)
        change(on_first, traffic, "promote", second)
        change(on_first, traffic, "promote", third)
        change(on_first, traffic, "rollback", second)
    assert traffic.failures == []
    assert traffic.reconnects == 0
    assert {a.version for a in traffic.answers} == {1, *versions}
    check(on_first, traffic.answers)


def test_versions_answer_differently(on_first: Running, versions: list[int]) -> None:
    """Without this the test above could not tell an answer of two versions."""
    x = np.random.default_rng(9).uniform(-1, 1, (200, 2)).astype(np.float32)
    outputs = [forward(on_first, version, x) for version in (1, *versions)]
    for i, one in enumerate(outputs):
        for other in outputs[i + 1 :]:
            assert (np.abs(one - other).max(axis=1) > 1e-4).mean() > 0.5


def test_damaged_version_is_refused(on_first: Running) -> None:
    bad = add_version(on_first, 7)
    path = on_first.store.weights_path(bad)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(PlatformError, match=rf"409: version {bad} cannot be served.*is damaged"):
        on_first.client.promote(bad)


def test_bad_version_is_given_up_and_the_old_one_serves_on(on_first: Running) -> None:
    bad = add_version(on_first, 7, nan=True)
    failed = on_first.client.status().counts.get("failed", 0)
    with Traffic(on_first.url, f"bad-{bad}") as traffic:
        on_first.client.promote(bad)
        eventually(
            lambda: on_first.client.status().counts.get("failed", 0),
            until=lambda seen: seen > failed,
        )
        aborted = time.monotonic()
        eventually(lambda: len(traffic.since(aborted)), until=lambda seen: seen >= 40)
    status = on_first.client.status()
    assert status.live_version == 1
    assert status.phase in QUIET
    told = [e.text for e in status.events if e.kind == "failed"][-1]
    assert "swap aborted: replica" in told
    assert "answers that are not finite" in told
    assert traffic.failures == []
    assert traffic.reconnects == 0
    assert {a.version for a in traffic.answers} == {1}


def test_killed_replica_comes_back_on_the_live_version(
    on_first: Running, versions: list[int]
) -> None:
    live = versions[0]
    go_to(on_first, live)
    before = set(on_first.client.status().replicas)
    victim = on_first.processes(REPLICA)[0]
    with Traffic(on_first.url, "kill") as traffic:
        eventually(lambda: len(traffic.answers), until=lambda seen: seen >= 40)
        os.kill(victim, signal.SIGKILL)
        eventually(
            lambda: (s := settled(on_first, live)()) and set(s.replicas),
            120,
            until=lambda seen: seen and seen != before,
        )
        back = time.monotonic()
        eventually(lambda: len(traffic.since(back)), until=lambda seen: seen >= 40)
    assert victim not in on_first.processes(REPLICA)
    assert traffic.failures == []
    assert {a.version for a in traffic.answers} == {live}
    check(on_first, traffic.answers)


def test_swap_while_a_replica_is_starting_reaches_it_too(
    on_first: Running, versions: list[int]
) -> None:
    def accepted() -> bool:
        """The replica that dies may take the request with it: an operator asks again."""
        try:
            on_first.client.promote(versions[1])
        except PlatformError as error:
            if not any(text in str(error) for text in ("broke off", "already live")):
                raise
            return "already live" in str(error)
        return True

    os.kill(on_first.processes(REPLICA)[0], signal.SIGKILL)
    with Traffic(on_first.url, "both") as traffic:
        eventually(accepted)
        eventually(settled(on_first, versions[1]), 120)
        acknowledged = time.monotonic()
        eventually(lambda: len(traffic.since(acknowledged)), until=lambda seen: seen >= 40)
    assert traffic.failures == []
    assert {a.version for a in traffic.since(acknowledged)} == {versions[1]}
    check(on_first, traffic.answers)


def in_rotation(platform: Running) -> int:
    """Return how many replicas the load balancer sends requests to."""
    (path,) = (SocketFolder().root / str(platform.pid)).glob("**/admin.sock")
    with socket.socket(socket.AF_UNIX) as admin:
        admin.connect(str(path))
        admin.sendall(b"show stat\n")
        with admin.makefile() as answer:
            table = list(csv.DictReader(answer))
    up = (row for row in table if row["type"] == "2" and row["status"].startswith("UP"))
    return sum(row["act"] == "1" for row in up)


@contextmanager
def held(platform: Running) -> Iterator[int]:
    """Let a replica stand still, so that no swap can be decided; returns its process."""
    victim = platform.processes(REPLICA)[0]
    os.kill(victim, signal.SIGSTOP)
    try:
        yield victim
    finally:
        with suppress(ProcessLookupError):
            os.kill(victim, signal.SIGCONT)


def order(platform: Running, version: int) -> None:
    """Promote though a replica stands still: the order is sent, with one key, until one answers."""
    token = (platform.config.state / "token").read_text(encoding="utf-8").strip()
    key = {"Authorization": f"Bearer {token}", "Idempotency-Key": f"{version}-{time.time_ns()}"}
    url = f"{platform.url}/v2/models/{MODEL}/promote"

    def sent() -> bool:
        with suppress(httpx.TimeoutException):
            answer = httpx.post(
                url, json={"version": version}, headers=key, timeout=0.5, trust_env=False
            )
            return answer.status_code == 200
        return False

    eventually(sent, 20)


def test_of_two_swaps_the_newest_wins_and_the_other_never_answers(
    on_first: Running, versions: list[int]
) -> None:
    overtaken, newest, _ = versions
    with Traffic(on_first.url, "overtaken") as traffic:
        eventually(lambda: len(traffic.answers), until=lambda seen: seen >= 40)
        with held(on_first):
            order(on_first, overtaken)
            order(on_first, newest)
        eventually(settled(on_first, newest), 60)
        acknowledged = time.monotonic()
        eventually(lambda: len(traffic.since(acknowledged)), until=lambda seen: seen >= 40)
    assert traffic.failures == []
    assert traffic.reconnects == 0
    assert {a.version for a in traffic.answers} == {1, newest}
    assert {a.version for a in traffic.since(acknowledged)} == {newest}
    check(on_first, traffic.answers)


def test_swap_in_whose_middle_a_replica_is_killed_is_carried_out_by_the_rest_and_the_next(
    on_first: Running, versions: list[int]
) -> None:
    """What was in the killed process is lost to a client that opens no connection again."""
    wanted, clients = versions[0], 4
    eventually(lambda: in_rotation(on_first), until=lambda seen: seen == 2)
    with Traffic(on_first.url, "middle", clients=clients) as traffic:
        eventually(lambda: len(traffic.answers), until=lambda seen: seen >= 40)
        with held(on_first) as victim:
            order(on_first, wanted)
            os.kill(victim, signal.SIGKILL)
        eventually(settled(on_first, wanted), 120)
        acknowledged = time.monotonic()
        eventually(lambda: len(traffic.since(acknowledged)), until=lambda seen: seen >= 40)
    assert victim not in on_first.processes(REPLICA)
    assert traffic.failures == []
    assert traffic.raw <= clients
    assert {a.version for a in traffic.answers} == {1, wanted}
    assert {a.version for a in traffic.since(acknowledged)} == {wanted}
    check(on_first, traffic.answers)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_hundred_swaps_under_load_lose_and_mix_nothing_and_leave_no_memory_behind(
    on_first: Running, versions: list[int]
) -> None:
    pids = on_first.processes(REPLICA)
    turns = itertools.cycle([*versions, 1])
    held: list[list[int]] = []
    with Traffic(on_first.url, "hundred", pause_s=0.02) as traffic:
        for number in range(110):
            change(on_first, traffic, "promote", next(turns))
            if number % 10 == 9:
                held.append([anonymous(pid) for pid in pids])
    assert traffic.failures == []
    assert traffic.reconnects == 0
    assert on_first.processes(REPLICA) == pids
    check(on_first, traffic.answers)
    for before, after in zip(held[0], held[-1], strict=True):
        assert after <= 1.05 * before, held
