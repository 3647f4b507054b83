"""The command line of `undrift replay`; PyTorch is imported when it is called."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from undrift.cli.cluster import (
    AddressOption,
    AsJobOption,
    ByJobOption,
    ChangesOption,
    JobOption,
    found_by_job,
    tell,
    travelling,
    worded,
)
from undrift.cli.views import ConfigOption, JsonOption, ModelOption, answer, error_console

if TYPE_CHECKING:
    from undrift.replay.run import Replayed, ReplayOptions


def replay(
    config: ConfigOption = None,
    model: ModelOption = None,
    state: Annotated[str | None, typer.Option(help="State of another recording.")] = None,
    data: Annotated[Path | None, typer.Option(help="A labelled table to play instead.")] = None,
    label: Annotated[str | None, typer.Option(help="Its label column.")] = None,
    lag: Annotated[int | None, typer.Option(min=0, help="Rows before a label arrives.")] = None,
    changes: ChangesOption = None,
    retrain: Annotated[bool, typer.Option("--retrain", help="Retrain after drifts.")] = False,
    pace: Annotated[float, typer.Option(min=0.1, help="Rows a second of the CSV.")] = 150.0,
    delay: Annotated[float, typer.Option(min=0, help="Seconds that a retraining takes.")] = 3.0,
    seed: Annotated[int, typer.Option(help="Seed of a first model trained on the CSV.")] = 0,
    plot: Annotated[Path | None, typer.Option(help="Draw the signals: .svg or .png.")] = None,
    by_job: ByJobOption = False,
    address: AddressOption = "",
    job: JobOption = None,
    as_job: AsJobOption = False,
    as_json: JsonOption = False,
) -> None:
    """Run what was recorded, or a CSV, through a drift policy: what would have happened?"""
    from undrift.replay.run import ReplayOptions
    from undrift.replay.run import main as play
    from undrift.replay.views import replay_view

    options = ReplayOptions(
        config=config,
        model=model,
        state=state,
        data=data,
        label=label,
        lag=lag,
        changes=tuple(changes or ()),
        retrain=retrain,
        pace=pace,
        training_s=delay,
        seed=seed,
        plot=plot,
    )
    if by_job:
        found = _replayed_by_job(options, address, job)
    else:
        found = play(options, error_console())
        if as_job:
            from undrift.replay.travel import pack

            tell(pack(found, plot))
            return
    answer(found.to_dict(), replay_view(found), as_json)


def _replayed_by_job(options: ReplayOptions, address: str, job: str | None) -> Replayed:
    """Replay on a cluster, and write the picture here."""
    from undrift.replay.run import checked
    from undrift.replay.travel import unpack

    checked(options)
    words, brought = travelling({"--data": options.data})
    words += worded(
        {
            "--label": options.label,
            "--lag": options.lag,
            "--pace": options.pace,
            "--delay": options.training_s,
            "--seed": options.seed,
            "--plot": options.plot and f"plot{options.plot.suffix}",
        }
    )
    found = found_by_job(
        address,
        options.config,
        ["replay", *words, *(["--retrain"] if options.retrain else [])],
        changes=[*options.changes, *([f"state={options.state}"] if options.state else [])],
        state_by="" if options.data else "--state",
        brought=brought,
        job=job,
    )
    return unpack(found, str(options.data or ""), options.plot)
