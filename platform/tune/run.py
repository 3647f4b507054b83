"""`undrift tune`: from options to a verdict, and to a configuration if it is worth writing."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from undrift.config import ALONE, CONFIG_NAME, CONFIG_VARIABLE, Config, find_config, load_config
from undrift.errors import ConfigError
from undrift.replay.loop import Pace
from undrift.replay.sources import recording_folder, stream_for
from undrift.streams.stream import Stream
from undrift.tune.history import History, recorded_stream, split_at, write_first
from undrift.tune.play import Memory, Tally, frozen_tally
from undrift.tune.rewrite import HEAD, write_tuned
from undrift.tune.space import Settings, checked_space, read_space
from undrift.tune.trials import Listener, Tuning, joining, started
from undrift.tune.verdict import Outcome, Verdict, decide, evidence, finalists

DEFAULT_LAG = 200
TUNED_NAME = "undrift.tuned.yaml"


@dataclass(frozen=True, slots=True, kw_only=True)
class TuneOptions:
    """What to search, over which history.

    Attributes:
        config: The YAML file; None: found as usual, and for a CSV file not needed.
        state: State folder of a recording; None: the configured one.
        data: A labelled CSV file to play instead of a recording.
        label: Its label column.
        lag: Rows between a prediction and its label; None: 200.
        space: A YAML file of expressions.
        searched: More of them, each as ``section.key=expression``.
        trials: Settings to try.
        seeds: Plays of each finalist and of the present configuration.
        held_out: Share of the rows, the last ones, that the search does not see.
        price: Right answers that a second of training must be worth.
        pace: Rows a second; None: 150, or as recorded.
        training_s: Seconds from the order of a retraining to its candidate; None: 3, or as
            recorded.
        parallel: Plays at a time; None: one a core.
        seed: Seed of the search, and of a first model that is trained here.
        out: The tuned file; None: `undrift.tuned.yaml` beside the configuration, without one
            in `undrift-tune`.
        force: Write it whatever the verdict.
    """

    config: Path | None = None
    state: str | None = None
    data: Path | None = None
    label: str | None = None
    lag: int | None = None
    space: Path | None = None
    searched: tuple[str, ...] = ()
    trials: int = 20
    seeds: int = 3
    held_out: float = 0.3
    price: float = 0.0
    pace: float | None = None
    training_s: float | None = None
    parallel: int | None = None
    seed: int = 0
    out: Path | None = None
    force: bool = False


@dataclass(frozen=True, slots=True)
class Tuned:
    """What a tuning found.

    Attributes:
        outcome: Trials, contenders and verdict.
        before: Present values of the keys that the winner changes.
        frozen: The held-out part as answered by the first version alone.
        rows: What was searched and what was held out, as a sentence.
        notes: What was done to a file of rows, a sentence each.
        written: The tuned file, None if it was not worth writing.
        config: The present configuration's file.
    """

    outcome: Outcome
    before: dict[str, Any]
    frozen: Tally
    rows: str
    notes: tuple[str, ...]
    written: Path | None
    config: Path

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "config": str(self.config),
            "rows": self.rows,
            "notes": list(self.notes),
            **self.outcome.to_dict(),
            "before": self.before,
            "frozen_accuracy": self.frozen.accuracy,
            "written": None if self.written is None else str(self.written),
        }


def main(options: TuneOptions, console: Console, listener: Listener) -> Tuned:
    """Search, judge, and write the winner if it is better.

    Args:
        options: What to search, and where.
        console: Where the training of a first model is shown.
        listener: Told of every play.

    Raises:
        UndriftError: The options, the files or the history do not allow it.
    """
    return conclude(searched(options, console, listener), options)


def checked(options: TuneOptions) -> None:
    """Check what can be said before anything is read.

    Raises:
        ConfigError: The options do not go together, or the tuned file may not be written.
    """
    _check(options)
    _paths(options)


def searched(
    options: TuneOptions, console: Console, listener: Listener, *, joined: bool = False
) -> Tuned:
    """Search and judge, as `main` does; nothing is written but the plays.

    Args:
        options: What to search, and where.
        console: Where the training of a first model is shown.
        listener: Told of every play.
        joined: Play on the Ray cluster that this process belongs to, on the same node.
    """
    _check(options)
    path, out = _paths(options)
    stream = _first(options, path, console) if _alone(options) else None
    if stream is None and load_config(path, way_out=ALONE).model.is_regression:
        raise ConfigError(
            "undrift tune compares shares of right answers, which a regression has not; compare "
            "settings by undrift replay --retrain, which tells R2"
        )
    space = checked_space(read_space(options.space, options.searched, load_config(path)), path)
    history = _history(options, path, stream)
    memory = Memory(out.with_suffix(".plays"), history)
    parallel = options.parallel or os.cpu_count() or 1
    with joining() if joined else started(parallel) as asks:
        tuning = Tuning(memory, listener, parallel, asks)
        trials = tuning.search(space, options.trials, options.seed)
        best = finalists(trials, options.price)
        contenders = tuning.repeat([{}, *best], options.seeds)
    outcome = decide(trials, contenders, options.price)
    before = _present(load_config(path), outcome.winner.settings)
    rows = (
        f"Searched on rows 0 to {history.split:,} of {history.stream.title}; "
        f"held out: the {len(history.stream) - history.split:,} rows after them."
    )
    return Tuned(outcome, before, frozen_tally(history), rows, history.stream.notes, None, path)


def conclude(found: Tuned, options: TuneOptions) -> Tuned:
    """Write the winner of a search beside the configuration here, if it is better or forced.

    Raises:
        ConfigError: The configuration cannot be edited.
    """
    path, out = _paths(options)
    outcome = found.outcome
    wanted = options.force or outcome.verdict is Verdict.BETTER
    if wanted:
        told = evidence(outcome, found.before, found.rows)
        write_tuned(path, out, outcome.winner.settings, told)
    return replace(found, written=out if wanted else None, config=path)


def _check(options: TuneOptions) -> None:
    if options.data is None:
        for name, value in {"--label": options.label, "--lag": options.lag}.items():
            if value is not None:
                raise ConfigError(f"{name} goes with --data FILE.csv, not with a recording")
    elif options.state is not None:
        raise ConfigError("--state names a recording and --data a file; tune on one at a time")


def _paths(options: TuneOptions) -> tuple[Path, Path]:
    """Return the configuration's file, which is still to be made for a CSV file alone; and the out.

    What an earlier run made beside its plays is made again, the same as before.
    """
    if _alone(options):
        out = (options.out or Path("undrift-tune", TUNED_NAME)).absolute()
        path = out.parent / CONFIG_NAME
        if out.parent == Path.cwd() or (path.exists() and not out.with_suffix(".plays").is_dir()):
            raise ConfigError(
                f"--out {out}: name a file in a folder of its own; the first model goes there"
            )
    else:
        path = find_config(options.config)
        out = (options.out or path.parent / TUNED_NAME).absolute()
    if out == path or out.parent != path.parent:
        raise ConfigError(
            f"--out {out}: name another file beside {path}; paths in it start at its folder"
        )
    if out.is_file() and not out.read_text(encoding="utf-8", errors="replace").startswith(HEAD):
        raise ConfigError(f"--out {out}: it is there, and not from `undrift tune`")
    return path, out


def _alone(options: TuneOptions) -> bool:
    """Whether there is a CSV file and no configuration."""
    named = options.config is not None or bool(os.environ.get(CONFIG_VARIABLE))
    return options.data is not None and not named and not Path(CONFIG_NAME).is_file()


def _first(options: TuneOptions, path: Path, console: Console) -> Stream:
    assert options.data is not None
    with console.status("training the first model"):
        return write_first(options.data, options.label, _lag(options), options.seed, path.parent)


def _lag(options: TuneOptions) -> int:
    return DEFAULT_LAG if options.lag is None else options.lag


def _history(options: TuneOptions, path: Path, stream: Stream | None) -> History:
    config, pace, state, version = load_config(path), Pace(), None, 1
    if options.data is None:
        state = recording_folder(config, options.state)
        stream, pace, version = recorded_stream(config, state)
    elif stream is None:
        stream = stream_for(config, options.data, options.label, _lag(options))
    pace = Pace(
        options.pace or pace.rows_per_s,
        pace.training_s if options.training_s is None else options.training_s,
    )
    return History(stream, path, split_at(stream, options.held_out), pace, state, version)


def _present(config: Config, settings: Settings) -> dict[str, Any]:
    keys = (name.partition(".") for name in settings)
    return {f"{section}.{key}": getattr(getattr(config, section), key) for section, _, key in keys}
