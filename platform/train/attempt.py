"""One retraining from its pool to a judged candidate, wherever pool and versions are kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from undrift.errors import StoreError
from undrift.evidence import DriftKind
from undrift.records import IntArray, Reference
from undrift.train.candidate import check_reference, judge_candidate, with_later
from undrift.train.gate import GateReport
from undrift.train.objective import objective_for
from undrift.train.plan import RetrainPlan
from undrift.train.pool import Pool, held_out
from undrift.train.regime import begin
from undrift.train.result import Progress, TrainResult
from undrift.train.retrain import Checkpoints, retrain
from undrift.train.settings import TrainSettings
from undrift.train.start import choose_start
from undrift.train.trainee import Trainee
from undrift.train.units import Weights, in_units

ARCHIVE = 8  # older versions that a retraining may start from
_SLOWER = 4  # a collapsed candidate is trained again with this fraction of the learning rate


@dataclass(frozen=True, slots=True)
class Attempt:
    """A candidate and what is known of it.

    Attributes:
        result: What the retraining made.
        verdict: What the gate says.
        reference: What the candidate would be watched by.
        start_version: Version that it started from.
        learning_rate: Peak learning rate; lower than the configured one after a collapse.
    """

    result: TrainResult
    verdict: GateReport
    reference: Reference
    start_version: int
    learning_rate: float

    def figures(self) -> dict[str, Any]:
        """Return what a manifest says of the retraining and its judgement, plain JSON values."""
        return {
            "gate": self.verdict.metrics,
            "training": {
                **self.result.metrics,
                "start_version": self.start_version,
                "learning_rate": self.learning_rate,
                "steps": self.result.steps,
            },
            "flops": self.result.flops,
            "audit": self.result.audit(),
        }


def attempt(
    trainee: Trainee,
    good: Sequence[int],
    weights: Weights,
    pool: Pool,
    reference: Reference,
    plan: RetrainPlan,
    *,
    settings: TrainSettings,
    reference_rows: int,
    progress: Callable[[Progress], None] | None = None,
    checkpoints: Callable[[int], Checkpoints] | None = None,
    later: Callable[[], Pool] | None = None,
) -> Attempt:
    """Choose a start, retrain, and judge the candidate.

    Args:
        trainee: The model; it ends with the candidate's weights.
        good: Versions that were good enough to serve, oldest first.
        weights: Returns the weights of a version.
        pool: Labelled rows.
        reference: Reference of the base version.
        plan: What to do.
        settings: How to do it.
        reference_rows: Held-out rows of its regime that a new version is watched by, at least.
        progress: Called once a round of training.
        checkpoints: Returns where to keep the first training (0), and one that follows a collapse
            (1).
        later: Returns the labelled rows that are known when the training is over; those that came
            meanwhile are held out.

    Raises:
        TrainingError: No candidate came of it.
    """
    with in_units(trainee, pool, weights(plan.base_version)) as units:
        if units is None:
            return _attempt(
                trainee, good, weights, pool, reference, plan, settings, reference_rows,
                progress, checkpoints, later,
            )  # fmt: skip
        made = _attempt(
            trainee, good, units.weights(weights), units.pool(pool), units.reference(reference),
            plan, settings, reference_rows, progress, checkpoints,
            later and (lambda: units.pool(later())),
        )  # fmt: skip
    result = units.result(made.result)
    trainee.load(result.state_dict)
    return replace(made, result=result, reference=units.back(made.reference))


def _attempt(
    trainee: Trainee,
    good: Sequence[int],
    weights: Weights,
    pool: Pool,
    reference: Reference,
    plan: RetrainPlan,
    settings: TrainSettings,
    reference_rows: int,
    progress: Callable[[Progress], None] | None,
    checkpoints: Callable[[int], Checkpoints] | None,
    later: Callable[[], Pool] | None,
) -> Attempt:
    check_reference(pool, plan.regime_start, reference_rows)
    others = [v for v in good if v != plan.base_version][-ARCHIVE:]
    archive = _archive(plan.base_version, others, weights)
    known = reference.newest
    learnt = int(known.rows.max()) if known is not None and len(known) else -1
    start = choose_start(trainee, archive, pool, regime_start=plan.regime_start, learnt=learnt)
    for number, rate in enumerate((settings.learning_rate, settings.learning_rate / _SLOWER)):
        result = retrain(
            trainee,
            weights(start),
            pool,
            reference,
            plan,
            progress=progress,
            settings=settings.model_copy(update={"learning_rate": rate}),
            checkpoints=checkpoints(number) if checkpoints else None,
        )
        # A second training would spend the budget twice; the gate refuses what has collapsed.
        if plan.budget or not _collapsed(trainee, result, pool):
            break
    if later is not None:
        result, pool = with_later(result, pool, later(), plan.regime_start)
    verdict, renewed = judge_candidate(
        trainee, weights(plan.base_version), result, pool, plan, settings=settings
    )
    return Attempt(result, verdict, renewed, start, rate)


def _archive(
    base: int, others: Sequence[int], weights: Weights
) -> Iterator[tuple[int, Mapping[str, torch.Tensor]]]:
    """Yield versions and their weights, the base first; one that is damaged is no start."""
    yield base, weights(base)
    for version in others:
        with suppress(StoreError):
            yield version, weights(version)


def settled(
    plan: RetrainPlan, pool: Pool, reference_rows: int, numbers: IntArray | None = None
) -> RetrainPlan:
    """Return a plan for a regime that starts where the rows say, as far as that leaves enough.

    Args:
        plan: For a regime, or for the newest rows.
        pool: The labelled rows.
        reference_rows: Held-out rows of the regime that a new version is watched by, at least.
        numbers: Columns of the inputs by which rows resemble each other; None for all.
    """
    if plan.newest_rows:
        start = pool.newest_since(plan.newest_rows)
        plan = replace(plan, regime_start=start, newest_rows=0)
    if plan.kind not in (DriftKind.CONCEPT, DriftKind.BOTH):
        return plan
    x = pool.x if numbers is None else pool.x[:, numbers]
    start = begin(x, pool.y, pool.row, plan.regime_start, seed=plan.seed)
    watched = np.sort(pool.row[held_out(pool) & (pool.row >= plan.regime_start)])
    if len(watched) < reference_rows:
        return plan
    return replace(plan, regime_start=min(start, int(watched[-reference_rows])))


def _collapsed(trainee: Trainee, result: TrainResult, pool: Pool) -> bool:
    held, objective = result.chosen.validation, objective_for(pool.y)
    answer = trainee.score(pool.x[held], objective)[0]
    return objective.collapsed(answer, pool.y[held])
