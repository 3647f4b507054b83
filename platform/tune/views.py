"""What `undrift tune` shows while it runs and when it is done."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from undrift.tune.play import Play, Tally
from undrift.tune.run import Tuned
from undrift.tune.verdict import Verdict, spread

TRIALS_SHOWN = 10


class Watcher:
    """A line that tells how far the plays are, and the best score so far.

    Args:
        console: Where to show it; nothing is shown unless it is a terminal.
        price: Right answers that a second of training must be worth.
    """

    def __init__(self, console: Console, price: float) -> None:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[plays]}"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[best]}"),
        )
        self._bar = Progress(
            *columns, console=console, transient=True, disable=not console.is_terminal
        )
        self._price = price
        self._shares: dict[str, float] = {}
        self._task = self._bar.add_task("starting Ray", total=None, plays="", best="")
        self._plays, self._best = 0, float("-inf")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def begin(self, what: str, plays: int) -> None:
        """So many plays come next."""
        self._shares, self._plays = {}, plays
        self._bar.reset(self._task, total=plays, description=what, plays=f"0 of {plays}")

    def tell(self, name: str, share: float, found: Play | None) -> None:
        """A play has come so far, and at its end to this."""
        self._shares[name] = share
        if found is not None and found.search is not None:
            self._best = max(self._best, found.search.score(self._price))
        done = sum(share >= 1.0 for share in self._shares.values())
        best = f"best {self._best:.1%}" if self._best > float("-inf") else ""
        self._bar.update(
            self._task,
            completed=sum(self._shares.values()),
            plays=f"{done} of {self._plays}",
            best=best,
        )


def tuned_view(tuned: Tuned) -> RenderableType:
    """Return the best trials, the comparison on the held-out part, and what to do."""
    outcome = tuned.outcome
    best = outcome.verdict is Verdict.BETTER
    lines = [f"{outcome.verdict}: {outcome.reason}"]
    if tuned.written is None:
        lines.append(f"keep {tuned.config.name}; nothing was written (--force writes the winner)")
    else:
        lines.append(f"written: {tuned.written}; compare it with {tuned.config.name}, then use it")
        lines += [] if best else ["not recommended: it was written because of --force"]
    style = "green" if best else "yellow"
    return Group(
        *(Text(line, style="dim") for line in (tuned.rows, *tuned.notes)),
        _trials(tuned),
        _comparison(tuned),
        *(Text(line, style=style) for line in lines),
    )


def _trials(tuned: Tuned) -> RenderableType:
    outcome = tuned.outcome
    ranked = sorted(outcome.trials, key=lambda trial: -trial.score(outcome.price))
    table = Table("searched", "drifts", "trainings", "settings", title="best trials, one seed")
    for trial in ranked[:TRIALS_SHOWN]:
        if (found := trial.play.search) is not None:
            table.add_row(
                f"{found.accuracy:.1%}",
                str(found.drifts),
                f"{found.retrainings}, {found.training_s:.0f} s",
                ", ".join(f"{key.partition('.')[2]} {v}" for key, v in trial.settings.items()),
            )
    failed = [trial.play.error for trial in ranked if trial.play.error]
    note = Text(f"{len(failed)} could not be played: {failed[0]}" if failed else "", style="red")
    return Group(table, note) if failed else table


def _comparison(tuned: Tuned) -> RenderableType:
    outcome = tuned.outcome
    seeds = len(outcome.gains)
    table = Table("", "present", "winner", title=f"median (lowest to highest) of {seeds} seeds")
    both = (outcome.present, outcome.winner)
    table.add_row("accuracy, searched", *(_accuracy(each.searched) for each in both))
    table.add_row("accuracy, held out", *(_accuracy(each.held_out) for each in both))
    table.add_row("  of the first version, frozen", f"{tuned.frozen.accuracy:.1%}")
    for name in ("warnings", "drifts", "retrainings", "promotions", "rollbacks", "training_s"):
        cells = (f"{median(_values(each.held_out, name)):.3g}" for each in both)
        table.add_row(f"{name.replace('_s', ', seconds')}, held out", *cells, style="dim")
    for key, value in outcome.winner.settings.items():
        table.add_row(key, str(tuned.before[key]), value)
    return table


def _accuracy(tallies: Sequence[Tally]) -> str:
    return spread([tally.accuracy for tally in tallies])


def _values(tallies: Sequence[Tally], name: str) -> list[float]:
    return [getattr(tally, name) for tally in tallies]
