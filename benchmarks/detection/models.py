"""The frozen models that the streams are answered by, and their students."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from benchmarks.detection.rows import Rows
from undrift.records import FloatArray, IntArray


@dataclass(frozen=True, slots=True)
class Net:
    """A body that ends in the embedding, and a linear head."""

    body: nn.Module
    head: nn.Linear

    def answer(self, x: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return (n, e) embeddings and (n, c) probabilities."""
        embeddings, outputs = [], []
        with torch.no_grad():
            for part in torch.from_numpy(np.ascontiguousarray(x)).split(1_000):
                embedding = self.body(part)
                embeddings.append(embedding.numpy())
                outputs.append(self.head(embedding).softmax(dim=1).numpy())
        return np.concatenate(embeddings), np.concatenate(outputs)


@dataclass(frozen=True, slots=True)
class Model:
    """A frozen model and the student that learned to imitate it."""

    net: Net
    student: Net

    def rows(self, x: FloatArray, y: IntArray) -> Rows:
        """Answer ``x``."""
        x = np.ascontiguousarray(x, dtype=np.float32)
        embedding, output = self.net.answer(x)
        student = self.student.answer(x)[1].argmax(axis=1)
        return Rows(x, np.asarray(y, dtype=np.int64), embedding, output, student)


def cnn(classes: int) -> Net:
    """Two convolutional layers for 28 x 28 images; the embedding has 64 numbers."""
    body = nn.Sequential(
        nn.Conv2d(1, 16, 5), nn.MaxPool2d(2), nn.ReLU(),
        nn.Conv2d(16, 32, 5), nn.MaxPool2d(2), nn.ReLU(),
        nn.Flatten(), nn.Linear(512, 64), nn.ReLU(),
    )  # fmt: skip
    return Net(body, nn.Linear(64, classes))


def mlp(d: int, classes: int, hidden: int = 16) -> Net:
    """One hidden layer."""
    body = nn.Sequential(nn.Flatten(), nn.Linear(d, hidden), nn.ReLU())
    return Net(body, nn.Linear(hidden, classes))


def logistic(d: int, classes: int) -> Net:
    """Logistic regression: the embedding is the input."""
    return Net(nn.Flatten(), nn.Linear(d, classes))


class Standardised(nn.Module):
    """Puts the training rows' mean and scale in front of a body."""

    mean: torch.Tensor
    scale: torch.Tensor

    def __init__(self, x: FloatArray, body: nn.Module) -> None:
        super().__init__()
        self.body = body
        self.register_buffer("mean", torch.from_numpy(x.mean(axis=0)))
        self.register_buffer("scale", torch.from_numpy(x.std(axis=0) + 1e-6))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        embedding: torch.Tensor = self.body((x - self.mean) / self.scale)
        return embedding


@dataclass(frozen=True, slots=True)
class Fit:
    """How a net is fitted, by Adam on cross-entropy.

    Attributes:
        epochs: Passes over the training rows.
        batch: Rows a step.
        rate: Learning rate.
        decay: Weight decay.
    """

    epochs: int
    batch: int
    rate: float
    decay: float = 0.0


def fit(net: Net, x: FloatArray, y: IntArray, how: Fit, seed: int) -> None:
    """Fit ``net`` in place."""
    generator = torch.Generator().manual_seed(seed)
    inputs, targets = torch.from_numpy(x), torch.from_numpy(y)
    parameters = [*net.body.parameters(), *net.head.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=how.rate, weight_decay=how.decay)
    for _ in range(how.epochs):
        for index in torch.randperm(len(x), generator=generator).split(how.batch):
            optimizer.zero_grad()
            logits = net.head(net.body(inputs[index]))
            nn.functional.cross_entropy(logits, targets[index]).backward()
            optimizer.step()


def train(
    make: Callable[[], Net], make_student: Callable[[], Net], x: FloatArray, y: IntArray, how: Fit
) -> Model:
    """Return a model fitted on (x, y), and a student fitted on the model's predictions.

    The nets' first weights come from torch's global generator; seed it first.
    """
    seed = torch.initial_seed()
    net, student = make(), make_student()
    fit(net, x, y, how, seed)
    predicted = net.answer(x)[1].argmax(axis=1)
    fit(student, x, predicted, how, seed + 1)
    return Model(net, student)


def train_tabular(x: FloatArray, y: IntArray, seed: int, *, linear: bool = False) -> Model:
    """Return a small network, or a logistic regression, for standardised columns."""
    d, classes = x.shape[1], int(y.max()) + 1

    def make() -> Net:
        net = logistic(d, classes) if linear else mlp(d, classes)
        return Net(Standardised(x, net.body), net.head)

    def student() -> Net:
        net = mlp(d, classes)
        return Net(Standardised(x, net.body), net.head)

    torch.manual_seed(seed)
    return train(make, student, x, y, Fit(epochs=40, batch=100, rate=0.01, decay=1e-4))


def train_images(x: FloatArray, y: IntArray, seed: int) -> Model:
    """Return a two-layer CNN, and a fully connected student, for 28 x 28 images."""
    torch.manual_seed(seed)
    how = Fit(epochs=2, batch=64, rate=0.001)
    return train(lambda: cnn(10), lambda: mlp(784, 10, hidden=64), x, y, how)
