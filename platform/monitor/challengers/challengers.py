"""Would another model be better now? Cheap ones learn from late labels and bet on their lead."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from undrift.evidence import Challenger, Level, SignalReport
from undrift.model.heads import MEMORIES, RidgeHeads
from undrift.model.mixture import Mixture
from undrift.monitor.base import Calibration, Measures, Stateful
from undrift.monitor.calibration import limits, recent_rows
from undrift.monitor.challengers.answers import Classes, Numbers, answers_of
from undrift.monitor.challengers.contest import Contest
from undrift.monitor.challengers.hedge import Hedge
from undrift.monitor.challengers.inputs import Standard
from undrift.monitor.join import Joined, LabelSignal
from undrift.monitor.settings import MonitorSettings
from undrift.monitor.statistics.detector import EDetector, aligned
from undrift.monitor.statistics.products import row_products
from undrift.records import FloatArray, IntArray, Predictions, Reference

Matrix = NDArray[np.float64]

NAME = "challenger"


class _Heads(RidgeHeads, Stateful):
    SAVED = ("_leading", "_gram", "_moment", "weights")


class Challengers(LabelSignal):
    """Tests whether a cheap model that follows the labels answers better than the live one.

    A challenger is a ridge regression on the live model's embedding, alone or with the input, with
    one of several memories. In a first contest it answers each row with the labels that had come
    when the row was served: what it wins over the live model, one retrained by the same rows would
    have won for users. In a second it answers with the labels of all rows before, and is held
    against what users got: that tells some ``lag`` rows earlier that the newest rows can be learnt
    from, but also where only neighbours are alike. So the second counts only where answers are
    known to be worse than they were, and for large leads.

    A waiting row takes 4 bytes for each feature, at most 129, and for each number that a challenger
    answers.

    Args:
        settings: Budget of false alarms.
        answers: What is answered; classes, until `fit` says otherwise.
    """

    KINDS: ClassVar[tuple[tuple[bool, int], ...]] = tuple(product((False, True), MEMORIES))
    URGENT: ClassVar[float] = 0.1
    """Accuracy, or R2, that a challenger must surely lead by where it need not have served."""
    SAVED = ("_features", "_targets", "_count")
    PARTS = ("_said", "_embedding", "_input", "_heads", "_served", "_prompt", "_hedge", "_keen")

    def __init__(self, settings: MonitorSettings, answers: Classes | Numbers | None = None) -> None:
        self._settings, self._said = settings, answers or Classes()
        self._embedding, self._input = Standard(), Standard()
        self._start(2)

    @property
    def width(self) -> int:
        """Numbers noted of a row."""
        return self._features.shape[1] + (1 + len(self.KINDS)) * self._said.width

    def fit(self, reference: Reference) -> Calibration:
        """Take scales from ``reference``, let the challengers learn from it, and begin anew.

        With the newest rows of a retraining in it, they know as much as those of the version
        before did, and what each was worth on the rows that were held out of the training.
        """
        recent = recent_rows(reference, self._settings)
        self._embedding.fit(recent.embedding)
        self._input.fit(recent.x[:, :0] if self._settings.by_embedding else recent.x)
        self._said = answers_of(reference)
        self._start(reference.output.shape[1])
        newest = reference.newest
        if newest is not None:
            reference = reference.take(np.flatnonzero(~np.isin(reference.rows, newest.rows)))
        order = np.argsort(reference.recent, kind="stable")  # older regimes first
        known = self._describe(
            reference.embedding[order], reference.x[order], np.arange(len(order))
        )
        self._learn(known, self._said.labels(reference.y[order]))
        if newest is not None:
            self._catch_up(newest)
        return Calibration(len(recent))

    def _catch_up(self, newest: Reference) -> None:
        """Learn from rows that came before the version did, after answering those held out."""
        known = self._describe(newest.embedding, newest.x, np.arange(len(newest)))
        live, label = self._said.live(newest.output), self._said.labels(newest.y)
        for part in aligned(self._count, len(newest)):
            said = np.hstack([live[part], self._answers(known[part] @ self._heads.weights)])
            scores = self._said.scores(said, label[part])[newest.recent[part]]
            self._hedge.update(scores)
            self._keen.update(scores)
            self._learn(known[part], label[part])

    def begin_contests(self) -> None:
        """Hold the contests anew, by what is known already."""
        self._served = Contest(len(self.KINDS), limits(self._settings))
        self._prompt = Contest(len(self.KINDS), limits(self._settings))

    def note(self, rows: Predictions) -> FloatArray:
        """Return (n, width): features of rows, what the live model says, and each challenger."""
        known = self._describe(rows.embedding, rows.x, rows.row)
        answers = self._answers(row_products(known, self._heads.weights, rows.row))
        return np.hstack([known, self._said.live(rows.output), answers]).astype(np.float32)

    def own(self, batch: Joined, behind: int) -> Joined:
        """Return ``batch`` with this signal's notes alone, which ``behind`` others follow."""
        end = batch.notes.shape[1] - behind
        return replace(batch, notes=batch.notes[:, end - self.width : end])

    def measure(self, batch: Joined) -> Measures:
        """Return (n, 1 + t + width): score of the answer, label, and the notes."""
        score = 1.0 - np.minimum(batch.wrong, 1.0)
        told = np.column_stack([score, self._said.labels(batch.label)])
        return Measures(batch.row, np.hstack([told, batch.notes.astype(np.float64)]))

    def advance(self, measures: Measures) -> None:
        """Take in labels that met their predictions: bet on them, then learn from them."""
        for part in aligned(self._count, len(measures)):
            rows, values = measures.row[part], measures.values[part]
            wide = self._said.width
            ends = 1, 1 + wide, 1 + wide + self._features.shape[1]
            score, label, known, said = np.split(values, ends, axis=1)
            served = self._said.scores(said, label)
            self._served.update(served[:, 1:] - served[:, :1], rows)
            self._hedge.update(served)
            # Always the whole block, so that an answer does not depend on the row's company.
            here = slice(self._place, self._place + len(rows))
            self._features[here] = known
            prompt = self._answers(self._features @ self._heads.weights)[here]
            prompted = self._said.scores(prompt, label)
            self._prompt.update(prompted - score, rows)
            self._keen.update(np.hstack([served[:, :1], prompted]))
            self._learn(known, label)

    def report(self) -> SignalReport:
        """Return level, statistic and change point of the first contest."""
        return self._served.detector.report(NAME)

    def standings(self) -> tuple[Challenger, ...]:
        """Return how the challengers fare in the first contest, the best supported first."""
        return self._standings(self._served)

    def better(self, *, worse: bool) -> Challenger | None:
        """Return the challenger that shows that retraining pays, if one does.

        Args:
            worse: Whether the live model is known to be worse than it was.
        """
        if self._served.detector.level is Level.DRIFT:
            return self._standings(self._served)[0]
        return self._urgent() if worse else None

    def _urgent(self) -> Challenger | None:
        """Return the challenger that surely leads by much in the second contest, if one does."""
        if self._prompt.detector.level is not Level.DRIFT:
            return None
        leader = self._standings(self._prompt)[0]
        return leader if leader.low >= self.URGENT else None

    def mixture(self, version: int, *, worse: bool) -> Mixture | None:
        """Return the live model's answer mixed with the challengers'; None before any label.

        None of a regression, too.

        Args:
            version: Version of the live model.
            worse: Whether it is known to be worse than it was; then answers that nobody was
                served count too.
        """
        if not self._hedge.count or isinstance(self._said, Numbers):
            return None
        heads = self._heads.weights.reshape(len(self._heads.weights), len(self.KINDS), -1)
        scalings = (self._embedding.scaling, self._input.scaling)
        hedge = self._keen if worse and self._urgent() else self._hedge
        return Mixture(version, hedge.count, *scalings, heads, hedge.shares())

    def _standings(self, contest: Contest) -> tuple[Challenger, ...]:
        weights, shares = contest.weights().tolist(), self._hedge.shares()[1:].tolist()
        found = [
            Challenger(_name(memory, alone), memory, alone, weights[k], *contest.lead(k), shares[k])
            for k, (alone, memory) in enumerate(self.KINDS)
        ]
        return tuple(sorted(found, key=lambda c: -c.weight))

    @property
    def _place(self) -> int:
        """Where the next labelled row stands in its block."""
        return self._count % EDetector.BLOCK

    def _start(self, classes: int) -> None:
        leading = 1 + self._embedding.width
        features = leading + self._input.width
        self._heads = _Heads(features, leading, classes, MEMORIES)
        self._features = np.zeros((EDetector.BLOCK, features))
        self._targets = np.zeros((EDetector.BLOCK, classes))
        self._count = 0
        self.begin_contests()
        self._hedge, self._keen = Hedge(1 + len(self.KINDS)), Hedge(1 + len(self.KINDS))

    def _describe(self, embedding: FloatArray, x: FloatArray, rows: IntArray) -> Matrix:
        parts = [np.ones((len(rows), 1)), self._embedding(embedding, rows), self._input(x, rows)]
        # What is learnt from later is what was noted, so it is rounded as notes are.
        return np.hstack(parts).astype(np.float32).astype(np.float64)

    def _answers(self, values: Matrix) -> Matrix:
        return self._said.of_heads(values, len(self.KINDS))

    def _learn(self, known: Matrix, label: Matrix) -> None:
        """Keep labelled rows, and fit the heads whenever a block of them is full."""
        target = self._said.targets(label, self._targets.shape[1])
        for part in aligned(self._count, len(known)):
            here = slice(self._place, self._place + part.stop - part.start)
            self._features[here], self._targets[here] = known[part], target[part]
            self._count += part.stop - part.start
            if self._place == 0:
                self._heads.add(self._features, self._targets)


def _name(memory: int, embedding_only: bool) -> str:
    rows = f"{memory:,} rows" if memory else "all rows"
    return f"{rows} on the embedding" + ("" if embedding_only else " and the input")
