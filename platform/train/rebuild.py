"""A version trained again from its manifest: whether the weights come out the same, bit for bit.

With one worker on a CPU and a budget that no clock decides they do, as long as rows, code,
libraries and the number of threads are the same.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from undrift.errors import StoreError, TrainingError
from undrift.model.network import factory_of
from undrift.model.settings import ModelSettings
from undrift.records import Reference
from undrift.store.store import Store
from undrift.store.versions import CONDITIONS, Manifest, weights_hash
from undrift.train.budget import Budget
from undrift.train.conditions import machine, rows
from undrift.train.plan import RetrainPlan
from undrift.train.pool import Pool
from undrift.train.retrain import retrain
from undrift.train.settings import TrainSettings
from undrift.train.stored import read_pool
from undrift.train.trainee import Trainee
from undrift.train.units import in_units


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What came of training a version again.

    Attributes:
        version: Its number.
        same: Whether the weights are the same, bit for bit.
        expected: SHA-256 of its weights file, in hexadecimal.
        found: That of the weights that came out; empty if it was not trained again.
        differs: Conditions that are not those of the first time, by name: then, and now.
        text: One sentence.
        seconds: Wall time of the training.
    """

    version: int
    same: bool
    expected: str
    found: str
    differs: dict[str, tuple[Any, Any]]
    text: str
    seconds: float


def rebuild(store: Store, version: int, model: ModelSettings, search_path: Path) -> Rebuilt:
    """Train a version again, from the state alone, and compare.

    The process computes with as many threads from then on as the version was trained with.

    Args:
        store: The model's store; nothing is written.
        version: Which one.
        model: The model section of the configuration.
        search_path: Folder that holds the user's model module.

    Raises:
        StoreError: There is no such version, or its manifest is damaged.
        ModelError: The model cannot be built.
    """
    manifest = store.manifest(version)
    begun = time.perf_counter()

    def told(text: str, found: str = "", differs: Mapping[str, tuple[Any, Any]] = {}) -> Rebuilt:
        seconds = time.perf_counter() - begun if found else 0.0
        same = found == manifest.hash
        return Rebuilt(version, same, manifest.hash, found, dict(differs), text, seconds)

    if reason := _why_not(manifest):
        return told(reason)
    plan = RetrainPlan.from_dict(manifest.plan or {})
    then: dict[str, Any] = manifest.metrics[CONDITIONS]
    settings = TrainSettings.model_validate(then["settings"])
    torch.set_num_threads(then["threads"])
    if gone := _gone(then["first_row"], store.first_row()):
        return told(gone)
    trainee = Trainee(factory_of(model, search_path)(), model.embedding)
    try:
        reference = store.reference(plan.base_version)
        pool = read_pool(store, plan, reference, settings.max_pool_rows)
        if not rows(pool, reference).items() <= then.items():
            return told(f"the rows, labels or reference of version {version} are not the same now")
        found = weights_hash(_trained(trainee, store, pool, reference, manifest, plan, settings))
    except (StoreError, TrainingError) as error:
        return told(f"version {version} cannot be trained again: {error}")
    now = machine(model)
    differs = {name: (then[name], now[name]) for name in now if then[name] != now[name]}
    return told(_verdict(version, found == manifest.hash, differs), found, differs)


def _why_not(manifest: Manifest) -> str:
    """Return why a version cannot come out the same; empty if it can."""
    plan, then, who = manifest.plan, manifest.metrics.get(CONDITIONS), f"version {manifest.version}"
    if plan is None:
        return f"{who} was not trained here, so there is nothing to train again"
    if plan.get("weights"):
        return f"{who} was not trained here: its weights were brought, {plan.get('origin', '')}"
    if then is None:
        return f"{who} was made by a release that did not record the conditions of a training"
    if plan["workers"] > 1:
        return f"{who} was trained by {plan['workers']} workers, which one process only comes near"
    if then["device"] != "cpu":
        return f"{who} was trained on a GPU ({then['device']}), whose sums have no fixed order"
    if Budget.parse(plan["budget"]).seconds < math.inf:
        return f"{who} had a budget of {plan['budget']}: the clock decided when each step was made"
    return ""


def _gone(was: int | None, first: int | None) -> str:
    """Return what retention has dropped of the rows of a training; empty if nothing."""
    if was is None or (first is not None and first <= was):
        return ""
    begins = "holds none" if first is None else f"begins at row {first:,}"
    return f"the rows since row {was:,} are not kept any more (retention): the store {begins}"


def _trained(
    trainee: Trainee,
    store: Store,
    pool: Pool,
    reference: Reference,
    manifest: Manifest,
    plan: RetrainPlan,
    settings: TrainSettings,
) -> Mapping[str, torch.Tensor]:
    """Return the weights that come of the start and the learning rate that made the version."""
    training = manifest.metrics["training"]
    settings = settings.model_copy(update={"learning_rate": training["learning_rate"]})
    start, weights = training["start_version"], store.state_dict
    with in_units(trainee, pool, weights(plan.base_version)) as units:
        if units is None:
            done = retrain(trainee, weights(start), pool, reference, plan, settings=settings)
            return done.state_dict
        done = retrain(
            trainee,
            units.weights(weights)(start),
            units.pool(pool),
            units.reference(reference),
            plan,
            settings=settings,
        )
        return units.result(done).state_dict


def _verdict(version: int, same: bool, differs: Mapping[str, tuple[Any, Any]]) -> str:
    if same:
        return f"version {version} was trained again to the same weights, bit for bit"
    told = "; ".join(f"{name} was {then}, is {now}" for name, (then, now) in differs.items())
    return f"version {version} came out with other weights: " + (
        told or "nothing differs that its manifest says of the conditions"
    )
