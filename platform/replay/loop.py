"""The whole loop over a labelled stream in virtual time: monitor, lifecycle and new versions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from undrift.control.hearing import heard
from undrift.control.lifecycle import initial, step
from undrift.control.settings import LifecycleSettings, RolloutSettings
from undrift.errors import ConfigError, TrainingError
from undrift.events import (
    Event,
    Instruction,
    Notify,
    Rearm,
    Swap,
    Swapped,
    Tick,
    Train,
    Trained,
    TrainFailed,
)
from undrift.evidence import ProbationReport
from undrift.model.mixture import Mixture
from undrift.monitor.history import Moment, take
from undrift.monitor.monitor import Monitor
from undrift.monitor.settings import MonitorSettings
from undrift.records import FloatArray, Labels, Predictions, TargetArray
from undrift.replay.timeline import Scribe, Timeline
from undrift.replay.training import Shelf, Trainer
from undrift.streams.quality import answers, is_numbers, none_of
from undrift.streams.stream import Stream
from undrift.train.plan import RetrainPlan
from undrift.train.pool import Pool
from undrift.train.reach import ASKED, rows_to_read
from undrift.train.settings import TrainSettings

SWAP_S = 0.3  # from the decision to the last replica, as measured


@dataclass(frozen=True, slots=True)
class Pace:
    """How virtual time runs.

    Attributes:
        rows_per_s: Rows a second.
        training_s: Seconds from the order of a retraining to its candidate.
    """

    rows_per_s: float = 150.0
    training_s: float = 3.0


@dataclass(frozen=True, slots=True)
class Simulation:
    """What a policy makes of a labelled stream.

    Attributes:
        timeline: What happened.
        predicted: (n,) class that was answered, or numbers as labels are.
        trained: Labelled rows used by the retrainings of each regime, by its first row.
        retrainings: Retrainings begun.
        rows_trained_on: Labelled rows of their regimes, over all of them.
    """

    timeline: Timeline
    predicted: TargetArray
    trained: dict[int, int]
    retrainings: int
    rows_trained_on: int


def simulate(
    stream: Stream,
    shelf: Shelf,
    trainer: Trainer,
    *,
    monitor: MonitorSettings,
    lifecycle: LifecycleSettings,
    train: TrainSettings,
    pace: Pace | None = None,
    mixes: bool = False,
    progress: Callable[[int], None] | None = None,
) -> Simulation:
    """Play a stream through monitor and lifecycle, ticks and delays counted in virtual seconds.

    Args:
        stream: The labelled stream.
        shelf: The versions; version 1 answers first.
        trainer: Makes a new version of a pool and a plan.
        monitor: The drift policy.
        lifecycle: When to act; a rollout by stages is left out, candidates are swapped at once.
        train: How to retrain.
        pace: Rows a second and the duration of a training.
        mixes: Whether the answer is the challengers' too.
        progress: Called with the rows played.
    """
    loop = _Loop(stream, shelf, trainer, monitor, lifecycle, train, pace or Pace(), mixes)
    while loop.sent < len(stream):
        loop.tick()
        if progress is not None:
            progress(loop.sent)
    return loop.result()


class _Loop:
    """The state of one simulation."""

    def __init__(
        self,
        stream: Stream,
        shelf: Shelf,
        trainer: Trainer,
        monitor: MonitorSettings,
        lifecycle: LifecycleSettings,
        train: TrainSettings,
        pace: Pace,
        mixes: bool,
    ) -> None:
        self.stream, self.shelf, self.trainer = stream, shelf, trainer
        self.train_settings, self.pace, self.mixes = train, pace, mixes
        self.monitor = Monitor(monitor, shelf.reference(1), 1, class_names=stream.class_names)
        at_once = lifecycle.model_copy(update={"rollout": RolloutSettings()})
        self.state = initial(at_once, 1)
        self.scribe = Scribe()
        self.batch = max(
            1, min(monitor.commit_rows, round(pace.rows_per_s * monitor.commit_ms / 1e3))
        )
        n = len(stream)
        self.ids = tuple(map(str, range(n)))
        self.at = np.arange(1, n + 1) / pace.rows_per_s
        self.predicted = none_of(stream.live.y)
        self.label_rows, self.label_at = stream.due()
        self.version = np.zeros(n, dtype=np.int64)
        self.output = self.embedding = np.empty((0, 0), dtype=np.float32)
        self.former_mixture: Mixture | None = None
        self.labelled = 0
        self.sent = 0
        self.pending: list[tuple[float, Callable[[], Event]]] = []
        self.trained: dict[int, int] = {}
        self.retrainings = self.spent = 0

    @property
    def now(self) -> float:
        """Virtual seconds."""
        return self.sent / self.pace.rows_per_s

    def tick(self) -> None:
        """Let one batch pass, then everybody who has something to say."""
        start, stop = self.sent, min(self.sent + self.batch, len(self.stream))
        rows, labels = self._answer(start, stop), self._due(stop)
        self.sent = stop
        self.monitor.fold(rows, labels)
        evidence = self.monitor.evidence()
        self.scribe.look(evidence)
        due = [entry for entry in self.pending if entry[0] <= self.now]
        self.pending = [entry for entry in self.pending if entry[0] > self.now]
        for _, happens in sorted(due, key=lambda entry: entry[0]):
            self._deliver(happens())
        for event in heard(
            self.state, evidence, self._probation(), self.monitor.comparison.report(), self.now
        ):
            self._deliver(event)
        self._deliver(Tick(at=self.now))

    def result(self) -> Simulation:
        """Return what happened."""
        timeline = self.scribe.timeline()
        if timeline is None:
            raise ConfigError(f"{self.stream.title}: no row to replay")
        return Simulation(timeline, self.predicted, self.trained, self.retrainings, self.spent)

    def _answer(self, start: int, stop: int) -> Predictions:
        x, version = self.stream.live.x, self.state.live
        output, embedding = self.shelf.answers(version, x, start, stop)
        self._keep(slice(start, stop), output, embedding)
        given, mixture = output, self.monitor.mixture() if self.mixes else None
        if mixture is not None and mixture.version == version:
            given = mixture(output, embedding, x[start:stop])
        numbers = is_numbers(self.predicted)
        self.predicted[start:stop] = answers(given, self.predicted)
        return Predictions(
            ids=self.ids[start:stop],
            row=np.arange(start, stop),
            at=self.at[start:stop],
            version=np.full(stop - start, version),
            x=x[start:stop],
            embedding=embedding,
            output=output,
            answered=given if numbers else self.predicted[start:stop],
            former=self._former(start, stop),
        )

    def _keep(self, rows: slice, output: FloatArray, embedding: FloatArray) -> None:
        """Store what the live version made of rows, for the retrainings to come."""
        if not rows.start:
            n = len(self.stream)
            self.output = np.empty((n, output.shape[1]), dtype=np.float32)
            self.embedding = np.empty((n, embedding.shape[1]), dtype=np.float32)
        self.output[rows], self.embedding[rows] = output, embedding
        self.version[rows] = self.state.live

    def _former(self, start: int, stop: int) -> TargetArray | None:
        """Return what the version before would have answered, while a probation asks for it."""
        probation = self.monitor.probation
        if probation.status != "running" or probation.against is None:
            return None
        x, mixture = self.stream.live.x, self.former_mixture
        output, embedding = self.shelf.answers(probation.against, x, start, stop)
        if mixture is not None:
            output = mixture(output, embedding, x[start:stop])
        return output if is_numbers(self.predicted) else answers(output, self.predicted)

    def _due(self, sent: int) -> Labels | None:
        """Return the labels that have arrived since the last tick."""
        until = int(np.searchsorted(self.label_at, sent, side="right"))
        if until == self.labelled:
            return None
        labels = self._labels(self.labelled, until)
        self.labelled = until
        return labels

    def _labels(self, start: int, stop: int) -> Labels:
        rows = self.label_rows[start:stop]
        at = self.label_at[start:stop] / self.pace.rows_per_s
        return Labels(tuple(self.ids[i] for i in rows), self.stream.live.y[rows], at)

    def _probation(self) -> ProbationReport:
        """Return the probation; the same weights with another reference cannot fail one."""
        report = self.monitor.probation
        unproven = report.status == "failed" and not self.trainer.trains
        return replace(report, status="passed") if unproven else report

    def _deliver(self, event: Event) -> None:
        outcome = step(self.state, event)
        self.state = outcome.state
        for instruction in outcome.instructions:
            self._execute(instruction)

    def _execute(self, instruction: Instruction) -> None:
        if isinstance(instruction, Train):
            self._train(instruction)
        elif isinstance(instruction, Swap):
            live, run_id = instruction.assignment.live, instruction.run_id
            self.pending.append(
                (self.now + SWAP_S, lambda: Swapped(at=self.now, run_id=run_id, version=live))
            )
        elif isinstance(instruction, Rearm):
            self.former_mixture = self.monitor.mixture() if self.mixes else None
            take(self.monitor, Moment(0, rearm=instruction), self.shelf.reference)
        elif isinstance(instruction, Notify):
            self._tell(instruction)

    def _tell(self, news: Notify) -> None:
        """Enter what the scribe does not see by itself."""
        if news.kind == "failed":
            self.scribe.note(news.kind, news.text)
        elif news.kind in ("promoted", "rolled_back"):
            rows = f"{int(self.shelf.reference(self.state.live).recent.sum()):,} held-out rows"
            kind, text = news.kind, f"{news.text}; watched by {rows}"
            if not self.trainer.trains:
                since = f"of the regime since row {self.state.regime_start:,}"
                kind, text = "rearmed", f"same weights, watched by {rows} {since}"
            self.scribe.rearmed(self.monitor.evidence(), text, kind)

    def _train(self, order: Train) -> None:
        plan = RetrainPlan.of(order, self.train_settings, mixed=self.mixes)
        pool = self._pool(plan)
        self.retrainings += 1
        trigger = self.state.run.trigger if self.state.run else ""
        since = f"{trigger}: from version {order.base_version}, regime since row"
        self.scribe.note("retraining", f"{since} {order.regime_start:,}, kind {order.kind}")
        self.pending.append((self.now + self.pace.training_s, lambda: self._trained(pool, plan)))

    def _trained(self, pool: Pool, plan: RetrainPlan) -> Event:
        """Return what comes of a retraining, when its time is over."""
        try:
            done = self.trainer(pool, plan, self._pool(plan))
        except TrainingError as error:
            return TrainFailed(at=self.now, run_id=plan.run_id, reason=str(error))
        known = self.trained.get(done.regime_start, 0)
        self.trained[done.regime_start] = max(known, done.regime_rows)
        self.spent += done.regime_rows
        return Trained(
            at=self.now,
            run_id=plan.run_id,
            version=done.version,
            accepted=done.accepted,
            reason=done.reason,
            regime_rows=done.regime_rows,
            regime_start=done.regime_start,
        )

    def _pool(self, plan: RetrainPlan) -> Pool:
        """Return what a training worker would read from the store."""
        most = self.train_settings.max_pool_rows
        asked = self.label_rows[max(0, self.labelled - ASKED) : self.labelled]
        newest = int(asked.max()) if len(asked) else None
        pieces = rows_to_read(newest, self.sent, most)
        row = np.concatenate([np.arange(piece.start, piece.stop) for piece in pieces])
        rows = Predictions(
            ids=tuple(self.ids[i] for i in row),
            row=row,
            at=self.at[row],
            version=self.version[row],
            x=self.stream.live.x[row],
            embedding=self.embedding[row],
            output=self.output[row],
        )
        labels = self._labels(0, self.labelled)
        return Pool.build(rows, labels, self.shelf.reference(plan.base_version), most)
