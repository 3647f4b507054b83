"""What one retraining is to do: data that reproduces it."""

from __future__ import annotations

import zlib
from dataclasses import asdict, dataclass, fields
from typing import Any

from undrift.errors import TrainingError
from undrift.events import Train
from undrift.evidence import DriftKind
from undrift.train.settings import TrainSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrainPlan:
    """One retraining, complete: the same plan on the same store gives the same batches.

    Attributes:
        run_id: Name of the run.
        base_version: Version that it starts from.
        method: A key of METHODS.
        steps: Gradient steps, if there is no budget.
        budget: What may be spent, as `Budget.parse` reads it; then it decides the steps.
        seed: Seed of every draw.
        kind: What has drifted; decides the data and what is protected.
        regime_start: First row of the regime to train for.
        until_row: Rows from here on did not exist for this run.
        as_of: Version of the tables ``predictions`` and ``labels`` that it reads.
        workers: Training processes.
        newest_rows: If above 0, train for the newest labelled rows, this many, instead of
            those from ``regime_start`` on.
        mixed: Whether heads that learn from the labels answer beside the model; then they
            are part of what a candidate is compared with, and by.
        weights: If not empty, nothing is trained: the SHA-256 of the file of weights to judge.
        origin: What that file was called.
        lead: Accuracy that a challenger has shown above the base version's, as a fraction.

    Example:
        >>> plan = RetrainPlan(run_id="r1", base_version=1, method="bandit", steps=100, seed=7,
        ...                    kind=DriftKind.CONCEPT, regime_start=5000, until_row=5600)
        >>> RetrainPlan.from_dict(plan.to_dict()) == plan
        True
    """

    run_id: str
    base_version: int
    method: str
    steps: int
    seed: int
    kind: DriftKind
    regime_start: int
    until_row: int
    as_of: dict[str, int] | None = None
    workers: int = 1
    newest_rows: int = 0
    lead: float = 0.0
    mixed: bool = False
    budget: str = ""
    weights: str = ""
    origin: str = ""

    @staticmethod
    def of(
        order: Train,
        settings: TrainSettings,
        as_of: dict[str, int] | None = None,
        *,
        mixed: bool = False,
    ) -> RetrainPlan:
        """Return the plan for an order; what the order leaves open is as configured.

        Args:
            order: What the lifecycle asks for; steps asked for set a configured budget aside.
            settings: How to retrain.
            as_of: Versions of the tables ``predictions`` and ``labels`` to read.
            mixed: Whether heads answer beside the model.
        """
        return RetrainPlan(
            run_id=order.run_id,
            base_version=order.base_version,
            method="" if order.weights else order.method or settings.method,
            steps=0 if order.weights else order.steps or settings.steps,
            budget=order.budget or ("" if order.steps or order.weights else settings.budget),
            seed=zlib.crc32(order.run_id.partition(".")[0].encode()),  # by its number alone
            kind=order.kind,
            regime_start=order.regime_start,
            newest_rows=order.newest_rows,
            lead=order.lead,
            mixed=mixed,
            until_row=order.until_row,
            as_of=as_of,
            workers=settings.workers,
            weights=order.weights,
            origin=order.origin,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the plan as plain JSON values."""
        return {**asdict(self), "kind": self.kind.value}

    @staticmethod
    def from_dict(data: dict[str, Any]) -> RetrainPlan:
        """Return the plan that ``data`` describes.

        Raises:
            TrainingError: A field is missing or unknown, as in a plan from another release.
        """
        try:
            return RetrainPlan(**{**data, "kind": DriftKind(data["kind"])})
        except (KeyError, TypeError, ValueError) as error:
            known = ", ".join(f.name for f in fields(RetrainPlan))
            raise TrainingError(
                f"not a retraining plan ({error}); its fields are {known}"
            ) from error
