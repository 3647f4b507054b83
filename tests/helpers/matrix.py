"""Models of many families through the platform: read, served, retrained by every method, swapped.

`python -m tests.helpers.matrix` does it all in some minutes and writes docs/models.md; cut off, it
goes on where it was.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_model
from torch import nn

from tests.helpers import rows as by_hand
from tests.helpers.families import FAMILIES
from tests.helpers.family import CLASSES, Family
from undrift.errors import UndriftError
from undrift.evidence import DriftKind
from undrift.model.artifacts import Inputs, load_inputs
from undrift.model.settings import ModelSettings
from undrift.records import FloatArray, Labels, Reference
from undrift.serve.slots import DoubleBuffer
from undrift.train.methods.registry import METHODS
from undrift.train.plan import RetrainPlan
from undrift.train.pool import Pool
from undrift.train.result import TrainResult
from undrift.train.retrain import retrain
from undrift.train.scoring import score
from undrift.train.settings import TrainSettings
from undrift.train.trainee import Trainee
from undrift.train.units import in_units


def world(name: str, n: int = 240) -> tuple[nn.Module, dict[str, torch.Tensor], Pool, Reference]:
    """Return a family's model, its weights, labelled rows and a reference of them."""
    family = FAMILIES[name]
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, *family.shape)).astype(np.float32)
    if family.tokens:
        x = rng.integers(0, 20, (n, *family.shape)).astype(np.float32)
    if family.layout is not None:
        x = family.layout.pack(arrays(family, rng, n))
    first = x.reshape(n, -1)[:, 0]
    y = np.digitize(first, np.quantile(first, [0.33, 0.67])).astype(np.int64)
    if family.targets:
        numbers = x.reshape(n, -1)[:, : family.targets] * 10.0 ** np.arange(family.targets)
        y = numbers.astype(np.float32)[:, 0] if family.targets == 1 else numbers.astype(np.float32)
    model = family.build()
    weights = {key: value.clone() for key, value in model.state_dict().items()}
    output, embedding = score(model, x, head=family.head)
    rows = by_hand.predictions(x, at=np.arange(n), embedding=embedding, output=output)
    reference = Reference(x[:80], y[:80], embedding[:80], output[:80], np.ones(80, np.bool_))
    labels = Labels(rows.ids, y, np.zeros(n))
    return model, weights, Pool.build(rows, labels, reference, 20_000), reference


def arrays(family: Family, rng: np.random.Generator, n: int) -> dict[str, NDArray[Any]]:
    """Return rows of each of several inputs: numbers, or whole numbers from 0 to 19, or to 1."""
    return {
        one.name: rng.integers(0, 2 if one.datatype == "BOOL" else 20, (n, *one.shape))
        if one.is_integer
        else rng.normal(size=(n, *one.shape))
        for one in family.inputs
    }


def checked(name: str, folder: Path) -> Inputs:
    """Write a family's weights and rows as a user would, and read them as `up` does."""
    family = FAMILIES[name]
    model, _, pool, _ = world(name)
    save_model(model, str(folder / "weights.safetensors"))
    rows: dict[str, Any] = {"x": pool.x[:80]}
    if family.inputs:
        rows = arrays(family, np.random.default_rng(0), 80)
    np.savez(folder / "reference.npz", allow_pickle=False, y=pool.y[:80], **rows)
    section = ModelSettings(
        name="m",
        factory=f"{__name__}:{_BUILT}",
        weights=folder / "weights.safetensors",
        input_shape=() if family.inputs else family.shape,
        inputs=family.inputs,
        output=family.output,
        task="regression" if family.targets else "classification",
        classes=None if family.targets else CLASSES,
        embedding=family.head,
    )
    globals()[_BUILT] = family.build
    return load_inputs(section, folder / "reference.npz", folder, 50)


_BUILT = "built"


def retrained(
    name: str, method: str, steps: int = 6
) -> tuple[TrainResult, dict[str, torch.Tensor]]:
    """Retrain a family's model for a few steps; returns the result and the weights before."""
    model, weights, pool, reference = world(name)
    plan = RetrainPlan(
        run_id="r",
        base_version=1,
        method=method,
        steps=steps,
        seed=3,
        kind=DriftKind.BOTH,
        regime_start=120,
        until_row=240,
    )
    settings = TrainSettings(batch_size=16, learning_rate=1e-3)
    trainee = Trainee(model, FAMILIES[name].head)
    kept = pool.x.copy(), reference.x.copy()
    with in_units(trainee, pool, weights) as units:
        if units is None:
            found = retrain(trainee, weights, pool, reference, plan, settings=settings)
        else:
            base, rows = units.weights(lambda _: weights)(1), units.pool(pool)
            told = units.reference(reference)
            found = retrain(trainee, base, rows, told, plan, settings=settings)
            found = units.result(found)
    np.testing.assert_array_equal(pool.x, kept[0])
    np.testing.assert_array_equal(reference.x, kept[1])
    return found, weights


