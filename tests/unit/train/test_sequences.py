"""Every method retrains models over tokens and images, whatever their layers share or freeze."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from tests.helpers.retraining import plan
from undrift.errors import TrainingError
from undrift.evidence import DriftKind
from undrift.records import Reference
from undrift.train.methods.registry import METHODS
from undrift.train.pool import Pool
from undrift.train.result import TrainResult
from undrift.train.retrain import retrain
from undrift.train.scoring import score
from undrift.train.settings import TrainSettings
from undrift.train.trainee import Trainee

VOCABULARY, LENGTH, WIDTH = 12, 6, 8
SETTINGS = TrainSettings(batch_size=16, learning_rate=1e-2)


class Tokens(nn.Module):
    """Embeds ids that arrive as floats, runs a middle part, and takes the mean over time."""

    def __init__(self, middle: nn.Module) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, WIDTH)
        self.middle = middle
        self.head = nn.Linear(WIDTH, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.middle(self.embedding(x.long()))
        return self.head((h[0] if isinstance(h, tuple) else h).mean(dim=1))


class Tied(nn.Module):
    """Its head has the weights of its first layer and nothing of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(2, LENGTH, bias=False)
        self.middle = nn.Linear(LENGTH, 2)
        self.head = nn.Linear(2, LENGTH, bias=False)
        self.head.weight = self.first.weight
        self.last = nn.Parameter(torch.ones(2, LENGTH))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = torch.relu(self.first(x @ self.last.T))
        return self.head(self.middle(h))


class Patches(nn.Module):
    """A small vision transformer: its class token and positions are parameters of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.zeros(1, 1, WIDTH))
        self.position = nn.Parameter(torch.randn(1, 5, WIDTH))
        self.patch = nn.Conv2d(1, WIDTH, 4, stride=4)
        self.encoder = nn.TransformerEncoderLayer(WIDTH, 2, 16, batch_first=True)
        self.head = nn.Linear(WIDTH, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.patch(x).flatten(2).mT
        h = torch.cat([self.token.expand(len(x), -1, -1), h], dim=1) + self.position
        return self.head(self.encoder(h)[:, 0])


def convolutional() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Conv2d(4, 4, 3, stride=2, groups=2),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(36, 2),
    )


def frozen(model: nn.Module, *layers: int) -> nn.Module:
    for layer in layers:
        model[layer].requires_grad_(False)
    return model


MODELS: dict[str, Callable[[], nn.Module]] = {
    "bag": lambda: Tokens(nn.Identity()),
    "gru": lambda: Tokens(nn.GRU(WIDTH, WIDTH, batch_first=True)),
    "lstm": lambda: Tokens(nn.LSTM(WIDTH, WIDTH, batch_first=True)),
    "transformer": lambda: Tokens(nn.TransformerEncoderLayer(WIDTH, 2, 16, batch_first=True)),
    "images": convolutional,
    "patches": Patches,
    "frozen_bottom": lambda: frozen(convolutional(), 0, 1),
    "frozen_head": lambda: frozen(convolutional(), 7),
    "tied": Tied,
}


def rows(name: str, n: int, seed: int, *, turned: bool) -> tuple[np.ndarray, np.ndarray]:
    """Ids of which the first or the last tells the class; for images and tables, pixels."""
    rng = np.random.default_rng(seed)
    if name in ("images", "patches", "frozen_bottom", "frozen_head"):
        x = rng.normal(size=(n, 1, 8, 8))
        told = x[:, 0, 2:5, 2:5].mean(axis=(1, 2)) * (-1 if turned else 1)
    elif name == "tied":
        x = rng.normal(size=(n, LENGTH))
        told = x[:, -1 if turned else 0]
    else:
        x = rng.integers(VOCABULARY, size=(n, LENGTH))
        told = (x < VOCABULARY // 3).sum(axis=1) - (2.5 if turned else 1.5)
    return x.astype(np.float32), (told > 0).astype(np.int64)


def run(name: str, method: str) -> tuple[TrainResult, dict[str, torch.Tensor]]:
    torch.manual_seed(0)
    model = MODELS[name]()
    old, new = rows(name, 40, 1, turned=False), rows(name, 100, 2, turned=True)
    output, embedding = score(model, old[0])
    reference = Reference(*old, embedding, output, np.ones(40, dtype=bool))
    row = np.arange(100)
    pool = Pool(
        np.concatenate([old[0], new[0]]),
        np.concatenate([old[1], new[1]]),
        np.concatenate([np.full(40, -1), row]),
        np.zeros(140),
        new[0],
        row,
    )
    base = {n: t.clone() for n, t in model.state_dict().items()}
    what = replace(plan(method, kind=DriftKind.BOTH), regime_start=0, steps=11)
    return retrain(Trainee(model), base, pool, reference, what, settings=SETTINGS), base


@pytest.mark.thorough
@pytest.mark.parametrize("method", sorted(set(METHODS) - {"full"}))  # random, but longer
@pytest.mark.parametrize("name", sorted(MODELS))
def test_every_method_retrains_every_kind_of_model(name: str, method: str) -> None:
    result, base = run(name, method)
    moved = {n for n, t in result.state_dict.items() if not torch.equal(t, base[n])}
    assert moved
    still = {"frozen_bottom": {"0.weight", "1.weight"}, "frozen_head": {"7.weight", "7.bias"}}
    assert not moved & still.get(name, set())


def test_a_head_whose_weights_are_shared_trains_with_the_layer_below_it() -> None:
    result, base = run("tied", "last_layer")
    assert result.blocks == ("", "first", "middle")
    assert torch.equal(result.state_dict["head.weight"], base["head.weight"])
    assert not torch.equal(result.state_dict["middle.weight"], base["middle.weight"])


def test_a_model_that_is_frozen_altogether_is_refused() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(MODELS, "images", lambda: convolutional().requires_grad_(False))
        with pytest.raises(TrainingError, match="no parameter of Sequential requires a gradient"):
            run("images", "bandit")
