"""The command line of `undrift tune`; PyTorch and Ray are imported when it is called."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from undrift.cli.cluster import (
    AddressOption,
    AsJobOption,
    ByJobOption,
    JobOption,
    found_by_job,
    tell,
    travelling,
    worded,
)
from undrift.cli.views import ConfigOption, JsonOption, answer, error_console
from undrift.views import plain, read

if TYPE_CHECKING:
    from undrift.tune.run import Tuned, TuneOptions


def tune(
    config: ConfigOption = None,
    state: Annotated[str | None, typer.Option(help="State of another recording.")] = None,
    data: Annotated[Path | None, typer.Option(help="A labelled table to play instead.")] = None,
    label: Annotated[str | None, typer.Option(help="Its label column.")] = None,
    lag: Annotated[int | None, typer.Option(min=0, help="Rows before a label arrives.")] = None,
    search: Annotated[Path | None, typer.Option(help="YAML file of what to search.")] = None,
    expressions: Annotated[
        list[str] | None, typer.Option("--set", help="SECTION.KEY=uniform(0, 1); repeatable.")
    ] = None,
    trials: Annotated[int, typer.Option(min=1, help="Settings to try.")] = 20,
    seeds: Annotated[int, typer.Option(min=1, help="Plays of each finalist.")] = 3,
    held_out: Annotated[float, typer.Option(min=0.05, max=0.9, help="Last share, unseen.")] = 0.3,
    price: Annotated[
        float, typer.Option(min=0, help="Right answers that a second of training must earn.")
    ] = 0.0,
    pace: Annotated[float | None, typer.Option(min=0.1, help="Rows a second.")] = None,
    delay: Annotated[float | None, typer.Option(min=0, help="Seconds of a retraining.")] = None,
    parallel: Annotated[int | None, typer.Option(min=1, help="Plays at a time.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the search.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Else undrift.tuned.yaml.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Write it though not better.")] = False,
    by_job: ByJobOption = False,
    address: AddressOption = "",
    job: JobOption = None,
    as_job: AsJobOption = False,
    as_json: JsonOption = False,
) -> None:
    """Search settings over what was recorded, or a CSV, and write those that prove better."""
    from undrift.tune.run import TuneOptions, searched
    from undrift.tune.run import main as search_for
    from undrift.tune.views import Watcher, tuned_view

    options = TuneOptions(
        config=config,
        state=state,
        data=data,
        label=label,
        lag=lag,
        space=search,
        searched=tuple(expressions or ()),
        trials=trials,
        seeds=seeds,
        held_out=held_out,
        price=price,
        pace=pace,
        training_s=delay,
        parallel=parallel,
        seed=seed,
        out=out,
        force=force,
    )
    console = error_console()
    if by_job:
        found = _searched_by_job(options, address, job)
    else:
        with Watcher(console, price) as watcher:
            if as_job:
                tell(plain(searched(options, console, watcher, joined=True)))
                return
            found = search_for(options, console, watcher)
    answer(found.to_dict(), tuned_view(found), as_json)


def _searched_by_job(options: TuneOptions, address: str, job: str | None) -> Tuned:
    """Search on a cluster, and write here what proves better."""
    from undrift.tune.run import Tuned, checked, conclude

    checked(options)
    words, brought = travelling({"--data": options.data, "--search": options.space})
    words += worded(
        {
            "--label": options.label,
            "--lag": options.lag,
            "--trials": options.trials,
            "--seeds": options.seeds,
            "--held-out": options.held_out,
            "--price": options.price,
            "--pace": options.pace,
            "--delay": options.training_s,
            "--parallel": options.parallel,
            "--seed": options.seed,
        }
    )
    found = found_by_job(
        address,
        options.config,
        ["tune", *words, *(f"--set={one}" for one in options.searched)],
        changes=[] if options.state is None else [f"state={options.state}"],
        state_by="" if options.data else "--state",
        brought=brought,
        job=job,
    )
    return conclude(read(Tuned, found), options)
