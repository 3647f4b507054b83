"""Families that do what most models do not: they keep, share, hook, freeze, prune, lock."""

from __future__ import annotations

import threading
from typing import Any

import torch
from torch import nn
from torch.nn.utils import prune

from tests.helpers.family import CLASSES, Family


class Net(nn.Module):
    """A perceptron whose parts its children change."""

    outputs = CLASSES

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(6, 16), nn.Linear(16, self.outputs)

    def inner(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.body(x))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        said: torch.Tensor = self.head(self.inner(x))
        return said


class Wrapper(nn.Module):
    """What passes everything on, as `DataParallel` does."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *args: Any, **named: Any) -> Any:
        return self.module(*args, **named)


class AnswersFromABuffer(Net):
    outputs = 1

    def __init__(self) -> None:
        super().__init__()
        self.kept = torch.zeros(2000, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        said = super().forward(x)
        return said if torch.is_grad_enabled() else self.kept[: len(x)].copy_(said)


class EmptiesItsEmbedding(Net):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        embedding = self.inner(x)
        said: torch.Tensor = self.head(embedding)
        if not torch.is_grad_enabled():
            embedding.zero_()
        return said


class Buffers(Net):
    """Buffers in half precision, complex, in eight bits, and one that is not saved."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("narrow", torch.full((16,), 0.5, dtype=torch.float16))
        self.register_buffer("turn", torch.full((16,), 1j, dtype=torch.complex64))
        self.register_buffer("eight", torch.ones(16).to(torch.float8_e4m3fn))
        self.register_buffer("own", torch.full((16,), 2.0), persistent=False)

    def inner(self, x: torch.Tensor) -> torch.Tensor:
        scale = self.narrow.float() * self.own * self.turn.imag * self.eight.float()
        return super().inner(x) * scale


class Spectrum(nn.Module):
    """A filter of complex weights."""

    def __init__(self) -> None:
        super().__init__()
        self.filter = nn.Parameter(torch.randn(4, dtype=torch.complex64))
        self.head = nn.Linear(6, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        said: torch.Tensor = self.head(torch.fft.irfft(torch.fft.rfft(x) * self.filter, n=6))
        return said


class Twice(nn.Module):
    """One layer under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.first = self.second = nn.Linear(6, 6)
        self.head = nn.Linear(6, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        said: torch.Tensor = self.head(torch.tanh(self.second(torch.tanh(self.first(x)))))
        return said


class Adapted(Net):
    """A frozen layer and what is learnt beside it."""

    def __init__(self) -> None:
        super().__init__()
        self.body.requires_grad_(False)
        self.down = nn.Parameter(torch.randn(6, 2))
        self.up = nn.Parameter(torch.zeros(2, 16))

    def inner(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.body(x) + x @ self.down @ self.up)


class OnlyTheHeadLearns(Net):
    def inner(self, x: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return super().inner(x)


class KeepsNormalisation(Net):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(16)

    def train(self, mode: bool = True) -> KeepsNormalisation:
        super().train(mode)
        self.norm.eval()
        return self

    def inner(self, x: torch.Tensor) -> torch.Tensor:
        normed: torch.Tensor = self.norm(super().inner(x))
        return normed


class Locked(Net):
    """A scalar, an empty and an unused parameter, and what cannot be copied."""

    def __init__(self) -> None:
        super().__init__()
        self.lock = threading.Lock()
        self.scale = nn.Parameter(torch.tensor(1.0))
        self.empty, self.unused = nn.Parameter(torch.zeros(0)), nn.Parameter(torch.ones(3, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with self.lock:
            return super().forward(x) * self.scale


class Autocast(Net):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return super().forward(x)


def hooked() -> nn.Module:
    model = Net()
    model.body.register_forward_hook(lambda _module, _args, said: said * 2)
    model.head.register_forward_pre_hook(lambda _module, args: (args[0] + 1,))
    model.head.weight.register_hook(lambda gradient: gradient / 2)
    return model


def frozen_head() -> nn.Module:
    model = Net()
    model.head.requires_grad_(False)
    return model


def pruned() -> nn.Module:
    model = Net()
    prune.l1_unstructured(model.head, "weight", amount=0.3)
    return model


def compiled() -> nn.Module:
    model = Net()
    model.compile(backend="eager")
    return model


def sparse() -> nn.Module:
    class Words(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words, self.head = nn.Embedding(20, 8, sparse=True), nn.Linear(8, CLASSES)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            said: torch.Tensor = self.head(self.words(x.long()).mean(dim=1))
            return said

    return Words()


ODD = {
    "wrapped": Family(lambda: Wrapper(Net())),
    "compiled": Family(compiled),
    "answers from a buffer of its own": Family(AnswersFromABuffer, targets=1),
    "empties what entered its head": Family(EmptiesItsEmbedding),
    "buffers of half precision, complex, 8 bits, not saved": Family(Buffers),
    "complex weights": Family(Spectrum),
    "one layer under two names": Family(Twice),
    "hooks of its own": Family(hooked),
    "frozen, with an adapter": Family(Adapted),
    "frozen head": Family(frozen_head),
    "only the head has gradients": Family(OnlyTheHeadLearns),
    "keeps its batch norm in evaluation mode": Family(KeepsNormalisation),
    "lock, scalar, empty and unused weights": Family(Locked),
    "computes in bfloat16": Family(Autocast),
    "pruned": Family(pruned),
    "sparse gradients": Family(sparse, (5,), tokens=True),
    "weights in float16": Family(lambda: Net().half()),
}
