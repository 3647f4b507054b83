"""Model versions in memory, and what a drift adds: a retrained one, or only a new reference."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
from torch import nn

from undrift.records import FloatArray, IntArray, Reference, TargetArray
from undrift.train.attempt import attempt, settled
from undrift.train.budget import Budget
from undrift.train.candidate import build_reference, check_reference
from undrift.train.methods.registry import get_method
from undrift.train.plan import RetrainPlan
from undrift.train.pool import Pool, split_pool
from undrift.train.result import TrainResult
from undrift.train.retrain import retrain
from undrift.train.settings import TrainSettings
from undrift.train.trainee import Trainee

_SAMPLE = 20  # a training is estimated from this fraction of its steps
_BLOCK = 4096  # rows scored ahead


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one retraining.

    Attributes:
        version: The new version.
        accepted: Whether the gate takes it.
        reason: Why.
        regime_rows: Labelled rows of the regime that it was trained for.
        regime_start: First row of it.
    """

    version: int
    accepted: bool
    reason: str
    regime_rows: int
    regime_start: int


class Shelf:
    """Versions of one model, numbered from 1, and its answers.

    Args:
        model: A model of the right architecture; its weights are overwritten.
        weights: Weights of version 1.
        x: (n, *input_shape) reference inputs of version 1.
        y: (n,) their class index, or (n,) or (n, c) numbers.
        row: (n,) where they stood in their stream, ascending; None: consecutive.
        head: Linear layer whose input is the embedding.
    """

    def __init__(
        self,
        model: nn.Module,
        weights: Mapping[str, torch.Tensor],
        x: FloatArray,
        y: TargetArray,
        row: IntArray | None = None,
        head: str = "auto",
    ) -> None:
        self.trainee = Trainee(model, head)
        self.good: list[int] = []
        self._weights: list[Mapping[str, torch.Tensor]] = []
        self._references: list[Reference] = []
        self.trainee.load(weights)
        output, embedding = self.trainee.score(x)
        everything = np.ones(len(y), dtype=np.bool_)
        self.add(weights, Reference(x, y, embedding, output, everything, row))
        self._ahead: tuple[int, FloatArray, FloatArray] | None = None
        self._scored: Mapping[str, torch.Tensor] | None = None

    def add(
        self, weights: Mapping[str, torch.Tensor], reference: Reference, *, accepted: bool = True
    ) -> int:
        """Keep a version and return its number."""
        self._weights.append(weights)
        self._references.append(reference)
        version = len(self._weights)
        if accepted:
            self.good.append(version)
        return version

    def weights(self, version: int) -> Mapping[str, torch.Tensor]:
        """Return the weights of a version."""
        return self._weights[version - 1]

    def reference(self, version: int) -> Reference:
        """Return the reference of a version."""
        return self._references[version - 1]

    def answers(
        self, version: int, x: FloatArray, start: int, stop: int
    ) -> tuple[FloatArray, FloatArray]:
        """Return outputs and embeddings of rows ``start`` to ``stop`` of a stream ``x``."""
        weights = self.weights(version)
        first, output, embedding = self._ahead or (0, x[:0], x[:0])
        if self._scored is not weights or start < first or stop > first + len(output):
            self.trainee.load(weights)
            size = max(_BLOCK, stop - start)
            output, embedding = self.trainee.score(x[start : start + size])
            first = start
            self._ahead, self._scored = (first, output, embedding), weights
        inside = slice(start - first, stop - first)
        return output[inside], embedding[inside]


