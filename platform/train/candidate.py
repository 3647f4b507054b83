"""From trained weights to a candidate: its verdict, and the reference it will be watched by."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import nn

from undrift.errors import TrainingError
from undrift.model import load_weights
from undrift.records import Reference
from undrift.train.gate import Comparison, GateReport, judge
from undrift.train.objective import objective_for
from undrift.train.plan import RetrainPlan
from undrift.train.pool import REFERENCE_ROW, Chosen, Pool, held_out
from undrift.train.result import TrainResult
from undrift.train.scoring import score
from undrift.train.settings import TrainSettings

_OLDER_ROWS = 1000  # rows of older regimes kept in a reference


def judge_candidate(
    model: nn.Module,
    base_state: Mapping[str, torch.Tensor],
    result: TrainResult,
    pool: Pool,
    plan: RetrainPlan,
    *,
    settings: TrainSettings,
    head: str = "auto",
    device: torch.device | str = "cpu",
) -> tuple[GateReport, Reference]:
    """Judge what a retraining made against its base version, and make the reference to watch it by.

    Args:
        model: A model of the right architecture; it ends with the candidate's weights.
        base_state: Weights of the base version.
        result: What `retrain` returned.
        pool: The pool that it was given.
        plan: The plan that it was given.
        settings: The gate's tolerances.
        head: Linear layer whose input is the embedding.
        device: Where to run the two versions.

    Returns:
        The verdict, and the reference of the new version.
    """
    model.to(device)
    objective = objective_for(pool.y)
    rows = (result.chosen.validation, result.chosen.retention)
    load_weights(model, base_state)
    old = [score(model, pool.x[i], objective=objective, device=device)[0] for i in rows]
    load_weights(model, result.state_dict)
    new = [score(model, pool.x[i], objective=objective, device=device)[0] for i in rows]
    validation, retention = (
        Comparison(o, n, pool.y[i]) for o, n, i in zip(old, new, rows, strict=True)
    )
    verdict = judge(validation, retention, plan.kind, settings)
    return verdict, build_reference(
        model, pool, result.chosen, seed=plan.seed, head=head, device=device
    )


def build_reference(
    model: nn.Module,
    pool: Pool,
    chosen: Chosen,
    *,
    seed: int,
    head: str = "auto",
    device: torch.device | str = "cpu",
) -> Reference:
    """Return the reference of a new version, as the new model sees it.

    Its recent rows are the held-out rows of the new regime, on which the signals may be
    calibrated, since they were not trained on. The others come from older regimes: the rows of
    the old reference, and the held-out rows among the pool's older ones, at most 1,000 in all.
    Of those, half may have been trained on and may be again (see `held_out`); they are there to
    measure importance on and to test retention with, not to calibrate by.

    Args:
        model: The new version, on ``device``.
        pool: The pool that it was trained from.
        chosen: The rows that were used.
        seed: Seed of the subsampling.
        head: Linear layer whose input is the embedding.
        device: Where to run the model.
    """
    older = np.union1d(np.flatnonzero(pool.row == REFERENCE_ROW), chosen.retention)
    older = np.setdiff1d(older, chosen.validation)
    if len(older) > _OLDER_ROWS:
        older = np.sort(np.random.default_rng(seed).choice(older, _OLDER_ROWS, replace=False))
    index = np.concatenate([older, chosen.validation])
    objective = objective_for(pool.y)
    output, embedding = score(model, pool.x[index], objective=objective, head=head, device=device)
    return Reference(
        x=pool.x[index],
        y=pool.y[index],
        embedding=embedding,
        output=output,
        recent=np.repeat([False, True], [len(older), len(chosen.validation)]),
        row=pool.row[index],
    )


def check_reference(pool: Pool, regime_start: int, rows: int) -> None:
    """Check that a candidate could be watched: its signals are calibrated on held-out rows.

    Args:
        pool: The labelled rows.
        regime_start: First row of the regime to train for.
        rows: Held-out rows of it that the monitor needs.

    Raises:
        TrainingError: There are fewer.
    """
    found = int((held_out(pool) & (pool.row >= regime_start)).sum())
    if found < rows:
        raise TrainingError(
            f"only {found} held-out labelled rows of the regime since row {regime_start}; the "
            f"monitor needs {rows} to watch a new version; wait for more labels"
        )
