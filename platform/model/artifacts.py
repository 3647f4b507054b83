"""What the configuration points at, read and checked: the model, its weights, its reference."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
import torch
from numpy.typing import NDArray
from torch import nn

from undrift.errors import ConfigError, ModelError
from undrift.model.layout import Layout, layout_of, rows_of
from undrift.model.names import with_shared
from undrift.model.network import (
    Factory,
    factory_of,
    find_head,
    load_safetensors,
    load_weights,
    probe,
)
from undrift.model.preprocess import check_preprocess
from undrift.model.settings import ModelSettings
from undrift.records import FloatArray, IntArray, TargetArray

PROBED = 256  # rows of the reference that a model is tried on


@dataclass(frozen=True, slots=True)
class Inputs:
    """A model that fits its weights, its shapes and its reference.

    Attributes:
        factory: Builds the untrained model.
        weights: Initial weights.
        x: (n, *row_shape) reference inputs.
        y: (n,) their class index, or (n,) or (n, c) the numbers that a regression is to meet.
        row: (n,) where they stood in their stream, ascending; None: consecutive.
    """

    factory: Factory
    weights: dict[str, torch.Tensor]
    x: FloatArray
    y: TargetArray
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
    _check_outputs(section, probe(model, head, torch.from_numpy(x[:PROBED])), head, y, reference)
    return Inputs(factory, weights, x, y, row)


def _check_outputs(
    section: ModelSettings, outputs: int, head: nn.Linear, y: TargetArray, path: Path
) -> None:
    """Check that a model has as many outputs as there are classes, or numbers to be met."""
    if not section.is_regression:
        if outputs != section.class_count:
            raise ModelError(
                f"{section.factory} answers with {outputs} logits; "
                f"model.classes says {section.class_count} classes"
            )
        return
    wide = y.shape[1] if y.ndim > 1 else 1
    if wide != outputs:
        raise ConfigError(
            f"{path}: y has {wide} numbers to a row; {section.factory} answers with {outputs}"
        )
    if head.out_features != outputs:
        raise ModelError(
            f"{section.factory} answers with {outputs} numbers to a row, but its last linear layer "
            f"has {head.out_features} outputs; name the one that makes the answer as "
            "model.embedding"
        )


def load_reference(
    path: Path, input_shape: tuple[int, ...], classes: int, layout: Layout | None = None
) -> tuple[FloatArray, TargetArray, IntArray | None]:
    """Read labelled rows from a file with the arrays ``x``, ``y`` and perhaps ``row``.

    Args:
        path: The file, ``.npz`` or ``.safetensors``.
        input_shape: Shape of one row.
        classes: Number of classes; 0 where the rows have numbers to be met.
        layout: Several named inputs, each an array of its own in place of ``x``.

    Returns:
        (n, *row_shape) inputs, (n,) class index or (n,) or (n, c) numbers, and where each row
        stood in its stream, if the file says so.

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
    y = _classes_of(y, len(x), classes, path) if classes else _numbers_of(y, len(x), path)
    if row is None:
        return x, y, None
    if row.shape != (len(x),) or row.dtype.kind not in "iu" or (np.diff(row) <= 0).any():
        raise ConfigError(
            f"{path}: row is {row.dtype} {row.shape}, expected {len(x)} integers, ascending: where "
            "each row stood in its stream"
        )
    return x, y, row.astype(np.int64)


def _classes_of(y: NDArray[Any], rows: int, classes: int, path: Path) -> IntArray:
    if y.shape != (rows,) or y.dtype.kind not in "iu":
        raise ConfigError(f"{path}: y is {y.dtype} {y.shape}, expected integers ({rows},)")
    if len(y) and not (y.min() >= 0 and y.max() < classes):
        raise ConfigError(
            f"{path}: y runs from {y.min()} to {y.max()}, expected 0 to {classes - 1}"
        )
    return y.astype(np.int64)


def _numbers_of(y: NDArray[Any], rows: int, path: Path) -> FloatArray:
    """Return (n,) or (n, c) numbers, c at least 2, each of them finite and not always the same."""
    if y.shape[:1] != (rows,) or y.ndim > 2 or y.dtype.kind not in "iuf" or not y.size:
        raise ConfigError(
            f"{path}: y is {y.dtype} {y.shape}, expected numbers ({rows},) or ({rows}, outputs)"
        )
    with np.errstate(over="ignore"):
        numbers = y.astype(np.float32).reshape(rows, -1)
    if not np.isfinite(numbers).all():
        row = int(np.flatnonzero(~np.isfinite(numbers).all(axis=1))[0])
        raise ConfigError(f"{path}: y of row {row} is no finite 32-bit number; drop such rows")
    for i in np.flatnonzero(np.ptp(numbers, axis=0) == 0).tolist():
        raise ConfigError(
            f"{path}: y[{i}] is {numbers[0, i]:g} in every row, so an error has no scale; bring "
            "rows in which it varies"
        )
    return numbers if numbers.shape[1] > 1 else numbers[:, 0]


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
