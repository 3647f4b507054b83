"""The verb that serves: in the foreground, detached, on a cluster, or once more on what runs."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Annotated

import typer

from undrift.cli.cluster import deploy_on, say_stage
from undrift.cli.models import tell_changes
from undrift.cli.views import ConfigOption, JsonOption, answer, error_console, say
from undrift.config import ALONE, Wanted, find_config, load_config, wanted
from undrift.fleet.door import ask
from undrift.host.daemon import start_detached
from undrift.host.process import ProcessFile


def up(
    config: ConfigOption = None,
    detach: Annotated[
        bool, typer.Option("--detach", "-d", help="Return when it is ready; it runs on.")
    ] = False,
    address: Annotated[
        str | None,
        typer.Option(envvar="RAY_ADDRESS", help="Deploy on this running Ray cluster, and return."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Serve the model until Ctrl-C, and keep it true; or deploy it on a running Ray cluster.

    Where several models run already, they are made what the file says now.
    """
    path = find_config(config)
    if address and address != "local":
        deploy_on(load_config(path, way_out=ALONE), address, as_json)
        return
    found = wanted(path)
    running = ProcessFile.of(found.platform).running()
    if running and not running.cluster and found.may_be_several:
        tell_changes(ask(running.pid, {"verb": "up"}, say_stage), as_json)
        return
    if detach:
        with error_console().status("starting"):
            record = start_detached(path, found.platform)
        problems = (
            {} if found.is_alone else ask(record.pid, {"verb": "list"}, say_stage)["problems"]
        )
        _tell_ready(found, record.url, record.pid, problems, as_json)
        return
    _serve(path, found, as_json)


def _serve(path: Path, found: Wanted, as_json: bool) -> None:
    """Serve in this process until Ctrl-C."""
    from undrift.fleet.up import up as run

    with run(path, say_stage) as fleet:
        for note in fleet.handle.notes:
            error_console().print(note, style="yellow", markup=False)
        _tell_ready(found, fleet.handle.url, os.getpid(), fleet.problems, as_json)
        try:
            fleet.wait()
        except KeyboardInterrupt:
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # one is enough: let it stop in order
    raise typer.Exit(130)


def _tell_ready(found: Wanted, url: str, pid: int, problems: dict[str, str], as_json: bool) -> None:
    config, stop = found.platform, "stop it with Ctrl-C, or: undrift down"
    for name, problem in problems.items():
        error_console().print(f"model {name!r} does not run: {problem}", style="red", markup=False)
    names = [name for name in found.names if name not in problems]
    data = {"url": url, "pid": pid, "model": names[0], "state": str(config.state)}
    if not found.is_alone:
        data |= {"models": names, "problems": problems}
    answer(data, say(*(f"ready at {url}/v2/models/{n}/infer" for n in names), stop), as_json)
