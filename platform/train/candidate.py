"""From trained weights to a candidate: its verdict, and the reference it will be watched by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from undrift.errors import TrainingError
from undrift.model.heads import MEMORIES
from undrift.records import Reference
from undrift.train.gate import Beside, Comparison, GateReport, judge
from undrift.train.heads import heads_right
from undrift.train.objective import objective_for
from undrift.train.plan import RetrainPlan
from undrift.train.pool import JUDGED, REFERENCE_ROW, Index, Pool, Split, held_out
from undrift.train.result import TrainResult
from undrift.train.settings import TrainSettings
from undrift.train.trainee import Trainee

_OLDER_ROWS = 1000  # rows of older regimes kept in a reference
_NEWEST_BYTES = 1 << 26  # of inputs of the newest rows
_NOW = 200  # newest held-out rows, on which heads are compared


def judge_candidate(
    trainee: Trainee,
    base_state: Mapping[str, torch.Tensor],
    result: TrainResult,
    pool: Pool,
    plan: RetrainPlan,
    *,
    settings: TrainSettings,
) -> tuple[GateReport, Reference]:
    """Judge what a retraining made against its base version, and make the reference to watch it by.

    Args:
        trainee: The model; it ends with the candidate's weights.
        base_state: Weights of the base version.
        result: What `retrain` returned.
        pool: The pool that it was given.
        plan: The plan that it was given.
        settings: The gate's tolerances.

    Returns:
        The verdict, and the reference of the new version.
    """
    verdict = compare(trainee, base_state, result, pool, plan, settings=settings)
    return verdict, build_reference(trainee, pool, result.chosen, seed=plan.seed)


def compare(
    trainee: Trainee,
    base_state: Mapping[str, torch.Tensor],
    result: TrainResult,
    pool: Pool,
    plan: RetrainPlan,
    *,
    settings: TrainSettings,
) -> GateReport:
    """Judge weights against a base version; see `judge_candidate`.

    Where heads answer beside the model, they are part of what is compared.
    """
    objective = objective_for(pool.y)
    rows = (result.chosen.validation, result.chosen.retention)
    trainee.load(base_state)
    old = [trainee.score(pool.x[i], objective)[0] for i in rows]
    mixed = plan.mixed and len(rows[0]) and np.issubdtype(pool.y.dtype, np.integer)

    def by_heads() -> NDArray[np.bool_]:
        return heads_right(trainee, pool, result.chosen, rows[0][-_NOW:], plan.regime_start)

    before = by_heads() if mixed else None
    trainee.load(result.state_dict)
    heads = Beside(before, by_heads()) if before is not None else None
    new = [trainee.score(pool.x[i], objective)[0] for i in rows]
    validation, retention = (
        Comparison(o, n, pool.y[i]) for o, n, i in zip(old, new, rows, strict=True)
    )
    return judge(validation, retention, plan.kind, settings, expected=plan.lead > 0.0, heads=heads)


def with_later(
    result: TrainResult, pool: Pool, later: Pool, regime_start: int
) -> tuple[TrainResult, Pool]:
    """Add to a regime's held-out rows those whose labels came while a retraining trained.

    It has not learnt from them, and they are the newest there are.
    """
    whole, new = pool.and_later(later)
    new = new[whole.row[new] >= regime_start]
    recent = np.concatenate([result.chosen.validation, new])
    recent = recent[np.argsort(whole.row[recent], kind="stable")][-JUDGED:]
    return replace(result, chosen=replace(result.chosen, validation=recent)), whole


def build_reference(trainee: Trainee, pool: Pool, chosen: Split, *, seed: int) -> Reference:
    """Return the reference of a new version, as the new model sees it.

    Its recent rows are the held-out rows of the new regime, on which the signals may be
    calibrated, since they were not trained on. The others come from older regimes: the rows of
    the old reference, and the held-out rows among the pool's older ones, at most 1,000 in all.
    Of those, half may have been trained on and may be again (see `held_out`); they are there to
    measure importance on and to test retention with, not to calibrate by. Beside them it has the
    newest labelled rows, at most 4,000 and 64 MB of inputs.

    Args:
        trainee: The new version.
        pool: The pool that it was trained from.
        chosen: The rows that were used.
        seed: Seed of the subsampling.
    """
    older = np.union1d(np.flatnonzero(pool.row == REFERENCE_ROW), chosen.retention)
    older = np.setdiff1d(older, chosen.validation)
    if len(older) > _OLDER_ROWS:
        older = np.sort(np.random.default_rng(seed).choice(older, _OLDER_ROWS, replace=False))
    index = np.concatenate([older, chosen.validation])
    objective = objective_for(pool.y)

    def seen(rows: Index) -> Reference:
        output, embedding = trainee.score(pool.x[rows], objective)
        recent = np.isin(rows, chosen.validation)
        return Reference(pool.x[rows], pool.y[rows], embedding, output, recent, pool.row[rows])

    return replace(seen(index), newest=seen(_newest(pool)))


def renew_reference(trainee: Trainee, reference: Reference, pool: Pool) -> Reference:
    """Return the rows of a reference, and the pool's newest, as another version sees them."""
    objective = objective_for(reference.y)

    def seen(rows: Reference) -> Reference:
        output, embedding = trainee.score(rows.x, objective)
        return replace(rows, embedding=embedding, output=output)

    newest = _newest(pool)
    if not len(newest):
        return replace(seen(reference), newest=None)
    nothing = np.zeros((len(newest), 0), dtype=np.float32)
    live = Reference(
        pool.x[newest],
        pool.y[newest],
        nothing,
        nothing,
        np.zeros(len(newest), dtype=np.bool_),
        pool.row[newest],
    )
    return replace(seen(reference), newest=seen(live))


def _newest(pool: Pool) -> Index:
    """Return the newest live rows of a pool, oldest first: what the longest memory holds."""
    live = np.flatnonzero(pool.row != REFERENCE_ROW)
    most = min(max(MEMORIES), _NEWEST_BYTES // max(pool.x[:1].nbytes, 1))
    return live[np.argsort(pool.row[live], kind="stable")][-max(most, 1) :]


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
