"""Following one run on the command line, from the order to what came of it."""

from __future__ import annotations

import time
from typing import Any

import typer
from rich.console import RenderableType
from rich.progress import Progress

from undrift.cli.views import error_console, progress_bar, say
from undrift.client import Client
from undrift.errors import PlatformError
from undrift.views import StatusView

POLL_S = 0.3
SILENCE_S = 30.0  # a controller that restarts is waited for
_UNDERWAY = ("retraining", "shadow", "canary", "swapping")
_ENDS = ("candidate", "promoted", "rolled_back", "failed")


def follow(client: Client, run_id: str) -> dict[str, Any]:
    """Show how far a run is until it has ended; Ctrl-C ends the showing, not the run.

    Returns:
        ``run_id``, its ``outcome`` (candidate, promoted, rolled_back, failed or cancelled) with a
        ``text``, the last ``training`` figures, and ``phase`` and ``live_version`` after it.

    Raises:
        PlatformError: The platform has gone.
        Exit: Ctrl-C, with code 130.
    """
    console = error_console()
    try:
        with progress_bar() as bar:
            return _followed(client, run_id, bar)
    except KeyboardInterrupt:
        console.print(
            f"{run_id} goes on; look at it with `undrift status`, end it with `undrift pause`",
            markup=False,
        )
        raise typer.Exit(130) from None


def _followed(client: Client, run_id: str, bar: Progress) -> dict[str, Any]:
    task = bar.add_task("waiting for workers", total=None, figures="")
    training: dict[str, Any] | None = None
    while True:
        status = _patiently(client)
        run = status.run
        if run is None or run.run_id != run_id or status.phase not in _UNDERWAY:
            return _outcome(status, run_id, training)
        training = run.training or training
        if status.phase == "swapping":
            bar.update(task, description="swapping", total=1.0, completed=1.0)
        elif status.rollout is not None:
            done, total = status.rollout.rows, status.rollout.wanted
            bar.update(task, description=status.phase, total=total, completed=done)
        elif training:
            figures = (
                f"step {training['step']:,}, loss {training['loss']:.3g}, "
                f"{training['flops']:.3g} FLOP, {training['seconds']:.0f} s"
            )
            share = training["share"]
            bar.update(task, description="training", total=1.0, completed=share, figures=figures)
        time.sleep(POLL_S)


def _patiently(client: Client) -> StatusView:
    deadline = time.monotonic() + SILENCE_S
    while True:
        try:
            return client.status()
        except PlatformError:
            if time.monotonic() > deadline:
                raise
        time.sleep(POLL_S)


def _outcome(status: StatusView, run_id: str, training: dict[str, Any] | None) -> dict[str, Any]:
    told = [(e.kind, e.text) for e in status.events if e.run_id == run_id and e.kind in _ENDS]
    kind, text = told[-1] if told else ("cancelled", f"{run_id} was given up")
    return {
        "run_id": run_id,
        "outcome": kind,
        "text": text,
        "training": training,
        "phase": status.phase,
        "live_version": status.live_version,
    }


def outcome_view(outcome: dict[str, Any]) -> RenderableType:
    """Return what came of a run."""
    return say(
        f"{outcome['outcome']}: {outcome['text']}",
        f"{outcome['phase']}; version {outcome['live_version']} is live",
    )
