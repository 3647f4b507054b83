"""From weights that were trained elsewhere to a judged candidate."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from undrift.errors import TrainingError
from undrift.model.network import check_brought
from undrift.records import Reference
from undrift.train.attempt import Attempt
from undrift.train.candidate import build_reference, compare, renew_reference
from undrift.train.plan import RetrainPlan
from undrift.train.pool import Pool, split_to_judge
from undrift.train.result import TrainResult
from undrift.train.settings import TrainSettings
from undrift.train.trainee import Trainee


def adopt(
    trainee: Trainee,
    weights: Mapping[str, torch.Tensor],
    base_state: Mapping[str, torch.Tensor],
    pool: Pool,
    reference: Reference,
    plan: RetrainPlan,
    *,
    settings: TrainSettings,
    reference_rows: int,
) -> Attempt:
    """Judge weights against those that serve, as if a retraining had made them.

    Args:
        trainee: The model; it ends with the weights that were brought.
        weights: What was brought.
        base_state: Weights of the version that serves.
        pool: Labelled rows.
        reference: Reference of the version that serves. Its rows, as the new version sees them,
            are the new version's reference, unless its regime has held-out rows enough of its own.
        plan: Says for which regime, and what has drifted.
        settings: The gate's tolerances.
        reference_rows: Held-out rows that are enough.

    Raises:
        ModelError: The weights do not fit the model, or are not finite.
        TrainingError: They are those that serve.
    """
    weights = check_brought(trainee.model, weights)
    if all(torch.equal(tensor, weights[name]) for name, tensor in base_state.items()):
        raise TrainingError(
            f"{plan.origin} has the weights of version {plan.base_version}, which is live already"
        )
    chosen = split_to_judge(
        pool,
        kind=plan.kind,
        regime_start=plan.regime_start,
        seed=plan.seed,
        numbers=trainee.numbers,
    )
    result = TrainResult(
        state_dict=weights,
        chosen=chosen,
        choices=(),
        blocks=(),
        steps=0,
        flops=0.0,
        seconds=0.0,
        metrics={},
    )
    verdict = compare(trainee, base_state, result, pool, plan, settings=settings)
    own = int((pool.row[chosen.validation] >= plan.regime_start).sum())
    renewed = (
        build_reference(trainee, pool, chosen, seed=plan.seed)
        if own >= reference_rows
        else renew_reference(trainee, reference, pool)
    )
    return Attempt(result, verdict, renewed, plan.base_version, 0.0)
