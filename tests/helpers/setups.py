"""What samplers and penalties are made from, without a run around them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import nn

from tests.helpers.retraining import SETTINGS, network, plan, rows
from undrift.records import Reference
from undrift.train.blocks import Blocks
from undrift.train.budget import Meter
from undrift.train.doubt import UNDOUBTED, Stratum
from undrift.train.guide import Guide
from undrift.train.objective import objective_for
from undrift.train.pool import Split
from undrift.train.setup import Setup
from undrift.train.trainee import Trainee

OLD, NEW, HELD_OUT = 300, 200, 40


def setup(
    *,
    old: int = OLD,
    new: int = NEW,
    model: nn.Module | None = None,
    y: np.ndarray | None = None,
    weight: np.ndarray | None = None,
    budget: str = "",
) -> Setup:
    """Candidates are ``old`` rows of one concept, then ``new`` rows of another, then held-out ones.

    By default every candidate is trusted alike. Targets ``y`` of another kind make it regression.
    """
    net = (model or network()).eval()
    before, after = rows(old, turned=False, seed=1), rows(new + HELD_OUT, turned=True, seed=2)
    x = np.concatenate([before[0], after[0]])
    y = np.concatenate([before[1], after[1]]) if y is None else y
    n = old + new
    chosen = Split(
        index=np.arange(n),
        row=np.arange(n),
        weight=np.ones(n) if weight is None else weight,
        stratum=np.zeros(n, dtype=np.intp),
        strata=(Stratum(new=True, kind=UNDOUBTED, twins=np.arange(n, n + HELD_OUT)),),
        new=np.arange(n) >= old,
        validation=np.arange(n, n + HELD_OUT),
        retention=np.empty(0, dtype=np.intp),
        validity=np.ones(n),
        missed=np.zeros(n, dtype=np.bool_),
    )
    objective, inputs, targets = objective_for(y), torch.as_tensor(x), torch.as_tensor(y)
    blocks = Blocks(net, inputs[:2])
    return Setup(
        trainee=Trainee(net),
        blocks=blocks,
        objective=objective,
        x=inputs,
        y=targets,
        chosen=chosen,
        guide=Guide(inputs, targets, chosen, objective, old_share=0.2, seed=5),
        reference=reference(*rows(100, turned=False, seed=3)),
        plan=replace(plan(), budget=budget),
        settings=SETTINGS,
        meter=Meter(),
    )


def reference(x: np.ndarray, y: np.ndarray) -> Reference:
    n = len(y)
    return Reference(x, y, np.zeros((n, 16)), np.full((n, 2), 0.5), np.ones(n, dtype=bool))


def regression_targets(outputs: int = 2) -> np.ndarray:
    shape = (OLD + NEW + HELD_OUT, outputs)
    return np.random.default_rng(4).normal(size=shape).astype(np.float32)
