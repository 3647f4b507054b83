"""A project for a model that exists already: what can be found out, and what is left to say."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from safetensors.torch import save_file
from torch import nn

from undrift.errors import ConfigError
from undrift.model.elsewhere import find_weights
from undrift.model.network import (
    ask,
    check_brought,
    find_head,
    first_shape,
    load_factory,
    load_safetensors,
    load_weights,
    probe,
)
from undrift.records import FloatArray, IntArray
from undrift.streams.columns import as_numbers, class_names, features, label_texts
from undrift.streams.tablefile import label_column, read_table

MOST_ROWS = 20_000
WEIGHTS, REFERENCE = "weights.safetensors", "reference.npz"
_STARTER = Path(__file__).parents[1] / "starter" / "undrift.yaml"


@dataclass(frozen=True, slots=True)
class Labelled:
    """Labelled rows of a file.

    Attributes:
        x: (n, *shape) inputs.
        y: (n,) class index.
        classes: Names of the classes, if the file has names.
        features: Names of the columns, if the file has columns that have names.
    """

    x: FloatArray
    y: IntArray
    classes: tuple[str, ...] = ()
    features: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Found:
    """What was found out of an existing model.

    Attributes:
        factory: ``module:function``.
        shape: Shape of an input row, and where that is known from.
        classes: Names of the classes in the order of the outputs, or their number.
        head: Name of the layer whose input is the embedding.
        rows: The reference; None if there is none yet.
        accuracy: Share of the reference that the model gets right.
    """

    factory: str
    shape: tuple[int, ...]
    shape_from: str
    classes: int | tuple[str, ...]
    head: str
    rows: Labelled | None
    accuracy: float | None


def write_existing(
    folder: Path,
    factory: str,
    *,
    weights: str | None = None,
    reference: Path | None = None,
    label: str | None = None,
    shape: Sequence[int] = (),
    target: Path | None = None,
) -> Found:
    """Write the configuration, the weights and the reference of an existing model.

    Args:
        folder: Where the model's module lies.
        factory: ``module:function``, which returns the model.
        weights: What `find_weights` takes; else those that the factory gives the model.
        reference: Labelled rows that it was not trained on: a table, or an ``.npz`` of x and y.
        label: The table's label column.
        shape: Shape of an input row, if it must be said.
        target: Where to write; the folder itself by default.

    Raises:
        UndriftError: One does not fit the other; the text says what is to be done.
    """
    model = load_factory(factory, folder.absolute())()
    state = _weights(model, weights)
    load_weights(model, state)
    head, layer = find_head(model)
    rows = None if reference is None else _read(reference, label, tuple(shape), layer.out_features)
    where, from_what = _shape(model, tuple(shape), rows)
    x = torch.zeros(2, *where) if rows is None else torch.from_numpy(rows.x[:MOST_ROWS])
    outputs = probe(model, layer, x[:256])
    names = rows.classes if rows is not None and len(rows.classes) == outputs else outputs
    accuracy = None if rows is None else _accuracy(model, rows)
    found = Found(factory, where, from_what, names, head, rows, accuracy)
    there = target or folder
    save_file({k: v.detach().clone().contiguous() for k, v in state.items()}, there / WEIGHTS)
    if rows is not None:
        np.savez(there / REFERENCE, allow_pickle=False, x=rows.x, y=rows.y)
    (there / "undrift.yaml").write_text(configuration(found), encoding="utf-8")
    return found


def _weights(model: nn.Module, source: str | None) -> dict[str, torch.Tensor]:
    if source is None:
        return dict(model.state_dict())
    with tempfile.TemporaryDirectory() as scratch:
        path = find_weights(source, Path(scratch))
        return {k: v.clone() for k, v in check_brought(model, load_safetensors(path)).items()}


def _shape(
    model: nn.Module, said: tuple[int, ...], rows: Labelled | None
) -> tuple[tuple[int, ...], str]:
    if said:
        return said, "as you said"
    if rows is not None:
        return rows.x.shape[1:], "that of the reference"
    shape = first_shape(model)
    if shape is None:
        raise ConfigError(
            "the model does not tell the shape of an input row; name labelled rows with "
            "--reference, or say the shape, as --input-shape 3,32,32"
        )
    return shape, "what the first layer takes"


def _read(path: Path, label: str | None, shape: tuple[int, ...], outputs: int) -> Labelled:
    """Return the newest rows of a file as the model takes them."""
    rows = _arrays(path) if path.suffix == ".npz" else _table(path, label, outputs)
    if shape and rows.x[0].size != int(np.prod(shape)):
        raise ConfigError(f"{path}: a row has {rows.x[0].size} numbers, not {shape}")
    x, y = rows.x[-MOST_ROWS:], rows.y[-MOST_ROWS:]
    return Labelled(x.reshape(len(x), *shape) if shape else x, y, rows.classes, rows.features)


def _arrays(path: Path) -> Labelled:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return Labelled(arrays["x"].astype(np.float32), arrays["y"].astype(np.int64))
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError(f"{path}: expected the arrays x and y, {error}") from error


def _table(path: Path, label: str | None, outputs: int) -> Labelled:
    file = read_table(path, label)
    column = label_column(file, label)
    labels = label_texts(file.table[column])
    known = pc.is_valid(labels)
    found = features(file.table.drop_columns([column]).filter(known))
    x = np.stack([as_numbers(name, found, path) for name in found.columns], axis=1)
    labels = labels.filter(known)
    names = class_names(labels)
    own = tuple(found.columns) if file.named else ()
    if all(re.fullmatch(r"\d+", name) and int(name) < outputs for name in names):
        return Labelled(x, np.array([int(t) for t in labels.to_pylist()], np.int64), (), own)
    if len(names) != outputs:
        raise ConfigError(
            f"{path}: column {column!r} has {len(names)} classes ({', '.join(names[:10])}), the "
            f"model has {outputs} outputs; give the labels as numbers of outputs, from 0"
        )
    y = pc.index_in(labels, value_set=pa.array(names)).to_numpy(zero_copy_only=False)
    return Labelled(x, np.asarray(y, np.int64), tuple(names), own)


def _accuracy(model: nn.Module, rows: Labelled) -> float:
    model.eval()
    with torch.inference_mode():
        parts = [ask(model, part).argmax(dim=1) for part in torch.from_numpy(rows.x).split(1024)]
    return float((torch.cat(parts).numpy() == rows.y).mean())


def configuration(found: Found) -> str:
    """Return the text of a configuration, with a comment wherever something is to be chosen."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", found.factory.partition(":")[0]).strip("-._")[:64]
    names = found.classes if isinstance(found.classes, int) else list(found.classes)
    classes = json.dumps(names, ensure_ascii=False)
    order = (
        "how many; or their names, in the order of the outputs: [no, yes]"
        if isinstance(found.classes, int)
        else "CHECK: names by the alphabet; is that the order of the outputs?"
    )
    if found.rows is None:
        rows = "BRING: labelled rows that it was not trained on, numpy.savez(path, x=x, y=y)"
    else:
        rows = (
            f"{len(found.rows.y)} rows, {found.accuracy:.1%} right; CHECK that it was not trained "
            "on them"
        )
    head = f"""\
# Written by `undrift init --from-model {found.factory}`. Paths start at this file's folder.
# CHECK and CHOOSE mark what only you know. `undrift config schema` lists every key.

model:
  name: {json.dumps(name)}  # CHOOSE: the name in URLs
  factory: {found.factory}
  weights: {WEIGHTS}
  input_shape: {list(found.shape)}  # {found.shape_from}
  classes: {classes}  # {order}
  embedding: {json.dumps(found.head)}  # the layer whose input is watched, the last linear one

reference: {REFERENCE}  # {rows}
"""
    rest = _STARTER.read_text(encoding="utf-8").partition("\nstate: ")[2]
    rest = rest.replace("  mode: auto    ", "  mode: suggest ", 1).replace(
        "# off: only watch", "# CHOOSE; off: only watch", 1
    )
    own = list(found.rows.features) if found.rows else []
    if own:
        line = f"monitor:\n  features: {json.dumps(own, ensure_ascii=False)}\n"
        rest = rest.replace("monitor:\n", line, 1)
    return head + "state: " + rest
