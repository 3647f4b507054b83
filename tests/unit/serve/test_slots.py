from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from undrift.errors import ModelError, RequestError, SwapError
from undrift.model.mixture import Mixture, Scaling
from undrift.model.receipt import Receipt
from undrift.serve.slots import DoubleBuffer

X = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
PROBE = X[:2]
WAIT_S = 20.0


class Gated(nn.Module):
    """A real model whose forward pass can be held up by a test."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(4, 8)
        self.dropout = nn.Dropout(0.5)
        self.head = nn.Linear(8, 3)
        self.before: Callable[[], None] = lambda: None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.before()
        return self.head(self.dropout(torch.relu(self.body(x))))


def weights(seed: int) -> dict[str, torch.Tensor]:
    rng = torch.Generator().manual_seed(seed)
    return {k: torch.randn(v.shape, generator=rng) for k, v in Gated().state_dict().items()}


def expected(seed: int) -> np.ndarray:
    model = Gated()
    model.load_state_dict(weights(seed))
    with torch.no_grad():
        return torch.softmax(model.eval()(torch.from_numpy(X)), -1).numpy()


@pytest.fixture
def buffer() -> DoubleBuffer:
    buffer = DoubleBuffer(Gated)
    buffer.load(1, "one", weights(1), PROBE)
    return buffer


def test_nothing_loaded_is_503() -> None:
    with pytest.raises(RequestError) as caught:
        DoubleBuffer(Gated).predict(X)
    assert caught.value.status == 503


def test_answer_has_probabilities_embedding_version_and_hash(buffer: DoubleBuffer) -> None:
    answer = buffer.predict(X)
    np.testing.assert_allclose(answer.output, expected(1), rtol=1e-5)
    np.testing.assert_allclose(answer.output.sum(axis=1), 1, rtol=1e-5)
    assert answer.embedding.shape == (5, 8)
    assert (answer.version, answer.hash) == (1, "one")


def test_read_only_input_is_answered(buffer: DoubleBuffer) -> None:
    x = X.copy()
    x.flags.writeable = False
    np.testing.assert_array_equal(buffer.predict(x).output, buffer.predict(X).output)


class Scribbling(nn.Linear):
    """Writes into what it is given."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x.add_(1))


def test_model_that_writes_into_its_input_harms_no_rows() -> None:
    models = DoubleBuffer(lambda: Scribbling(2, 3))
    models.load(1, "h", nn.Linear(2, 3).state_dict(), np.zeros((1, 2), np.float32))
    body = np.arange(4, dtype=np.float32).tobytes()
    models.predict(np.frombuffer(body, np.float32).reshape(2, 2))
    np.testing.assert_array_equal(np.frombuffer(body, np.float32), range(4))


def test_prepared_version_answers_only_after_commit(buffer: DoubleBuffer) -> None:
    buffer.prepare(2, "two", weights(2), PROBE)
    assert (buffer.version, buffer.prepared) == (1, 2)
    assert buffer.predict(X).version == 1
    buffer.commit(2)
    assert (buffer.version, buffer.hash, buffer.prepared) == (2, "two", None)
    np.testing.assert_allclose(buffer.predict(X).output, expected(2), rtol=1e-5)


def test_commit_twice_is_commit_once(buffer: DoubleBuffer) -> None:
    buffer.load(2, "two", weights(2), PROBE)
    buffer.commit(2)
    assert buffer.version == 2


def test_commit_of_what_is_not_prepared(buffer: DoubleBuffer) -> None:
    buffer.prepare(2, "two", weights(2), PROBE)
    with pytest.raises(SwapError, match=r"version 3 is not prepared \(prepared: 2, live: 1\)"):
        buffer.commit(3)
    buffer.abort()
    with pytest.raises(SwapError, match="prepared: None"):
        buffer.commit(2)
    assert buffer.predict(X).version == 1


def test_weights_that_do_not_fit_leave_the_live_model(buffer: DoubleBuffer) -> None:
    state = weights(2)
    del state["head.bias"]
    with pytest.raises(ModelError, match=r"head\.bias is missing"):
        buffer.prepare(2, "two", state, PROBE)
    assert (buffer.version, buffer.prepared) == (1, None)


