"""The catalogue of streams: what drifts, at which row, and whether it hurts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from dataclasses import replace as replaced

import numpy as np

from benchmarks.detection import data
from benchmarks.detection.rows import Rows, Stream, abrupt, gradual, tilted_mix
from benchmarks.detection.worlds import (
    MODELS,
    SEGMENT,
    Draw,
    Folders,
    concept,
    draw,
    gauss_model,
    gauss_rows,
    images,
)

BEFORE = 3_000
AFTER = 3_000
WIDTH = 1_000
CALIBRATION = 5_000
QUIET = 50_000

SWAPPED = np.array([0, 1, 2, 5, 4, 8, 6, 7, 3, 9])  # 3 -> 5 -> 8 -> 3
HEAVY = (0, 1, 2)
MOVED_COLUMNS = slice(5, 10)  # the label does not depend on them

After = Callable[[Folders, Draw, str, int], Rows]


@dataclass(frozen=True, slots=True)
class Spec:
    """One stream of the catalogue.

    Attributes:
        title: For tables.
        world: Where rows come from before the drift.
        after: Makes the rows after the drift; None for a stream without one.
        shape: ``abrupt``, ``gradual`` (over 1,000 rows) or ``growing``.
        hurts: True if the drift costs accuracy.
        harmless: True if it is meant to cost none.
    """

    title: str
    world: str
    after: After | None
    shape: str = "abrupt"
    hurts: bool = True
    harmless: bool = False


def _usps(folders: Folders, drawn: Draw, _world: str, seed: int) -> Rows:
    pool = images(folders, seed % MODELS)[2]
    return pool[drawn.rng.permutation(len(pool))[:AFTER]]


def _more(folders: Folders, drawn: Draw, seed: int) -> Rows:
    return images(folders, seed % MODELS)[1][drawn.rest[:AFTER]]


def _rotated(folders: Folders, drawn: Draw, _world: str, seed: int) -> Rows:
    rows = _more(folders, drawn, seed)
    degrees = np.linspace(0, 60, AFTER, dtype=np.float32)
    return images(folders, seed % MODELS)[0].rows(data.rotated(rows.x, degrees), rows.y)


def _swapped(folders: Folders, drawn: Draw, _world: str, seed: int) -> Rows:
    rows = _more(folders, drawn, seed)
    return replaced(rows, y=SWAPPED[rows.y])


def _dimmed(folders: Folders, drawn: Draw, _world: str, seed: int) -> Rows:
    rows = _more(folders, drawn, seed)
    return images(folders, seed % MODELS)[0].rows(rows.x * np.float32(0.7), rows.y)


def _mix(folders: Folders, drawn: Draw, _world: str, seed: int) -> Rows:
    pool = images(folders, seed % MODELS)[1]
    index = tilted_mix(pool.y[drawn.rest], HEAVY, 0.5, AFTER, drawn.rng)
    return pool[drawn.rest[index]]


def _next_concept(folders: Folders, drawn: Draw, world: str, seed: int) -> Rows:
    pool, _ = concept(folders, world, seed % MODELS)
    first = SEGMENT * (int(world.split("/")[1]) + 1)
    return pool[first + drawn.rng.permutation(SEGMENT)[:AFTER]]


def _moved_columns(_folders: Folders, drawn: Draw, _world: str, seed: int) -> Rows:
    rows = gauss_rows(seed % MODELS, AFTER, 0.0, drawn.rng)
    x = rows.x.copy()
    x[:, MOVED_COLUMNS] += 1.0
    return gauss_model(seed % MODELS).rows(x, rows.y)


DRIFTS: dict[str, Spec] = {
    "mnist-usps": Spec("MNIST to USPS", "mnist", _usps),
    "mnist-usps-gradual": Spec("MNIST to USPS, gradual", "mnist", _usps, "gradual"),
    "mnist-rotation": Spec("MNIST, rotation grows to 60°", "mnist", _rotated, "growing"),
    "mnist-swap": Spec("MNIST, three labels permuted", "mnist", _swapped),
    "sea": Spec("SEA", "sea/0", _next_concept),
    "sea-gradual": Spec("SEA, gradual", "sea/0", _next_concept, "gradual"),
    "stagger": Spec("STAGGER", "stagger/0", _next_concept),
    "stagger-gradual": Spec("STAGGER, gradual", "stagger/0", _next_concept, "gradual"),
    "stagger-return": Spec("STAGGER, first concept returns", "stagger/2", _next_concept),
    "sine": Spec("sine", "sine/0", _next_concept),
    "sine-gradual": Spec("sine, gradual", "sine/0", _next_concept, "gradual"),
    "mixed": Spec("mixed", "mixed/0", _next_concept),
    "mixed-gradual": Spec("mixed, gradual", "mixed/0", _next_concept, "gradual"),
    "mixed-return": Spec("mixed, first concept returns", "mixed/1", _next_concept),
    "mnist-mix": Spec("MNIST, class mix shifts", "mnist", _mix, hurts=False),
    "mnist-dimmed": Spec("MNIST, dimmed (harmless)", "mnist", _dimmed, hurts=False, harmless=True),
    "columns": Spec(
        "irrelevant columns move (harmless)", "gauss", _moved_columns, hurts=False, harmless=True
    ),
}

NO_DRIFT: dict[str, Spec] = {
    "independent": Spec("independent rows", "gauss", None),
    "ar1": Spec("AR(1) 0.5", "ar1", None),
    "electricity": Spec("Electricity, days at random, rows shuffled within", "electricity", None),
}


def build(folders: Folders, name: str, seed: int) -> Stream:
    """Return stream ``name`` of the catalogue, as ``seed`` makes it."""
    if name in NO_DRIFT:
        drawn = draw(folders, NO_DRIFT[name].world, seed, QUIET)
        return Stream(drawn.reference, drawn.before)
    spec = DRIFTS[name]
    assert spec.after is not None
    n = BEFORE + AFTER if spec.shape == "gradual" else BEFORE
    drawn = draw(folders, spec.world, seed, n)
    after = spec.after(folders, drawn, spec.world, seed)
    if spec.shape == "gradual":
        return gradual(drawn.reference, drawn.before, after, WIDTH, seed)
    return abrupt(drawn.reference, drawn.before, after)


def calibration(folders: Folders, world: str, seed: int) -> Stream:
    """Return a short stream without drift on which rivals are tuned."""
    drawn = draw(folders, world, seed, CALIBRATION)
    return Stream(drawn.reference, drawn.before)
