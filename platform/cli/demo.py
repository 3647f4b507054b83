"""The command line of `undrift demo`; PyTorch and Ray are imported when it is called."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from undrift.cli.cluster import ChangesOption
from undrift.cli.views import JsonOption


def demo(
    stream: Annotated[str, typer.Argument(help="digits or flights; or see --data.")] = "digits",
    data: Annotated[Path | None, typer.Option(help="A labelled table to play instead.")] = None,
    label: Annotated[str | None, typer.Option(help="Its label column.")] = None,
    config: Annotated[
        Path | None, typer.Option("--config", "-c", help="Through your own model, of this file.")
    ] = None,
    lag: Annotated[int | None, typer.Option(min=0, help="Rows before a label arrives.")] = None,
    pace: Annotated[float | None, typer.Option(min=0.1, help="Rows a second.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of everything random.")] = 0,
    out: Annotated[Path, typer.Option(help="For state and report.")] = Path("undrift-demo"),
    workers: Annotated[int, typer.Option(min=1, help="Training processes.")] = 1,
    changes: ChangesOption = None,
    as_json: JsonOption = False,
) -> None:
    """Play a drifting stream through the whole loop, and write a report."""
    from undrift.demo.run import DemoOptions
    from undrift.demo.run import main as play

    options = DemoOptions(
        stream=stream,
        data=data,
        config=config,
        label=label,
        lag=lag,
        pace=pace,
        seed=seed,
        out=out,
        workers=workers,
        changes=tuple(changes or ()),
        as_json=as_json,
    )
    raise typer.Exit(play(options))
