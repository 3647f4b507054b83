"""`undrift demo`: plays a drifting stream through the whole platform and writes a report."""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import yaml
from rich.console import Console
from torch import nn

from undrift import app
from undrift.config import Config, load_config
from undrift.demo.driver import Driver, DriverSettings
from undrift.demo.report import write_report
from undrift.demo.result import DemoResult, Goal, summarise
from undrift.demo.view import watch
from undrift.errors import ConfigError
from undrift.model.artifacts import load_inputs
from undrift.model.network import load_weights
from undrift.replay.run import DEFAULT_LAG
from undrift.replay.sources import stream_for
from undrift.streams.csvfile import csv_stream
from undrift.streams.digits import digits
from undrift.streams.flights import flights
from undrift.streams.project import quick_sections, write_project
from undrift.streams.stream import Stream

# A change of the labels alone can be a drift at once, so a stream of one's own needs no warning.
# The flights hardly drift: there it is enough to be no worse than the frozen model, give or take.
GOALS = {
    "digits": Goal(min_gap_points=20.0),
    "flights": Goal(min_gap_points=-1.0, needed=("drift", "retraining", "promoted")),
    "csv": Goal(needed=("drift", "retraining", "promoted")),
}
PACE = {"digits": 75.0, "flights": 200.0, "csv": 150.0}
MARKER = "made-by-undrift-demo"


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoOptions:
    """What to play and how.

    Attributes:
        stream: ``digits`` or ``flights``; not used with ``data``.
        data: A labelled CSV file to play instead.
        config: Play it through the model of this configuration, in a state of the demo's own;
            without one, through a first model that is trained on it.
        label: Its label column; the last one if None.
        lag: Rows between a prediction and its label; None: the stream's own.
        pace: Rows a second; None: the stream's own.
        seed: Seed of the stream, the first model and its training.
        out: Folder for the project, the state, the result and the report.
        workers: Training processes.
        changes: Changes to the settings that the demo writes, as ``section.key=value``.
        as_json: Print the result as JSON instead of a summary.
    """

    stream: str = "digits"
    data: Path | None = None
    config: Path | None = None
    label: str | None = None
    lag: int | None = None
    pace: float | None = None
    seed: int = 0
    out: Path = Path("undrift-demo")
    workers: int = 1
    changes: tuple[str, ...] = ()
    as_json: bool = False


def main(options: DemoOptions) -> int:
    """Run one demo; returns 0 only if the loop closed.

    Raises:
        UndriftError: The options, the data or the machine do not allow it.
    """
    console = Console(stderr=options.as_json)
    kind = "csv" if options.data else options.stream
    pace = options.pace or PACE[kind]
    with console.status("making the first model ready"):
        stream, model, config = _own(options) if options.config else _first(options)
    folder = options.out / stream.name
    with app.up(config, lambda text: console.print(f"[dim]{text}[/dim]")) as handle:
        for note in handle.notes:
            console.print(note)
        driver = Driver(stream, model, handle.url, DriverSettings(rows_per_s=pace))
        recording = watch(driver, console)
    how = {
        "command": " ".join(["undrift", *sys.argv[1:]]),
        "pace": f"{pace:g} rows a second",
        "seed": str(options.seed),
        "training": f"{config.train.method}, {config.train.workers} worker(s)",
    }
    result = summarise(stream, recording, pace, how)
    (folder / "result.json").write_text(result.to_json(), encoding="utf-8")
    report = folder / "report.html"
    write_report(result, report, GOALS[kind])
    closed, missing = result.closed(GOALS[kind])
    if options.as_json:
        print(result.to_json())  # noqa: T201 - this is the command's output
    else:
        _tell(console, result, report, missing)
    return 0 if closed else 1


def _first(options: DemoOptions) -> tuple[Stream, nn.Module, Config]:
    """Train the first model of a stream, and return what is to be served."""
    stream = choose_stream(options)
    folder = options.out / stream.name
    _clear(folder)
    values, model = write_project(
        stream, folder, seed=options.seed, **quick_sections(options.workers)
    )
    path = folder / "undrift.yaml"
    path.write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
    return stream, model, load_config(path, options.changes)


def _own(options: DemoOptions) -> tuple[Stream, nn.Module, Config]:
    """Return a configured model, and a table as the stream that it meets."""
    if options.data is None:
        raise ConfigError("--config goes with --data FILE, the rows to play")
    config = load_config(options.config, options.changes)
    lag = DEFAULT_LAG if options.lag is None else options.lag
    stream = stream_for(config, options.data, options.label, lag)
    inputs = load_inputs(*config.artifacts)
    model = inputs.factory()
    load_weights(model, inputs.weights)
    folder = options.out / stream.name
    _clear(folder)
    state = (folder / "state").absolute()
    return stream, model.eval(), config.model_copy(update={"state": state})


def choose_stream(options: DemoOptions) -> Stream:
    """Return the stream that the options name.

    Raises:
        ConfigError: There is none of that name, or the file cannot be played.
    """
    if options.data is not None:
        lag = {} if options.lag is None else {"lag": options.lag}
        return csv_stream(options.data, options.label, seed=options.seed, **lag)
    if options.stream == "digits":
        lag = {} if options.lag is None else {"lag": options.lag}
        return digits(seed=options.seed, **lag)
    if options.stream == "flights":
        if options.lag is not None:
            raise ConfigError("--lag: a flight's label arrives when it lands; leave --lag out")
        return flights(seed=options.seed)
    raise ConfigError(f"no demo {options.stream!r}; there are digits, flights, and --data FILE.csv")


def _clear(folder: Path) -> None:
    """Remove an earlier demo's folder, and nothing else."""
    marker = folder / MARKER
    if folder.exists() and any(folder.iterdir()) and not marker.exists():
        raise ConfigError(f"{folder} is not empty and not from a demo; name another with --out")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    marker.touch()


def _tell(console: Console, result: DemoResult, report: Path, missing: list[str]) -> None:
    last = result.fifths[-1]
    console.print(
        f"\n{result.measure} over the last fifth: [bold]{last.ours:.1%}[/bold], "
        f"frozen model {last.frozen:.1%} ({last.gap_points:+.1f} points)"
    )
    counts = result.counts
    console.print(
        f"{counts['warning']} warnings, {counts['drift']} drifts, "
        f"{counts['retraining']} retrainings, {counts['promoted']} promotions, "
        f"{counts['rolled_back']} rollbacks; {result.failed_requests} failed requests"
    )
    for note in result.notes:
        console.print(note, style="dim", markup=False)
    console.print(f"report: [link=file://{report.absolute()}]{report}[/link]")
    for what in missing:
        console.print(f"[red]the loop did not close: {what}[/red]")
