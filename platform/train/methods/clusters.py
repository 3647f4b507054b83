"""Strata by what the start model sees: clusters of its embedding in place of classes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.cluster.vq import kmeans, vq

from undrift.errors import TrainingError
from undrift.train.inference import forward
from undrift.train.setup import Setup
from undrift.train.strata import Groups, stratify

_CLUSTERS = 8
_FITTED = 2000  # rows that the centres are found on


def by_cluster(setup: Setup) -> Setup:
    """Return a retraining with strata by time segment and cluster of the start model's embedding.

    They tell parts of the world apart that share a class, and stay few where there are many
    classes. Every candidate takes one forward pass more, which is counted.

    Raises:
        TrainingError: The model's embedding of a candidate is not finite.
    """
    chosen = setup.chosen
    embedding = forward(setup, setup.x[chosen.index])[1].double().cpu().numpy()
    broken = int((~np.isfinite(embedding)).any(axis=1).sum())
    if broken:
        raise TrainingError(
            f"what enters the head is not finite for {broken} of {len(embedding)} candidates; "
            "look for broken inputs"
        )
    rng = np.random.default_rng([setup.plan.seed, 4])
    sample = rng.permutation(embedding)[:_FITTED]
    centres, _ = kmeans(sample, min(_CLUSTERS, len(sample)), iter=1, rng=rng)
    nearest = vq(embedding, centres)[0].astype(np.int64)
    groups = Groups(nearest, "cluster", "clusters")
    stratum, names = stratify(chosen.row, groups, chosen.new)
    return replace(setup, chosen=replace(chosen, stratum=stratum, strata=names))