def test_weights_with_nan_are_refused(buffer: DoubleBuffer) -> None:
    state = weights(2)
    state["body.weight"][0, 0] = float("nan")
    with pytest.raises(ModelError, match="not finite"):
        buffer.prepare(2, "two", state, PROBE)
    assert (buffer.version, buffer.prepared) == (1, None)


def test_factory_that_returns_the_live_model_again() -> None:
    shared = Gated()
    buffer = DoubleBuffer(lambda: shared)
    buffer.load(1, "one", weights(1), PROBE)
    with pytest.raises(ModelError, match="must build a new one"):
        buffer.prepare(2, "two", weights(2), PROBE)
    np.testing.assert_allclose(buffer.predict(X).output, expected(1), rtol=1e-5)


def test_abort_during_preparation_discards_it() -> None:
    models: list[Gated] = []

    def factory() -> Gated:
        models.append(Gated())
        if len(models) == 2:
            models[-1].before = buffer.abort
        return models[-1]

    buffer = DoubleBuffer(factory)
    buffer.load(1, "one", weights(1), PROBE)
    with pytest.raises(SwapError, match="version 2 was aborted"):
        buffer.prepare(2, "two", weights(2), PROBE)
    assert (buffer.version, buffer.prepared) == (1, None)


def test_newer_preparation_overtakes_the_older() -> None:
    models: list[Gated] = []

    def factory() -> Gated:
        models.append(Gated())
        if len(models) == 2:
            models[-1].before = lambda: buffer.prepare(3, "three", weights(3), PROBE)
        return models[-1]

    buffer = DoubleBuffer(factory)
    buffer.load(1, "one", weights(1), PROBE)
    with pytest.raises(SwapError, match="version 2 was aborted"):
        buffer.prepare(2, "two", weights(2), PROBE)
    assert buffer.prepared == 3


def test_commit_waits_for_the_call_in_flight() -> None:
    models: list[Gated] = []

    def factory() -> Gated:
        models.append(Gated())
        return models[-1]

    buffer = DoubleBuffer(factory)
    buffer.load(1, "one", weights(1), PROBE)
    committing = threading.Thread(target=buffer.commit, args=(2,))

    def swap_meanwhile() -> None:
        buffer.prepare(2, "two", weights(2), PROBE)  # runs beside the call in flight
        committing.start()
        committing.join(0.05)  # would be over by then if it did not wait
        assert committing.is_alive()
        assert buffer.version == 1

    models[0].before = swap_meanwhile
    assert buffer.predict(X).version == 1
    committing.join(WAIT_S)
    assert buffer.version == 2
    assert buffer.predict(X).version == 2


def test_no_answer_mixes_versions_under_continuous_swaps(buffer: DoubleBuffer) -> None:
    right = {v: expected(v) for v in range(1, 8)}
    stop = threading.Event()
    wrong: list[int] = []
    late: list[int] = []

    def ask() -> None:
        while not stop.is_set():
            committed = buffer.version or 0
            answer = buffer.predict(X)
            if answer.version < committed:
                late.append(answer.version)
            if not np.allclose(answer.output, right[answer.version], rtol=1e-4, atol=1e-6):
                wrong.append(answer.version)

    clients = [threading.Thread(target=ask) for _ in range(4)]
    for client in clients:
        client.start()
    for version in range(2, 8):
        buffer.load(version, str(version), weights(version), PROBE)
    stop.set()
    for client in clients:
        client.join(WAIT_S)
    assert (wrong, late) == ([], [])


