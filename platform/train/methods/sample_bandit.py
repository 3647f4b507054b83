"""The sample bandit: which rows whose labels are in doubt are worth training on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from scipy.stats import beta

from undrift.train.audit import Draw
from undrift.train.copies import copies
from undrift.train.doubt import DOUBTED, OUTDATED, UNDOUBTED, Stratum
from undrift.train.inference import forward
from undrift.train.methods.sampling import Batch, TrustSampler
from undrift.train.pool import Index
from undrift.train.setup import Setup

_LOOK = 3  # rounds from one look at the twins to the next
_TWINS = 32  # held-out rows of each kind that are looked at
_MEMORY = 0.6  # factor on what was seen before, at each look
_ABLE = 0.75  # share of undoubted twins that a model must name before it is asked about others
_WORTH = 0.5  # of the undoubted ones' share, from which on a stratum is worth training on
_OFTEN = 4.0  # how often a missed row comes at most, of its due
_HALF = 0.5  # of the rows of a side, which missed ones do not exceed by coming more often
_LEAST = 0.05  # how often a row that is left out comes all the same, of its due


class DoubtSampler(TrustSampler):
    """Draws by trust, and rows whose labels are in doubt as often as they turn out to be worth it.

    Arms are the strata of doubt (`train.doubt`). A model that has hardly trained on a doubted
    stratum, but comes to name the labels of held-out rows like it, has learnt from others that
    they are true; one that names none of them, while it names the undoubted, says that they are
    wrong. That is the reward: how many labels of a stratum's held-out twins are named, a draw from
    a Bernoulli distribution. By Thompson's rule a stratum comes with the probability, under a Beta
    posterior, that its share is more than half of that of undoubted rows of its side. *Outdated*
    rows never come: the model that says so is the one that serves them, and says it before it
    has learnt anything. Both sides of the drift keep their share of each batch.

    *Missed* rows, whose labels are not in doubt, but which the version that answered misnamed, are
    where the world has moved. Where they are few, as in a rare slice, a short budget passes them
    by: they come up to four times as often, until missed rows, the doubted among them, are half of
    the new regime's.

    *Repeated* rows, of which there are many that are nearly the same (`train.copies`), teach little
    that one of them does not: n of them come as often as the root of n others.

    Where nothing is in doubt, missed or repeated, this is drawing by trust; for not one operation
    more, unless something is doubted.

    Args:
        setup: The retraining.

    Attributes:
        haste: How often missed rows come, of their due.

    Reference:
        Thompson: On the likelihood that one unknown probability exceeds another in view of the
        evidence of two samples. Biometrika 25, 1933.
    """

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self._setup, chosen = setup, setup.chosen
        self._strata, self._stratum = chosen.strata, chosen.stratum
        self._rounds, self._seen = 0, np.zeros((len(self._strata), 2))
        self._carried = 0.0
        self._doubted = any(s.kind != UNDOUBTED for s in self._strata)
        doubted = np.array([s.new and s.kind == DOUBTED for s in self._strata])
        missed = chosen.missed.sum() + doubted[self._stratum].sum()
        self.haste = _haste(int(missed), int(chosen.new.sum()))
        self._pace = np.where(chosen.missed, self.haste, 1.0)
        alike = copies(setup.x.cpu().numpy(), chosen.index, chosen.new, setup.plan.seed)
        self._repeated = int((alike > 1).sum())
        self._pace /= np.sqrt(alike)
        self._even = bool((self._pace == 1.0).all())
        self._worth = np.array([_LEAST if s.kind == OUTDATED else 1.0 for s in self._strata])
        trusted = chosen.weight > 0.0
        self._sides = [np.flatnonzero(trusted & side) for side in (chosen.new, ~chosen.new)]
        self._share = float(chosen.weight[chosen.new].sum() / chosen.weight.sum())
        self._deck.pace = self._worth[self._stratum] * self._pace

    def draw(self, size: int) -> Batch:
        """Draw a batch of ``size`` rows."""
        if not self._doubted and self._even:
            return super().draw(size)
        due = size * self._share + self._carried
        new = int(np.clip(round(due), 0, size))
        self._carried = due - new
        sizes = zip(self._sides, (new, size - new), strict=True)
        return Batch.of(self._index[np.concatenate([self._deck.deal(n, s) for s, n in sizes])])

    def begin_round(self, share: float) -> None:  # noqa: ARG002
        """Look, every few rounds, what the model makes of held-out rows of each kind."""
        judged = [s for s in self._strata if s.kind == DOUBTED and len(s.twins)]
        if judged and self._rounds % _LOOK == 0:
            self._look([i for i, s in enumerate(self._strata) if self._asked(s)])
        self._rounds += 1

    def _asked(self, stratum: Stratum) -> bool:
        """Whether a stratum is doubted, or what one of its side is compared with."""
        sides = {s.new for s in self._strata if s.kind == DOUBTED}
        return stratum.kind != OUTDATED and stratum.new in sides and len(stratum.twins) > 0

    def _look(self, asked: list[int]) -> None:
        setup = self._setup
        some = [self._some(self._strata[i].twins) for i in asked]
        rows = torch.as_tensor(np.concatenate(some), device=setup.x.device)
        named = forward(setup, setup.x[rows])[0].argmax(dim=1) == setup.y[rows]
        self._seen *= _MEMORY
        parts = named.cpu().numpy(), np.cumsum([len(part) for part in some])[:-1]
        for i, right in zip(asked, np.split(*parts), strict=True):
            self._seen[i] += right.sum(), (~right).sum()
        for i in asked:
            if self._strata[i].kind == DOUBTED:
                self._worth[i] = self._judge(i)
        self._deck.pace = self._worth[self._stratum] * self._pace

    def _some(self, twins: Index) -> Index:
        return twins if len(twins) <= _TWINS else self._rng.choice(twins, _TWINS, replace=False)

    def _judge(self, i: int) -> float:
        """Return how often the rows of a doubted stratum come, of their due."""
        side = self._strata[i].new
        like = [s.new == side and s.kind == UNDOUBTED for s in self._strata]
        right, wrong = self._seen[like].sum(axis=0)
        able = right / max(1.0, right + wrong)
        if able < _ABLE:
            return 1.0
        worth = float(beta.sf(_WORTH * able, 1.0 + self._seen[i, 0], 1.0 + self._seen[i, 1]))
        return max(_LEAST, worth)

    def end_round(self, step: int) -> None:
        """Note how often the rows of each stratum come, and how many of its twins are named."""
        if self._doubted:
            share = self._seen[:, 0] / np.maximum(1.0, self._seen.sum(axis=1))
            for i, (worth, named) in enumerate(zip(self._worth, share, strict=True)):
                self.log.append(Draw(step, "sample", i, float(worth), float(named)))

    def figures(self) -> dict[str, float]:
        """Return how many were missed, how often those come, of their due, and how many repeat."""
        return {
            "missed": float(self._setup.chosen.missed.sum()),
            "missed_pace": self.haste,
            "repeated": float(self._repeated),
        }

    def state(self) -> dict[str, Any]:
        """Return generator, deck, and what was seen of the twins."""
        own = {
            "rounds": self._rounds,
            "carried": self._carried,
            "seen": self._seen.tolist(),
            "worth": self._worth.tolist(),
        }
        return {**super().state(), **own}

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from `state`."""
        super().load(state)
        self._rounds, self._carried = state["rounds"], state["carried"]
        self._seen, self._worth = np.array(state["seen"]), np.array(state["worth"])


def _haste(missed: int, rows: int) -> float:
    """Return how often missed rows come, of their due, if so many of so many were missed.

    Example:
        >>> [_haste(missed, 100) for missed in (0, 10, 40, 60)]
        [1.0, 4.0, 1.5, 1.0]
    """
    if not missed:
        return 1.0
    return float(np.clip(_HALF / (1.0 - _HALF) * (rows - missed) / missed, 1.0, _OFTEN))
