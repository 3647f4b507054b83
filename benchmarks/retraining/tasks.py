"""The tasks: worlds that move once or more, each with rows to train on and to test with."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np

from benchmarks.detection.data import electricity, rotated, usps
from benchmarks.retraining import nets
from benchmarks.retraining.data import cifar10, digits, insects, moved
from benchmarks.retraining.dirty import DIRTY
from benchmarks.retraining.task import Deck, Regime, Rows, Source, Task, still
from undrift.records import FloatArray, IntArray

ANGLES = (0.0, 20.0, 40.0, 60.0, 80.0)
CHUNKS = 5  # a stream is retrained on so many chunks
_USPS_TRAIN = 7_291
_TEST = 2_000


def _rotation(source: Source) -> tuple[Regime, ...]:
    train = Deck(digits(source.data, "mnist", "train"), source)
    test = Deck(digits(source.data, "mnist", "t10k"), source).deal(_TEST)
    parts = [train.deal(n) for n in (6_000, *[1_000] * (len(ANGLES) - 1))]
    return tuple(
        still(*(Rows(rotated(r.x, np.full(len(r), angle)), r.y) for r in (part, test)))
        for angle, part in zip(ANGLES, parts, strict=True)
    )


def _usps(source: Source) -> tuple[Regime, ...]:
    train = Deck(digits(source.data, "mnist", "train"), source)
    test = Deck(digits(source.data, "mnist", "t10k"), source)
    x, y = usps(source.data)
    other = Deck((x[:_USPS_TRAIN], y[:_USPS_TRAIN]), source)
    other_test = Deck((x[_USPS_TRAIN:], y[_USPS_TRAIN:]), source)
    return (
        still(train.deal(6_000), test.deal(_TEST)),
        still(other.deal(3_000), other_test.deal(1_000)),
    )


def _new_classes(name: str) -> Callable[[Source], tuple[Regime, ...]]:
    def build(source: Source) -> tuple[Regime, ...]:
        if name == "cifar10":
            train = Deck(cifar10(source.data, "train", source.out), source)
            test = Deck(cifar10(source.data, "test", source.out), source)
        else:
            train = Deck(digits(source.data, name, "train"), source)
            test = Deck(digits(source.data, name, "t10k"), source)
        base = 10_000 if name == "cifar10" else 6_000
        return tuple(
            still(train.deal(n, classes), test.deal(_TEST, classes))
            for n, classes in ((base, range(5)), (3_000, range(5, 10)))
        )

    return build


def _permuted(source: Source) -> tuple[Regime, ...]:
    """Three classes change names: pure concept drift, in which most old labels stay true."""
    renamed = np.arange(10)
    renamed[[2, 3, 7]] = 3, 7, 2
    train = Deck(digits(source.data, "mnist", "train"), source)
    test = Deck(digits(source.data, "mnist", "t10k"), source).deal(_TEST)
    before, after = train.deal(6_000), train.deal(3_000)
    moved = (Rows(r.x, renamed[r.y]) for r in (after, test))
    return still(before, test), still(*moved)


def _moved_images(source: Source) -> tuple[Regime, ...]:
    train = Deck(cifar10(source.data, "train", source.out), source)
    test = Deck(cifar10(source.data, "test", source.out), source).deal(_TEST)
    base, new = train.deal(10_000), train.deal(3_000)
    shifted = (Rows(moved(r.x, source.rng), r.y) for r in (new, test))
    return still(base, test), still(*shifted)


def _stream(
    read: Callable[[Path], tuple[FloatArray, IntArray]], block: int
) -> Callable[[Source], tuple[Regime, ...]]:
    """Return a builder of chunks; every other block of rows belongs to development."""

    def build(source: Source) -> tuple[Regime, ...]:
        x, y = read(source.data)
        kept = (np.arange(len(y)) // block) % 2 == source.half
        x, y = x[kept], y[kept]
        start = int(source.rng.integers(len(y) // 20))  # seeds see other chunks
        first = start + len(y) // 5
        mean, std = x[start:first].mean(axis=0), x[start:first].std(axis=0) + 1e-6
        ends = np.linspace(first, len(y), CHUNKS + 2).astype(int)
        edges = [start, *ends.tolist()]
        chunks = [Rows((x[a:b] - mean) / std, y[a:b]) for a, b in pairwise(edges)]
        return tuple(Regime(*_split(chunk, block), after) for chunk, after in pairwise(chunks))

    return build


def _split(rows: Rows, block: int) -> tuple[Rows, Rows]:
    """Return rows to train on, and every fifth block to test with."""
    test = (np.arange(len(rows)) // block) % 5 == 2
    return Rows(rows.x[~test], rows.y[~test]), Rows(rows.x[test], rows.y[test])


TASKS: dict[str, Task] = {
    "mnist-rotation": Task(
        "MNIST, turned by 20, 40, 60, 80 degrees", nets.cnn, _rotation, 8, 5, memory=1_500
    ),
    "mnist-usps": Task("MNIST to USPS", nets.cnn, _usps, 8, 10),
    "mnist-classes": Task(
        "MNIST 0-4, then 5-9", nets.cnn, _new_classes("mnist"), 8, 10, class_incremental=True
    ),
    "mnist-renamed": Task("MNIST, three classes renamed", nets.cnn, _permuted, 8, 10),
    "fashion-classes": Task(
        "Fashion-MNIST 0-4, then 5-9", nets.cnn, _new_classes("fashion_mnist"), 8, 10,
        class_incremental=True,
    ),
    "cifar-classes": Task(
        "CIFAR-10 0-4, then 5-9", nets.resnet, _new_classes("cifar10"), 12, 8,
        class_incremental=True,
    ),
    "cifar-moved": Task("CIFAR-10, images moved", nets.resnet, _moved_images, 12, 8),
    "insects": Task("INSECTS, five chunks", nets.insects_mlp, _stream(insects, 10), 30, 16),
    "electricity": Task(
        "Electricity, five chunks", nets.electricity_mlp, _stream(electricity, 48), 30, 12
    ),
    **DIRTY,
}  # fmt: skip
