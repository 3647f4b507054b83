"""The retrainings of one model that are under way, as the state knows them."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from undrift.events import Train
from undrift.store.incoming import Incoming
from undrift.store.place import Root
from undrift.store.runs import TrainingFolder
from undrift.store.store import Store
from undrift.train.plan import RetrainPlan
from undrift.train.settings import TrainSettings

_TOLD = ("accepted", "reason", "regime_rows", "regime_start")


class Runs:
    """Begins a run with a plan that is kept until the run has ended.

    Args:
        state: The model's folder of the state.
        settings: The train section of the configuration.
        mixed: Whether heads answer beside the model.
    """

    def __init__(self, state: Root, settings: TrainSettings, *, mixed: bool) -> None:
        self._state, self._settings, self._mixed = state, settings, mixed
        self._store, self._incoming = Store(state), Incoming(state)

    def stored(self, run_id: str) -> dict[str, Any] | None:
        """Return the fields of the `Trained` event if the run has a version already, else None."""
        for manifest in self._store.versions():
            if manifest.run_id == run_id:
                return {"version": manifest.version, **{k: manifest.metrics[k] for k in _TOLD}}
        return None

    def begin(self, order: Train, others: Collection[RetrainPlan]) -> RetrainPlan:
        """Return the plan that a run was begun with, or begin it.

        Args:
            order: What is ordered.
            others: The plans of all that is under way beside it; what else was begun is forgotten.
        """
        TrainingFolder.remove_others(self._state, {order.run_id, *(p.run_id for p in others)})
        self._incoming.remove_others({order.weights, *(p.weights for p in others)})

        def make() -> dict[str, Any]:
            versions = self._store.as_of()
            plan = RetrainPlan.of(order, self._settings, versions, mixed=self._mixed)
            return plan.to_dict()

        return RetrainPlan.from_dict(TrainingFolder(self._state, order.run_id).plan(make))

    def close(self, plan: RetrainPlan) -> None:
        """Forget a run that has ended."""
        TrainingFolder(self._state, plan.run_id).remove()
        self.close_weights(plan)

    def close_weights(self, plan: RetrainPlan) -> None:
        """Forget the weights that were brought for a run, if there are any."""
        if plan.weights:
            self._incoming.remove(plan.weights)