def served(name: str, states: Sequence[dict[str, torch.Tensor]]) -> list[FloatArray]:
    """Serve weights one after the other, and return what each answers to the same rows."""
    family = FAMILIES[name]
    x = world(name)[2].x[:9]
    kept, answers = x.copy(), []
    models = DoubleBuffer(family.build, family.head, max_slowdown=1e9)
    for version, state in enumerate(states, 1):
        models.load(version, str(version), state, x[:2])
        answers.append(models.predict(x).output)
    np.testing.assert_array_equal(x, kept)
    return answers


def come_through(name: str, method: str) -> None:
    """Retrain a family by a method and serve what came of it.

    Raises:
        AssertionError: Nothing moved, something did that must not, or the answers are no other.
    """
    found, before = retrained(name, method)
    model = FAMILIES[name].build()
    trainable = {n for n, p in model.named_parameters(remove_duplicate=False) if p.requires_grad}
    moved = {n for n, value in found.state_dict.items() if not torch.equal(value, before[n])}
    frozen = {n for n, p in model.named_parameters() if not p.requires_grad}
    assert moved & trainable, "no weight has moved"
    assert not moved & frozen, "frozen weights have moved"
    assert all(found.state_dict[n].dtype == value.dtype for n, value in before.items())
    first, second = served(name, [before, found.state_dict])
    assert np.isfinite(second).all(), "an answer is not finite"
    assert not np.array_equal(first, second), "the answers are those of before"


def line(name: str) -> str:
    """Take one family through everything, and return its line of the page."""
    with tempfile.TemporaryDirectory() as folder:
        cells = [_told(lambda: served(name, [checked(name, Path(folder)).weights] * 2))]
    cells += [_told(partial(come_through, name, method)) for method in METHODS]
    return f"| {name} | {' | '.join(cells)} |"


def _told(trial: Callable[[], object]) -> str:
    try:
        trial()
    except (UndriftError, AssertionError) as error:
        return " ".join(str(error).replace("|", "/").split()) or "no"
    return "yes"


def page(kept: Path) -> str:
    """Return docs/models.md; each family's line is kept as soon as it is done, and found again.

    Args:
        kept: Folder of the lines. They are of the code as it is: of other code there are none.
    """
    folder = kept / code_digest()
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["| family | check, serve, swap | " + " | ".join(METHODS) + " |"]
    lines.append("|---|---|" + "---|" * len(METHODS))
    for number, name in enumerate(FAMILIES):
        file = folder / str(number)
        if not file.exists():
            told = line(name)
            file.with_suffix(".new").write_text(told, encoding="utf-8")
            file.with_suffix(".new").rename(file)
        lines.append(file.read_text(encoding="utf-8"))
    return HEAD + "\n".join(lines) + "\n"


def code_digest() -> str:
    """Return a digest of all code of which a line of the page may depend."""
    root = Path(__file__).parents[2]
    parts = [root / "platform" / part for part in ("model", "train", "serve")]
    files = [file for part in (*parts, root / "tests" / "helpers") for file in part.rglob("*.py")]
    digest = hashlib.sha256(torch.__version__.encode())
    for file in sorted(files):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


HEAD = """# Models that were tried

    python -m tests.helpers.matrix

Small models of many families ([tests/helpers/families.py](../tests/helpers/families.py); those with
several inputs or answers, [tests/helpers/structured.py](../tests/helpers/structured.py); those that
answer numbers, [tests/helpers/regressions.py](../tests/helpers/regressions.py); those that share,
keep, hook or lock something, [tests/helpers/odd.py](../tests/helpers/odd.py)): weights and rows
are written as a user would, read as `undrift up` reads them, served, retrained by every method, and
the result is served in their place. `tests/unit/test_families.py` holds all of them to the first
two columns and one method each in the gate, and to every method in the slow suite.

"""

if __name__ == "__main__":
    torch.set_num_threads(1)
    written = page(Path("build/matrix"))
    Path("docs/models.md").write_text(written, encoding="utf-8")
