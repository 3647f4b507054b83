"""Units in which the numbers of a regression are trained on: each output's spread is about one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from undrift.model.door import door_of
from undrift.records import FloatArray, Reference, TargetArray
from undrift.train.objective import Regression
from undrift.train.pool import Pool
from undrift.train.result import TrainResult
from undrift.train.trainee import Trainee

_PROBED = 8  # rows on which it is seen whether the head makes the answer

Weights = Callable[[int], Mapping[str, torch.Tensor]]


@dataclass(frozen=True)
class Units:
    """The unit of each output: a power of two, so that changing to it and back loses no bit.

    A learning rate means the same then whatever a target is measured in. Where the head makes the
    answer, its weights are those of the answer in units; else the answer is divided.

    Attributes:
        unit: (c,) the units.
        layer: Name of the head, if its weights are changed; else empty.
    """

    unit: NDArray[np.float32]
    layer: str = ""

    def pool(self, pool: Pool) -> Pool:
        """Return a pool whose targets are in units."""
        return replace(pool, y=self._divided(pool.y))

    def reference(self, reference: Reference) -> Reference:
        """Return a reference whose targets and answers are in units."""
        return self._of_reference(reference, self._divided)

    def back(self, reference: Reference) -> Reference:
        """Return a reference out of units."""
        return self._of_reference(reference, self._multiplied)

    def weights(self, weights: Weights) -> Weights:
        """Return what returns the weights of a version in units."""
        return lambda version: self._scaled(weights(version), 1.0 / self.unit)

    def result(self, result: TrainResult) -> TrainResult:
        """Return a result whose weights are out of units."""
        return replace(result, state_dict=self._scaled(result.state_dict, self.unit))

    def _divided(self, values: TargetArray) -> FloatArray:
        return np.asarray(values / (self.unit if values.ndim > 1 else self.unit[0]), np.float32)

    def _multiplied(self, values: TargetArray) -> FloatArray:
        return np.asarray(values * (self.unit if values.ndim > 1 else self.unit[0]), np.float32)

    @staticmethod
    def _of_reference(
        reference: Reference, change: Callable[[TargetArray], FloatArray]
    ) -> Reference:
        newest = reference.newest
        return replace(
            reference,
            y=change(reference.y),
            output=change(reference.output),
            newest=None if newest is None else Units._of_reference(newest, change),
        )

    def _scaled(
        self, state: Mapping[str, torch.Tensor], by: NDArray[np.float32]
    ) -> dict[str, torch.Tensor]:
        changed = dict(state)
        factor = torch.from_numpy(by)
        for name in (f"{self.layer}.weight", f"{self.layer}.bias"):
            if self.layer and name in changed:
                rows = factor.reshape(-1, *[1] * (changed[name].ndim - 1))
                changed[name] = (changed[name] * rows.to(changed[name])).contiguous()
        return changed


@contextmanager
def in_units(
    trainee: Trainee, pool: Pool, base: Mapping[str, torch.Tensor]
) -> Iterator[Units | None]:
    """Have a model answer in units of a pool's targets; None where they are classes.

    Args:
        trainee: The model; its weights are overwritten.
        pool: Labelled rows, out of units.
        base: Weights of a version.
    """
    if np.issubdtype(pool.y.dtype, np.integer):
        yield None
        return
    units = Units(_units_of(pool.y))
    x = pool.x[:_PROBED]
    by_head = replace(units, layer=trainee.head_name)
    trainee.load(base)
    answer, embedding = trainee.score(x, Regression())
    with torch.no_grad():
        rows = torch.from_numpy(embedding).to(trainee.layer.weight)
        of_head = trainee.layer(rows).float().cpu().numpy()
    trainee.load(by_head.weights(lambda _: base)(0))
    if _alike(of_head, answer) and _alike(trainee.score(x, Regression())[0] * units.unit, answer):
        yield by_head
        return
    door = door_of(trainee.model)
    door.unit = torch.from_numpy(units.unit)
    door.mark(trainee.model)
    try:
        yield units
    finally:
        door.unit = None


def _alike(found: FloatArray, wanted: FloatArray) -> bool:
    return np.allclose(found, wanted, rtol=1e-3, atol=1e-3 * float(np.abs(wanted).max(initial=0.0)))


def _units_of(y: TargetArray) -> NDArray[np.float32]:
    """Return the power of two that is nearest to the spread of each target."""
    spread = y.reshape(len(y), -1).astype(np.float64).std(axis=0)
    spread = np.where(spread > 0, spread, 1.0).clip(2.0**-60, 2.0**60)
    return np.asarray(np.exp2(np.rint(np.log2(spread))), np.float32)
