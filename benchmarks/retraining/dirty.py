"""Tasks whose pools are not clean: wrong labels, stale segments, repeated rows, a rare slice."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from benchmarks.detection.data import rotated
from benchmarks.retraining import nets
from benchmarks.retraining.data import digits
from benchmarks.retraining.task import Deck, Regime, Rows, Source, Task, still

_TEST = 2_000
_WRONG = 0.3  # share of labels that are wrong
Spoil = Callable[[Rows, np.random.Generator], Rows]


def wrong_uniform(rows: Rows, rng: np.random.Generator) -> Rows:
    """Give a share of the rows another of the classes that there are."""
    classes = np.unique(rows.y)
    steps = rng.integers(1, len(classes), len(rows))
    other = classes[(np.searchsorted(classes, rows.y) + steps) % len(classes)]
    return Rows(rows.x, np.where(rng.random(len(rows)) < _WRONG, other, rows.y))


def wrong_by_class(rows: Rows, rng: np.random.Generator) -> Rows:
    """Take a share of the rows of each class for the next class."""
    classes = np.unique(rows.y)
    other = classes[(np.searchsorted(classes, rows.y) + 1) % len(classes)]
    return Rows(rows.x, np.where(rng.random(len(rows)) < _WRONG, other, rows.y))


def _decks(name: str, source: Source) -> tuple[Deck, Deck]:
    return tuple(Deck(digits(source.data, name, part), source) for part in ("train", "t10k"))  # type: ignore[return-value]


def _turned(rows: Rows, angle: float) -> Rows:
    return Rows(rotated(rows.x, np.full(len(rows), angle)), rows.y)


def turned(name: str, angle: float) -> Callable[[Source], tuple[Regime, ...]]:
    def build(source: Source) -> tuple[Regime, ...]:
        train, held = _decks(name, source)
        test = held.deal(_TEST)
        return still(train.deal(6_000), test), still(
            _turned(train.deal(3_000), angle), _turned(test, angle)
        )

    return build


def stale(source: Source) -> tuple[Regime, ...]:
    """Three classes change names, and of ten segments of the new rows four bear the old ones."""
    renamed = np.arange(10)
    renamed[[2, 3, 7]] = 3, 7, 2
    train, held = _decks("mnist", source)
    test, before, after = held.deal(_TEST), train.deal(6_000), train.deal(3_000)
    segment = np.arange(len(after)) * 10 // len(after)
    old = np.isin(segment, source.rng.choice(np.arange(1, 10), 4, replace=False))
    late = Rows(after.x, np.where(old, after.y, renamed[after.y]))
    kept = np.isin(test.y, (2, 3, 7), invert=True)
    kept[:500] = True  # the reference has all classes
    return still(before, Rows(test.x[kept], test.y[kept])), still(
        late, Rows(test.x, renamed[test.y])
    )


def repeated(name: str) -> Callable[[Source], tuple[Regime, ...]]:
    """Of the new rows four fifths are 48, in sessions of fifty with a little noise."""

    def build(source: Source) -> tuple[Regime, ...]:
        train, held = _decks(name, source)
        test = held.deal(_TEST)
        before, some, few = train.deal(6_000), train.deal(600), train.deal(48)
        of = np.repeat(source.rng.integers(0, 48, 48), 50)  # a session is fifty rows long
        noise = source.rng.normal(0.0, 0.02, (len(of), *few.x.shape[1:]))
        x = np.clip(few.x[of] + noise, 0.0, 1.0).astype(np.float32)
        place = np.sort(source.rng.choice(len(of), len(some)))
        after = Rows(np.insert(x, place, some.x, axis=0), np.insert(few.y[of], place, some.y))
        return still(before, test), still(_turned(after, 60.0), _turned(test, 60.0))

    return build


def rare(source: Source) -> tuple[Regime, ...]:
    """One row in twenty of the new ones is turned; the others are as ever."""
    train, held = _decks("fashion_mnist", source)
    test, before, after = held.deal(_TEST), train.deal(6_000), train.deal(3_000)
    slice_ = source.rng.random(len(after)) < 0.05
    angle = np.where(slice_, 90.0, 0.0)
    return still(before, test), still(Rows(rotated(after.x, angle), after.y), _turned(test, 90.0))


DIRTY: dict[str, Task] = {
    "wrong-uniform": Task(
        "Fashion-MNIST turned, 30 % wrong", nets.cnn, turned("fashion_mnist", 60.0),
        8, 40, spoil=wrong_uniform,
    ),
    "wrong-by-class": Task(
        "MNIST turned, 30 % wrong by class", nets.cnn, turned("mnist", 60.0),
        8, 40, spoil=wrong_by_class,
    ),
    "stale": Task("MNIST renamed, stale segments", nets.cnn, stale, 8, 10),
    "repeated": Task(
        "Fashion-MNIST turned, rows repeated", nets.cnn, repeated("fashion_mnist"), 8, 10
    ),
    "rare": Task("Fashion-MNIST, a rare slice turned", nets.cnn, rare, 8, 10),
}  # fmt: skip
