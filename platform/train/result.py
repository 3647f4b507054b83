"""What a retraining tells on its way, and what it made."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch

from undrift.train.audit import Columns, Draw, columns, summary
from undrift.train.pool import Split


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a retraining stands, once a round.

    Attributes:
        step: Gradient steps made.
        share: Share of the run that is over, 0 to 1.
        loss: Mean training loss of the round.
        flops: Operations spent so far, over all workers.
        seconds: Wall time so far.
    """

    step: int
    share: float
    loss: float
    flops: float
    seconds: float

    @property
    def eta_s(self) -> float:
        """Seconds still to go, at the pace so far."""
        return self.seconds * (1.0 / self.share - 1.0) if self.share else math.inf


@dataclass(frozen=True, slots=True)
class TrainResult:
    """What a retraining made, and how.

    Attributes:
        state_dict: The candidate's weights, on the CPU.
        chosen: The rows that were used, and those held out.
        choices: Every choice of a bandit.
        blocks: Names of the blocks, the arms of the block bandit.
        steps: Gradient steps made.
        flops: Operations spent in forward and backward passes, over all workers.
        seconds: Wall time.
        metrics: Figures for the manifest.
    """

    state_dict: dict[str, torch.Tensor]
    chosen: Split
    choices: tuple[Draw, ...]
    blocks: tuple[str, ...]
    steps: int
    flops: float
    seconds: float
    metrics: dict[str, float]

    def log(self) -> Columns:
        """Return every choice of a bandit, by column."""
        return columns(self.choices)

    def audit(self) -> dict[str, Any]:
        """Return what the bandits drew of each arm, as plain JSON values."""
        strata = [stratum.name for stratum in self.chosen.strata]
        return summary(self.log(), {"sample": strata, "block": self.blocks})