class Costly(nn.Module):
    """Its weights say how often it computes and how many classes it tells apart."""

    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        self.rounds = nn.Parameter(torch.ones(()))
        self.head = nn.Linear(4, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for _ in range(int(self.rounds)):
            out = self.head(x)
        return out


def test_version_far_slower_than_the_live_one_is_refused() -> None:
    buffer = DoubleBuffer(Costly, max_slowdown=10)
    state = Costly().state_dict()
    buffer.load(1, "one", state, PROBE)
    slow = {**state, "rounds": torch.tensor(10_000.0)}
    with pytest.raises(ModelError, match=r"version 2 takes \d+ times as long as version 1"):
        buffer.prepare(2, "two", slow, PROBE)
    assert (buffer.version, buffer.prepared) == (1, None)


def test_version_of_other_classes_is_refused() -> None:
    widths = iter((3, 4))
    buffer = DoubleBuffer(lambda: Costly(next(widths)))
    buffer.load(1, "one", Costly(3).state_dict(), PROBE)
    with pytest.raises(ModelError, match="version 2 gives 4 outputs a row, version 1 gives 3"):
        buffer.prepare(2, "two", Costly(4).state_dict(), PROBE)
    assert (buffer.version, buffer.prepared) == (1, None)


# ------------------------------------------------------------------ mixtures


def mixture(version: int, share: float = 1.0) -> Mixture:
    """A head that always says the third class has ``share`` of the answer."""
    heads = np.zeros((1 + 8 + 4, 1, 3))
    heads[0, 0] = [-1 / 3, -1 / 3, 2 / 3]
    scalings = (Scaling(np.zeros(d), np.ones(d), np.zeros((0, 0))) for d in (8, 4))
    return Mixture(version, 64, *scalings, heads, np.array([1.0 - share, share]))


def told(mixture: Mixture) -> Receipt:
    return Receipt(mixture.version, mixture=mixture)


def test_mixture_answers_beside_what_the_model_says_alone(buffer: DoubleBuffer) -> None:
    assert (buffer.mixing, buffer.predict(X).labels) == ((0, 0), 0)
    buffer.heed(told(mixture(1)))
    answer = buffer.predict(X)
    assert (buffer.mixing, answer.labels, answer.version) == ((1, 64), 64, 1)
    assert (answer.output.argmax(axis=1) == 2).all()
    np.testing.assert_allclose(answer.alone, expected(1), rtol=1e-5)
    part = answer.rows(slice(1, 3))
    np.testing.assert_array_equal(part.output, answer.output[1:3])
    np.testing.assert_array_equal(part.alone, answer.alone[1:3])
    assert (len(part.embedding), part.labels, part.version) == (2, 64, 1)


def test_mixture_of_another_version_is_not_taken(buffer: DoubleBuffer) -> None:
    buffer.heed(told(mixture(2)))
    assert buffer.mixing == (0, 0)


def test_mixture_ends_with_its_version(buffer: DoubleBuffer) -> None:
    buffer.heed(told(mixture(1)))
    buffer.prepare(2, "two", weights(2), PROBE)
    assert buffer.predict(X).labels == 64
    buffer.commit(2)
    answer = buffer.predict(X)
    assert (buffer.mixing, answer.labels) == ((0, 0), 0)
    np.testing.assert_allclose(answer.output, expected(2), rtol=1e-5)
    buffer.load(1, "one", weights(1), PROBE)
    assert buffer.mixing == (0, 0), "what was learnt beside it is out of date"


# ------------------------------------------------------------------ the version before


def test_version_before_says_what_it_would_have_answered(buffer: DoubleBuffer) -> None:
    assert not buffer.compares
    assert buffer.former(X, 1) is None
    buffer.load(2, "two", weights(2), PROBE)
    assert buffer.compares
    np.testing.assert_array_equal(buffer.former(X, 2), expected(1).argmax(axis=1))
    assert buffer.former(X, 1) is None, "rows that it answered itself tell nothing"


def test_version_before_answers_with_the_mixture_that_it_had(buffer: DoubleBuffer) -> None:
    buffer.heed(told(mixture(1)))
    buffer.load(2, "two", weights(2), PROBE)
    assert buffer.predict(X).labels == 0
    np.testing.assert_array_equal(buffer.former(X, 2), np.full(5, 2))


def test_version_before_is_let_go_when_no_probation_is_held_against_it(
    buffer: DoubleBuffer,
) -> None:
    buffer.load(2, "two", weights(2), PROBE)
    for receipt in (Receipt(1), Receipt(2, against=1)):
        buffer.heed(receipt)
        assert buffer.compares, receipt
    buffer.heed(Receipt(2))
    assert not buffer.compares
    assert buffer.former(X, 2) is None


def test_version_that_was_skipped_over_is_not_asked(buffer: DoubleBuffer) -> None:
    buffer.load(3, "three", weights(3), PROBE)
    buffer.heed(Receipt(3, against=2))
    assert not buffer.compares