class Trainer:
    """Retrains with the product's cores.

    Attributes:
        trains: Whether new versions have new weights.
        seconds: Wall time spent, or estimated to be needed, in training.
        figures: What the gate measured of the newest candidate.

    Args:
        shelf: The versions; a new one is added to them.
        settings: How to retrain.
        reference_rows: Held-out rows of its regime that a new version is watched by, at least.
    """

    trains: ClassVar[bool] = True

    def __init__(self, shelf: Shelf, settings: TrainSettings, reference_rows: int) -> None:
        self.shelf, self.settings, self.reference_rows = shelf, settings, reference_rows
        self.seconds = 0.0
        self.figures: dict[str, float] = {}

    def __call__(self, pool: Pool, plan: RetrainPlan, later: Pool) -> Outcome:
        """Carry out a plan.

        Args:
            pool: What was labelled when it was ordered.
            plan: What to do.
            later: What is labelled when it is done.

        Raises:
            TrainingError: No candidate came of it.
        """
        begun = time.perf_counter()
        shelf, plan = self.shelf, self._settled(plan, pool)
        made = attempt(
            shelf.trainee,
            shelf.good,
            shelf.weights,
            pool,
            shelf.reference(plan.base_version),
            plan,
            settings=self.settings,
            reference_rows=self.reference_rows,
            later=lambda: later,
        )
        verdict = made.verdict
        self.figures = verdict.metrics
        version = shelf.add(made.result.state_dict, made.reference, accepted=verdict.accepted)
        self.seconds += time.perf_counter() - begun
        return _outcome(version, verdict.accepted, verdict.reason, pool, plan)

    def _settled(self, plan: RetrainPlan, pool: Pool) -> RetrainPlan:
        return settled(plan, pool, self.reference_rows, self.shelf.trainee.numbers)


class Recalibrator(Trainer):
    """Trains nothing: the same weights get the reference that a retraining would have made."""

    trains: ClassVar[bool] = False

    def __init__(self, shelf: Shelf, settings: TrainSettings, reference_rows: int) -> None:
        super().__init__(shelf, settings, reference_rows)
        self._sample: TrainResult | None = None

    def __call__(self, pool: Pool, plan: RetrainPlan, _: Pool) -> Outcome:
        """Make the version that a plan asks for, without training it.

        Raises:
            TrainingError: A retraining would have found too few rows.
        """
        plan = self._settled(plan, pool)
        check_reference(pool, plan.regime_start, self.reference_rows)
        shelf, settings = self.shelf, self.settings
        chosen = split_pool(
            pool,
            kind=plan.kind,
            regime_start=plan.regime_start,
            settings=settings,
            seed=plan.seed,
            numbers=shelf.trainee.numbers,
        )
        if self._sample is None:
            self._sample = self._measure(pool, plan)
        self.seconds += self._estimate(self._sample, plan, len(chosen.index))
        weights = shelf.weights(plan.base_version)
        shelf.trainee.load(weights)
        reference = build_reference(shelf.trainee, pool, chosen, seed=plan.seed)
        rows = len(chosen.validation)
        reason = f"watched by {rows} held-out rows of the regime since row {plan.regime_start:,}"
        return _outcome(shelf.add(weights, reference), True, reason, pool, plan)

    def _measure(self, pool: Pool, plan: RetrainPlan) -> TrainResult:
        short = replace(plan, steps=max(1, plan.steps // _SAMPLE), budget="")
        weights = self.shelf.weights(plan.base_version)
        reference = self.shelf.reference(plan.base_version)
        return retrain(self.shelf.trainee, weights, pool, reference, short, settings=self.settings)

    def _estimate(self, sample: TrainResult, plan: RetrainPlan, rows: int) -> float:
        """Return the seconds that a plan would take, by what a sample of it took."""
        budget, settings = Budget.parse(plan.budget), self.settings
        if budget.limited:
            return min(budget.seconds, budget.flops * sample.seconds / sample.flops)
        method = get_method(plan.method, settings)
        steps = method.steps(plan.steps, rows, settings.batch_size)
        return steps * sample.seconds / sample.steps


def _outcome(version: int, accepted: bool, reason: str, pool: Pool, plan: RetrainPlan) -> Outcome:
    rows = int((pool.row >= plan.regime_start).sum())
    return Outcome(version, accepted, reason, rows, plan.regime_start)
