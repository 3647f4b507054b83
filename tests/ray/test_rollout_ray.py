"""A candidate goes live by stages; a bad one answers nobody beyond its share."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

import httpx
import numpy as np
import pytest

from tests.helpers.support import eventually
from tests.ray.running import Running, settled
from tests.ray.test_swap import QUIET
from undrift.errors import PlatformError
from undrift.serve.candidate import drawn

pytestmark = pytest.mark.ray

ROWS = 40
T = TypeVar("T")


@dataclass
class Callers:
    """Ask with ids of their own and label all that was asked; note who answered."""

    platform: Running
    name: str
    answered: dict[str, int] = field(default_factory=dict)
    at: dict[str, float] = field(default_factory=dict)  # after the answer, Unix seconds

    def __post_init__(self) -> None:
        data = np.load(self.platform.config.reference)
        self.x, self.y = data["x"], data["y"]

    def ask(self, requests: int = 10) -> None:
        ids, labels = [], []
        for _ in range(requests):
            number = len(self.answered)
            name, index = f"{self.name}-{number}", np.arange(number * ROWS, (number + 1) * ROWS)
            index %= len(self.y)
            answer = self.sure(partial(self.platform.client.infer, self.x[index], name))
            self.answered[name], self.at[name] = answer.version, time.time()
            ids += answer.ids
            labels += self.y[index].tolist()
        told = self.sure(lambda: self.platform.client.feedback(ids, labels))
        assert told == {"accepted": len(ids), "rejected": []}

    def sure(self, act: Callable[[], T]) -> T:
        """Do what answers at the first time of asking."""
        return act()

    def by(self, version: int) -> list[str]:
        return [name for name, found in self.answered.items() if found == version]


def store(
    platform: Running, *, bias: float = 0.0, of: int = 0, first: float = 1.0, wider: int = 1
) -> int:
    """Store version 1 with other weights here and there."""
    known = platform.store
    state = {name: value.clone() for name, value in known.state_dict(1).items()}
    state["4.bias"][of] += bias
    state["0.weight"] = (first * state["0.weight"]).repeat(1, wider)
    reference = known.reference(1)
    return known.add_version(state, parent=1, reference=reference, metrics={}, plan=None).version


@pytest.fixture
def on_first(platform: Running) -> Iterator[Running]:
    """The platform with version 1 live before and after."""
    for _ in range(2):
        client = platform.client
        if client.status().phase in ("shadow", "canary"):
            client.rollback()
        if client.status().live_version != 1:
            client.promote(1)
        eventually(settled(platform, 1))
        if _ == 0:
            yield platform


def test_good_version_goes_through_shadow_and_canary_and_is_promoted(on_first: Running) -> None:
    client, good = on_first.client, store(on_first, bias=1e-3)
    callers = Callers(on_first, "good")
    begun = client.promote(good, "shadow")
    assert (begun.phase, begun.live_version) == ("shadow", 1)

    assert begun.rollout is not None
    assert (begun.rollout.version, begun.rollout.steps) == (good, 3)

    def promoted() -> bool:
        callers.ask()
        return client.status().live_version == good

    eventually(promoted, 120)
    eventually(settled(on_first, good))
    status = client.status()
    assert status.phase in ("probation", "healthy")
    told = [e for e in status.events if f"version {good} " in e.text]
    stages = [(e, share[1]) for e in told if (share := re.search(r"for (\S+) of the req", e.text))]
    assert [(e.kind, share) for e, share in stages] == [
        ("shadow", "1"),
        ("canary", "0.05"),
        ("canary", "0.25"),
    ]
    first = min(callers.at[name] for name in callers.by(good))
    assert first > stages[1][0].at, "a shadow answers nobody"
    assert sum("held up" in e.text for e in told) == 3
    asked = on_first.store.predictions()
    shadowed = asked.take((asked.version == 1) & (asked.asked == good))
    answered = asked.take((asked.version == good) & (asked.asked == 1))
    assert len(shadowed) >= 200 <= len(answered)
    assert (shadowed.formers == shadowed.answers).mean() > 0.9
    names = {name.split(":")[0] for name in answered.ids}
    assert all(drawn(name, good) < 0.25 for name in names)


@pytest.mark.parametrize(
    ("weights", "why"),
    [
        pytest.param({"bias": 30.0}, "worse on late labels", id="worse"),
        pytest.param({"first": 1e38}, "not finite", id="nan"),
        pytest.param({"bias": 1e7}, "these weights are broken", id="raises"),
        pytest.param({"bias": 1e7, "of": 1}, "it gave no answer within 2 s", id="slow"),
        pytest.param({"wider": 2}, "it cannot be loaded: ", id="shape"),
    ],
)
@pytest.mark.parametrize("strategy", ["shadow", "canary"])
def test_bad_version_is_called_off_and_answers_nobody_beyond_its_share(
    on_first: Running, weights: dict[str, float], why: str, strategy: str
) -> None:
    client, bad = on_first.client, store(on_first, **weights)
    callers = Callers(on_first, f"bad-{bad}")
    assert client.promote(bad, strategy).phase == strategy

    def called_off() -> bool:
        callers.ask()
        return client.status().rollout is None

    eventually(called_off, 60)
    status = client.status()
    assert status.live_version == 1
    assert status.phase in QUIET
    text = next(e.text for e in reversed(status.events) if e.kind == "failed")
    assert f"version {bad} called off" in text
    assert why in text
    answered = callers.by(bad)
    assert all(drawn(name, bad) < 0.05 for name in answered)
    assert bool(answered) == (strategy == "canary" and "worse" in why)
    callers.ask(20)
    assert len(callers.by(bad)) == len(answered), "not one more"
    assert set(callers.answered.values()) <= {1, bad}


def test_truncated_file_is_refused_and_a_request_that_names_the_live_version_falls_to_no_canary(
    on_first: Running,
) -> None:
    client, good = on_first.client, store(on_first, bias=1e-3)
    client.promote(good, "canary")
    callers = Callers(on_first, "named")
    tensor = {"name": "input", "shape": [1, 2], "datatype": "FP32", "data": [0.1, 0.2]}
    names = [f"order-{i}" for i in range(2000) if drawn(f"order-{i}", good) < 0.05]

    def answers() -> bool:
        callers.ask()
        return client.infer(callers.x[:1], names[0]).version == good

    eventually(answers, 30)
    url = f"{on_first.url}/v2/models/spirals/versions/1/infer"
    for name in names[:20]:
        body = {"id": name, "inputs": [tensor]}
        answer = httpx.post(url, json=body, trust_env=False, timeout=30)
        assert (answer.status_code, answer.json()["model_version"]) == (200, "1")
    client.rollback()
    broken = store(on_first)
    path = on_first.store.weights_path(broken)
    path.write_bytes(path.read_bytes()[:100])
    for strategy in ("shadow", "canary", "now"):
        with pytest.raises(PlatformError, match=f"version {broken} cannot be served"):
            client.promote(broken, strategy)
    assert (client.status().live_version, client.status().rollout) == (1, None)
