"""One retraining from its pool to a judged candidate, wherever pool and versions are kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import nn

from undrift.records import Reference
from undrift.train.candidate import check_reference, judge_candidate
from undrift.train.comm import Comm
from undrift.train.gate import GateReport
from undrift.train.plan import RetrainPlan
from undrift.train.pool import Pool
from undrift.train.result import TrainResult
from undrift.train.retrain import retrain
from undrift.train.scoring import score
from undrift.train.settings import TrainSettings
from undrift.train.start import choose_start, collapsed

ARCHIVE = 8  # older versions that a retraining may start from
POOL_SPAN = 4  # predictions read for each labelled row that a pool may hold
_SLOWER = 4  # a collapsed candidate is trained again with this fraction of the learning rate

Weights = Callable[[int], Mapping[str, torch.Tensor]]


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


def attempt(
    model: nn.Module,
    good: Sequence[int],
    weights: Weights,
    pool: Pool,
    reference: Reference,
    plan: RetrainPlan,
    *,
    settings: TrainSettings,
    reference_rows: int,
    head: str = "auto",
    comm: Comm | None = None,
    device: torch.device | str = "cpu",
) -> Attempt:
    """Choose a start, retrain, and judge the candidate.

    Args:
        model: A model of the right architecture; it ends with the candidate's weights.
        good: Versions that were good enough to serve, oldest first.
        weights: Returns the weights of a version.
        pool: Labelled rows.
        reference: Reference of the base version.
        plan: What to do.
        settings: How to do it.
        reference_rows: Held-out rows of its regime that a new version is watched by, at least.
        head: Linear layer whose input is the embedding.
        comm: The other workers; none by default.
        device: Where to train.

    Raises:
        TrainingError: No candidate came of it.
    """
    plan = settled(plan, pool)
    check_reference(pool, plan.regime_start, reference_rows)
    others = [v for v in good if v != plan.base_version][-ARCHIVE:]
    archive = ((v, weights(v)) for v in (plan.base_version, *others))
    start = choose_start(model, archive, pool, regime_start=plan.regime_start, device=device)
    result, rate = _retrained(model, weights(start), pool, reference, plan, settings, comm, device)
    verdict, renewed = judge_candidate(
        model,
        weights(plan.base_version),
        result,
        pool,
        plan,
        settings=settings,
        head=head,
        device=device,
    )
    return Attempt(result, verdict, renewed, start, rate)


def settled(plan: RetrainPlan, pool: Pool) -> RetrainPlan:
    """Return a plan for the newest rows as one for a regime, which starts where they do."""
    if not plan.newest_rows:
        return plan
    return replace(plan, regime_start=pool.newest_since(plan.newest_rows), newest_rows=0)


def _retrained(
    model: nn.Module,
    start: Mapping[str, torch.Tensor],
    pool: Pool,
    reference: Reference,
    plan: RetrainPlan,
    settings: TrainSettings,
    comm: Comm | None,
    device: torch.device | str,
) -> tuple[TrainResult, float]:
    """Retrain, and once more with a lower learning rate if the candidate has collapsed."""
    for rate in (settings.learning_rate, settings.learning_rate / _SLOWER):
        result = retrain(
            model,
            start,
            pool,
            reference,
            plan,
            settings=settings.model_copy(update={"learning_rate": rate}),
            comm=comm,
            device=device,
        )
        held = result.chosen.validation
        if not collapsed(score(model, pool.x[held], device=device)[0].argmax(1), pool.y[held]):
            break
    return result, rate
