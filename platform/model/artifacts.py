"""What the configuration points at, read and checked: the model, its weights, its reference."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
import torch
from numpy.typing import NDArray

from undrift.errors import ConfigError, ModelError
from undrift.model.layout import Layout, layout_of, rows_of
from undrift.model.network import (
    Factory,
    factory_of,
    find_head,
    load_safetensors,
    load_weights,
    probe,
    with_shared,
)
from undrift.model.preprocess import check_preprocess
from undrift.model.settings import ModelSettings
from undrift.records import FloatArray, IntArray

PROBED = 256  # rows of the reference that a model is tried on


@dataclass(frozen=True, slots=True)
class Inputs:
    """A model that fits its weights, its shapes and its reference.

    Attributes:
        factory: Builds the untrained model.
        weights: Initial weights.
        x: (n, *row_shape) reference inputs.
        y: (n,) their class index.
        row: (n,) where they stood in their stream, ascending; None: consecutive.
    """

    factory: Factory
    weights: dict[str, torch.Tensor]
    x: FloatArray
    y: IntArray
    row: IntArray | None = None


def load_inputs(section: ModelSettings, reference: Path, folder: Path, min_rows: int) -> Inputs:
    """Read what the configuration points at, and check that it fits together.

    Args:
        section: The model.
        reference: Its labelled rows, an ``.npz`` or ``.safetensors`` file.
        folder: Where its module lies.
        min_rows: Rows that the reference must have, ``monitor.min_reference_rows``.

    Raises:
        ModelError: The factory fails, the weights do not fit, or the model's shapes are others.
        ConfigError: The reference cannot be used, or `model.preprocess` fails on its example.
    """
    check_preprocess(section, folder)
    factory = factory_of(section, folder)
    weights = load_safetensors(section.weights)
    model = factory()
    weights = with_shared(model, weights)
    load_weights(model, weights)
    head = find_head(model, section.embedding)[1]
    x, y, row = load_reference(
        reference, section.input_shape, section.class_count, layout_of(section)
    )
    if len(y) < min_rows:
        raise ConfigError(
            f"{reference} has {len(y)} rows; monitor.min_reference_rows asks for {min_rows}"
        )
    classes = probe(model, head, torch.from_numpy(x[:PROBED]))
    if classes != section.class_count:
        raise ModelError(
            f"{section.factory} answers with {classes} logits; "
            f"model.classes says {section.class_count} classes"
        )
    return Inputs(factory, weights, x, y, row)


def load_reference(
    path: Path, input_shape: tuple[int, ...], classes: int, layout: Layout | None = None
) -> tuple[FloatArray, IntArray, IntArray | None]:
    """Read labelled rows from a file with the arrays ``x``, ``y`` and perhaps ``row``.

    Args:
        path: The file, ``.npz`` or ``.safetensors``.
        input_shape: Shape of one row.
        classes: Number of classes.
        layout: Several named inputs, each an array of its own in place of ``x``.

    Returns:
        (n, *row_shape) inputs, (n,) class index, and where each row stood in its stream, if the
        file says so.

    Raises:
        ConfigError: The file is not such a file, or its rows are not such rows.
    """
    wanted = ["x"] if layout is None else [one.name for one in layout.inputs]
    arrays = _arrays(path, {*wanted, "y", "row"})
    if "y" not in arrays:
        raise ConfigError(f"{path}: there is no array y; expected {', '.join(wanted)} and y")
    y, row = arrays["y"], arrays.get("row")
    try:
        x = rows_of(arrays, input_shape, layout)
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from None
    if y.shape != (len(x),) or y.dtype.kind not in "iu":
        raise ConfigError(f"{path}: y is {y.dtype} {y.shape}, expected integers ({len(x)},)")
    if len(y) and not (y.min() >= 0 and y.max() < classes):
        raise ConfigError(
            f"{path}: y runs from {y.min()} to {y.max()}, expected 0 to {classes - 1}"
        )
    if row is None:
        return x, y.astype(np.int64), None
    if row.shape != y.shape or row.dtype.kind not in "iu" or (np.diff(row) <= 0).any():
        raise ConfigError(
            f"{path}: row is {row.dtype} {row.shape}, expected {len(x)} integers, ascending: where "
            "each row stood in its stream"
        )
    return x, y.astype(np.int64), row.astype(np.int64)


def _arrays(path: Path, names: set[str]) -> dict[str, NDArray[Any]]:
    """Return those of the named arrays that a file has."""
    tensors = path.suffix == ".safetensors"
    way = "safetensors.numpy.save_file" if tensors else "numpy.savez"
    try:
        if tensors:
            return {k: v for k, v in safetensors.numpy.load_file(path).items() if k in names}
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return {name: np.asarray(arrays[name]) for name in names & set(arrays)}
    except Exception as error:  # there is no end to what a damaged archive raises
        raise ConfigError(
            f"{path} is not a {path.suffix} file of numbers: {error}; write it with {way}"
        ) from None
