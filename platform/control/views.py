"""What the control plane tells, made of what it knows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from undrift.control.rollout import comparison
from undrift.control.state import State
from undrift.control.story import Story
from undrift.errors import RequestError, StoreError
from undrift.evidence import ComparisonReport, RolloutView
from undrift.monitor.report import MonitorReport
from undrift.serve.body import show
from undrift.store.store import Store
from undrift.store.versions import CONDITIONS, Manifest
from undrift.train.audit import columns
from undrift.train.audit import report as account
from undrift.views import AuditView, DriftView, RunView, SignalView, StatusView, VersionView

RECENT = 50  # events in the status


def status(
    model: str,
    state: State,
    story: Story,
    *,
    replicas: Mapping[str, int | None],
    watched: tuple[int, int],
    training: Mapping[str, Any] | None,
    compared: ComparisonReport,
    failures: Mapping[str, str],
) -> StatusView:
    """Return where the model is in its life.

    Args:
        model: Name of the model.
        state: What the lifecycle remembers.
        story: What has happened.
        replicas: Version that each replica has loaded.
        watched: Rows that were answered, and those of them that were drawn to be watched.
        training: How far the training of the present run is.
        compared: How the monitor says that the candidate of a rollout is doing.
        failures: What fails at present, by part.
    """
    run = state.run
    return StatusView(
        model=model,
        mode=state.settings.mode,
        phase=state.phase,
        live_version=state.live,
        previous_version=state.previous,
        run=None
        if run is None
        else RunView(
            run_id=run.run_id,
            trigger=run.trigger,
            started=run.started,
            version=run.version,
            training=None if training is None else dict(training),
        ),
        attempts=state.attempts,
        not_before=state.not_before,
        replicas=dict(replicas),
        answered_rows=watched[0],
        watched_rows=watched[1],
        counts=dict(story.counts),
        events=tuple(story.entries[-RECENT:]),
        failures=dict(failures),
        rollout=rollout(state, compared),
    )


def rollout(state: State, compared: ComparisonReport) -> RolloutView | None:
    """Return how far the rollout by stages is; None without one."""
    order, trial = comparison(state), state.trial
    if order is None or trial is None:
        return None
    if (compared.run_id, compared.step) != (order.run_id, order.step):
        compared = ComparisonReport()  # of the stage before
    kind, share, rows = trial.stage
    after = trial.plan[trial.step + 1 :]
    told = compared.rows > 0
    return RolloutView(
        version=order.version,
        stage=kind,
        share=share,
        step=trial.step + 1,
        steps=len(trial.plan),
        since=trial.since,
        wanted=rows,
        rows=compared.rows,
        error=compared.error if told else None,
        lead=compared.baseline - compared.error if told else None,
        asked=compared.asked,
        differs=compared.differs,
        next=after[0][0] if after else "promotion",
    )


def drift(report: MonitorReport) -> DriftView:
    """Return what the monitor knows."""
    evidence = report.evidence
    return DriftView(
        level=evidence.level.name.lower(),
        kind=evidence.kind,
        reason=evidence.reason,
        version=evidence.version,
        rows=evidence.rows,
        labelled=evidence.labelled,
        regime_rows=evidence.regime_rows,
        labels_missing=evidence.labels_missing,
        signals=tuple(map(SignalView.of, evidence.signals)),
        challengers=evidence.challengers,
        better=evidence.better,
        probation=report.probation,
        summary=report.summary,
        lost_rows=report.lost_rows,
    )


def versions(
    stored: Sequence[Manifest], damaged: Mapping[int, str], live: int
) -> list[VersionView]:
    """Return stored versions, oldest first; ``live`` is the one that answers.

    Of a damaged version nothing is told but what is wrong with it.
    """
    sound = [
        VersionView(
            version=m.version,
            live=m.version == live,
            hash=m.hash,
            parent=m.parent,
            created_at=m.created_at,
            run_id=m.run_id,
            metrics={name: v for name, v in m.metrics.items() if name != CONDITIONS},
            plan=m.plan,
        )
        for m in stored
    ]
    broken = [
        VersionView(
            version=number, live=number == live, hash="", parent=None, created_at=0.0, damage=told
        )
        for number, told in damaged.items()
    ]
    return sorted(sound + broken, key=lambda view: view.version)


def audit(store: Store, version: str) -> AuditView:
    """Return how a version was made; 404 if there is none, 409 if it is damaged."""
    known = {str(number): number for number in store.version_numbers()}
    if version not in known:
        stored = ", ".join(known)
        raise RequestError(f"no version {show(version)}; stored versions are {stored}", 404)
    try:
        manifest = store.manifest(known[version])
        choices = store.bandit_log(manifest.version)
    except StoreError as error:
        raise RequestError(f"version {version} cannot be read: {error}", 409) from error
    return account(manifest.to_dict(), choices or columns(()))
