"""The importance regulariser as a penalty: how strong, and on which rows, at every step."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch

from undrift.evidence import DriftKind
from undrift.model.network import ask
from undrift.train.methods.importance import Importance
from undrift.train.methods.penalty import Penalty
from undrift.train.setup import Setup

_REHEARSED = 32  # reference rows whose activations are compared at one step


class Protection(Penalty):
    """Synapse and neuron importance, as strong as configured and as the drift leaves justified.

    Args:
        setup: The retraining.
    """

    def __init__(self, setup: Setup) -> None:
        settings = setup.settings
        self._world = setup.comm.world
        self._rng = np.random.default_rng([setup.plan.seed, 3])
        self._drawn: torch.Tensor | None = None
        self._activations: dict[int, torch.Tensor] = {}
        self._count = 0
        self.share = 0.0
        self._importance: Importance | None = None
        wanted = settings.synapse_strength > 0.0 or settings.neuron_strength > 0.0
        if wanted and len(setup.reference):
            self.share = _justified(setup)
        self._synapse = self.share * settings.synapse_strength
        self._neuron = self.share * settings.neuron_strength
        if self.share > 0.0:
            x = torch.as_tensor(setup.reference.x, device=setup.x.device)
            self._importance = Importance(setup.model, x, setup.objective.knowledge)
            self._count = min(_REHEARSED, len(self._importance.x)) if self._neuron > 0.0 else 0
            passes = (self._synapse > 0.0) + (self._neuron > 0.0)
            flops = passes * setup.blocks.step_flops(0)
            setup.meter.add(len(self._importance.x), flops, everywhere=True)

    def rehearsed(self) -> int:
        """Return how many reference rows the next step rehearses."""
        return self._count

    def rehearse(self, part: slice) -> torch.Tensor | None:
        """Draw the reference rows whose activations are compared."""
        if self._importance is None or not self._count:
            return None
        rows = self._rng.integers(len(self._importance.x), size=self._count)
        self._drawn = torch.as_tensor(rows[part], device=self._importance.x.device)
        return self._importance.x[self._drawn]

    def recording(self) -> AbstractContextManager[object]:
        """Record activations, where they are compared."""
        if self._importance is None or not self._count:
            return nullcontext()
        return self._importance.recording(self._activations)

    def term(self, output: torch.Tensor | None) -> torch.Tensor | None:  # noqa: ARG002
        """Return both penalties."""
        if self._importance is None:
            return None
        terms = []
        if self._synapse > 0.0:
            terms.append(self._synapse * self._importance.synapse())
        if self._count and self._drawn is not None:
            neuron = self._importance.neuron(self._activations, self._drawn)
            terms.append(self._neuron * self._world / self._count * neuron)
        return torch.stack(terms).sum() if terms else None

    def figures(self) -> dict[str, float]:
        """Return the share of the strength that is justified."""
        return {"protection": self.share}

    def state(self) -> dict[str, Any]:
        """Return the generator."""
        return {"rng": self._rng.bit_generator.state}

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from `state`."""
        self._rng.bit_generator.state = state["rng"]


def _justified(setup: Setup) -> float:
    new, reference, objective = setup.guide.new, setup.reference, setup.objective
    setup.model.eval()
    with torch.no_grad():
        answer = objective.answers(ask(setup.model, setup.x[torch.as_tensor(new)]).float())
    setup.meter.add(len(new), setup.blocks.forward_flops, everywhere=True)
    return justified(
        setup.plan.kind,
        objective.quality(answer.cpu().numpy(), setup.y[torch.as_tensor(new)].cpu().numpy()),
        objective.quality(reference.output, reference.y),
        objective.chance(setup.head.out_features),
    )


def justified(kind: DriftKind, quality: float, quality_before: float, chance: float) -> float:
    """Return the share, 0 to 1, of the protection that the drift leaves justified.

    Where the inputs moved, what the base model says about the old inputs is still right and
    worth all protection. Where the labels of the same inputs changed, it is wrong, and holding
    on to it is what makes a continual learner slow to recover. How wrong can be measured: the
    share of its skill above chance that the base model keeps in the new regime. If both
    happened, that share is the best guess for the old inputs as well, at most halved, since
    part of its errors are due to inputs that it never saw.

    Args:
        kind: What has drifted.
        quality: Quality of the base model in the new regime, at most 1.
        quality_before: Its quality on its reference.
        chance: Quality of a model that knows nothing.

    Example:
        >>> justified(DriftKind.CONCEPT, 0.5, 0.9, chance=0.5)
        0.0
        >>> justified(DriftKind.COVARIATE, 0.5, 0.9, chance=0.5)
        1.0
    """
    if kind in (DriftKind.NONE, DriftKind.COVARIATE):
        return 1.0
    kept = (quality - chance) / max(quality_before - chance, 1e-6)
    kept = min(1.0, max(0.0, kept))
    return kept if kind is DriftKind.CONCEPT else (1.0 + kept) / 2.0
