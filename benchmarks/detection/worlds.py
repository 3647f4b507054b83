"""Where rows come from before any drift: each world gives a reference and rows like it."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.torch import load_file, save
from torch import nn

from benchmarks.detection import data
from benchmarks.detection.models import Model, cnn, mlp, train_images, train_tabular
from benchmarks.detection.rows import Rows, autoregressive, day_blocks
from undrift.records import FloatArray, IntArray
from undrift.store.files import write_file

MODELS = 5  # each world's models differ by seed; a stream of seed s is answered by s modulo this
REFERENCE = 1_000
TRAINING = 3_000
FILES = {
    "sea": "sea_0123_abrupto_noise_0.2",
    "stagger": "stagger_0120_abrupto",
    "sine": "sine_0123_abrupto",
    "mixed": "mixed_0101_abrupto",
}
SEGMENT = 10_000
DAY = 48


@dataclass(frozen=True, slots=True)
class Folders:
    """Where data sets lie, and where trained models are kept."""

    data: Path
    models: Path


@dataclass(frozen=True, slots=True)
class Draw:
    """Rows of one world, drawn without replacement by one seed.

    Attributes:
        reference: 1,000 held-out rows.
        before: Rows like them.
        rest: Indices of the world's pool that were not drawn; empty if rows are generated.
        rng: For further draws.
    """

    reference: Rows
    before: Rows
    rest: NDArray[np.intp]
    rng: np.random.Generator


def draw(folders: Folders, world: str, seed: int, n: int) -> Draw:
    """Draw a reference and ``n`` rows from before any drift.

    Args:
        folders: Data and models.
        world: ``mnist``, ``gauss``, ``ar1``, ``electricity``, or a file's name with the number
            of one of its four concepts, as ``sea/0``.
        seed: Of the draw.
        n: Rows besides the reference.

    Returns:
        The draw.
    """
    rng = np.random.default_rng([seed, *world.encode()])
    k = seed % MODELS
    if world in ("gauss", "ar1"):
        coefficient = 0.5 if world == "ar1" else 0.0
        reference, before = (gauss_rows(k, m, coefficient, rng) for m in (REFERENCE, n))
        return Draw(reference, before, np.zeros(0, dtype=np.intp), rng)
    if world == "electricity":
        pool, days = electricity(folders, k)
        days = rng.permutation(days)
        held = -(-REFERENCE // DAY)
        reference = pool[day_blocks(days[:held], held * DAY, DAY, rng)]
        before = pool[day_blocks(days[held:], n, DAY, rng)]
        return Draw(reference, before, np.zeros(0, dtype=np.intp), rng)
    if world == "mnist":
        pool = images(folders, k)[1]
        order = rng.permutation(len(pool))
    else:
        pool, segment = concept(folders, world, k)
        order = rng.permutation(segment)
    stop = REFERENCE + n
    if stop > len(order):
        raise ValueError(f"{world} has {len(order)} held-out rows, fewer than {stop}")
    return Draw(pool[order[:REFERENCE]], pool[order[REFERENCE:stop]], order[stop:], rng)


@cache
def images(folders: Folders, k: int) -> tuple[Model, Rows, Rows]:
    """Return model ``k`` fitted on MNIST's first 20,000 rows, and its answers on the test part
    and on USPS."""
    path = folders.models / f"cnn-{k}.safetensors"
    if not path.exists():
        x, y = data.mnist(folders.data, "train")
        model = train_images(x[:20_000], y[:20_000], seed=k)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(path, save(dict(_join(model).state_dict())))
    model = Model(cnn(10), mlp(784, 10, hidden=64))
    _join(model).load_state_dict(load_file(path))
    digits = _answered(
        path.with_suffix(".mnist.npz"), *data.mnist(folders.data, "t10k"), lambda: model
    )
    other = _answered(path.with_suffix(".usps.npz"), *data.usps(folders.data), lambda: model)
    return model, digits, other


@cache
def concept(folders: Folders, world: str, k: int) -> tuple[Rows, NDArray[np.intp]]:
    """Return the answers on a whole file of a model fitted on 3,000 rows of one of its concepts,
    and the indices of the concept's other rows."""
    file, number = world.split("/")
    x, y = data.concepts(folders.data, FILES[file])
    first = SEGMENT * int(number)
    order = first + np.random.default_rng(k).permutation(SEGMENT)
    fitted = order[:TRAINING]
    path = folders.models / f"{file}{number}-{k}.npz"
    pool = _answered(path, x, y, lambda: train_tabular(x[fitted], y[fitted], seed=k))
    return pool, order[TRAINING:]


@cache
def electricity(folders: Folders, k: int) -> tuple[Rows, IntArray]:
    """Return the answers on all days of a model fitted on 300 days drawn at random, and the other
    days' numbers."""
    x, y = data.electricity(folders.data)
    days = np.random.default_rng(k).permutation(len(x) // DAY)
    fitted = (days[:300, None] * DAY + np.arange(DAY)).reshape(-1)
    path = folders.models / f"electricity-{k}.npz"
    pool = _answered(path, x, y, lambda: train_tabular(x[fitted], y[fitted], seed=k))
    return pool, days[300:]


@cache
def gauss_model(k: int) -> Model:
    """Return a logistic regression fitted on 3,000 independent rows of the Gaussian world."""
    rng = np.random.default_rng(k)
    x = autoregressive(TRAINING, 10, 0.0, rng)
    return train_tabular(x, gauss_labels(x, rng), seed=k, linear=True)


def gauss_rows(k: int, n: int, coefficient: float, rng: np.random.Generator) -> Rows:
    """Return n rows of ten columns, each an AR(1) process, answered by model ``k``."""
    x = autoregressive(n, 10, coefficient, rng)
    return gauss_model(k).rows(x, gauss_labels(x, rng))


def gauss_labels(x: FloatArray, rng: np.random.Generator) -> IntArray:
    """Return labels that depend on the first four columns, with logistic noise."""
    lead = x[:, :4] @ np.array([2.0, -2.0, 1.5, 1.0])
    labels: IntArray = (lead + 0.7 * rng.logistic(size=len(x)) > 0).astype(np.int64)
    return labels


def _answered(path: Path, x: FloatArray, y: IntArray, model: Callable[[], Model]) -> Rows:
    """Return a model's answers, from disk if they are there."""
    if not path.exists():
        rows, file = model().rows(x, y), io.BytesIO()
        np.savez(file, embedding=rows.embedding, output=rows.output, student=rows.student)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(path, file.getvalue())
    with np.load(path) as kept:
        return Rows(x, y, kept["embedding"], kept["output"], kept["student"])


def _join(model: Model) -> nn.ModuleDict:
    nets = {"net": model.net, "student": model.student}
    return nn.ModuleDict({n: nn.ModuleList([net.body, net.head]) for n, net in nets.items()})
