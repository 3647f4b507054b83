"""The verbs for the models of one platform: listed, added and removed while others serve."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from undrift.cli.cluster import say_stage
from undrift.cli.views import ConfigOption, JsonOption, answer, error_console, say
from undrift.client import Client
from undrift.config import Added, Wanted, find_config, wanted
from undrift.errors import PlatformError
from undrift.fleet.door import ask
from undrift.host.process import ProcessFile, ProcessRecord

app = typer.Typer(help="The models of one platform: list, add, remove.")


@dataclass(frozen=True)
class Row:
    """One model in the list.

    Attributes:
        name: Its name.
        url: Where it answers.
        version: The live version.
        replicas: How many have it, of how many there shall be.
        drift: The level of the evidence.
        state: The phase of its lifecycle, or what is wrong.
        config: Its YAML file.
    """

    name: str
    url: str
    version: int | None
    replicas: str
    drift: str
    state: str
    config: str


@app.callback(invoke_without_command=True)
def models(
    context: typer.Context, config: ConfigOption = None, as_json: JsonOption = False
) -> None:
    """List the models: where each answers, its version, its replicas, drift and state."""
    if context.invoked_subcommand is None:
        found = wanted(config)
        rows = list(_rows(found))
        answer(rows, _view(rows), as_json)


@app.command()
def add(
    file: Annotated[Path, typer.Argument(metavar="CONFIG", help="The YAML file of the model.")],
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Serve the models of another file, too; or serve one anew after a change of it."""
    found, path = wanted(config), find_config(file)
    after = found.adding(path)  # what is wrong with the file is told here, whatever runs
    running = _running(found)
    if running is None:
        _for_later(after, found, as_json)
        return
    tell_changes(ask(running.pid, {"verb": "add", "file": str(path)}, say_stage), as_json)


@app.command()
def remove(
    name: Annotated[str, typer.Argument(help="Its name.")],
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Serve a model no more; its state is kept."""
    found = wanted(config)
    after = found.removing(name)
    running = _running(found)
    if running is None:
        _for_later(after, found, as_json)
        return
    tell_changes(ask(running.pid, {"verb": "remove", "name": name}, say_stage), as_json)


def tell_changes(done: dict[str, Any], as_json: bool) -> None:
    """Tell what became of each model; code 1 if one has a problem.

    Args:
        done: The fields of `undrift.fleet.fleet.Changes`.
        as_json: Whether to tell as JSON.
    """
    for note in done["notes"]:
        error_console().print(note, style="yellow", markup=False)
    for name, problem in done["problems"].items():
        error_console().print(f"error: model {name!r}: {problem}", style="red", markup=False)
    lines = [f"{what} {name}" for what in ("added", "changed") for name in done[what]]
    lines += [f"removed {n}; its state is kept in {kept}" for n, kept in done["removed"].items()]
    answer(done, say(*(lines or ["nothing has changed"])), as_json)
    if done["problems"]:
        raise typer.Exit(1)


def _for_later(after: Added, found: Wanted, as_json: bool) -> None:
    """Keep what the next start shall do."""
    after.write(found.platform)
    told = "nothing runs; it takes effect at the next `undrift up`"
    answer({"models": after, "running": False}, say(told), as_json)


def _running(found: Wanted) -> ProcessRecord | None:
    """Return the process that runs the platform.

    Raises:
        PlatformError: It is a Ray cluster.
    """
    record = ProcessFile.of(found.platform).running()
    if record is not None and record.cluster:
        raise PlatformError(
            f"it runs on the Ray cluster at {record.cluster}, where each model is a platform of "
            "its own: `undrift submit` and `undrift down`"
        )
    return record


def _rows(found: Wanted) -> list[Row]:
    running = _running(found)
    routes, problems = dict[str, str](), dict(found.broken)
    if running is not None:
        told = ask(running.pid, {"verb": "list"}, say_stage)
        routes, problems = told["routes"], problems | told["problems"]
    names = [*found.files, *(name for name in routes if name not in found.files)]
    rows = []
    for name in names:
        file = str(found.files.get(name, ""))
        wrong = problems.get(name, "" if running else "nothing runs")
        if name not in routes:
            rows.append(Row(name, "", None, "", "", wrong or "`undrift up` again", file))
            continue
        assert running is not None
        rows.append(_served(found, name, running.url, file, wrong))
    return rows


def _served(found: Wanted, name: str, url: str, file: str, wrong: str) -> Row:
    """Return what a model that was started says of itself."""
    where = f"{url}/v2/models/{name}"
    config = found.models.get(name)
    if config is None:
        return Row(name, where, None, "", "", wrong or "`undrift up` again", file)
    try:
        with Client.of(config) as client:
            status = client.status()
            drift = client.drift().level
    except PlatformError as error:
        return Row(name, where, None, "", "", str(error), file)
    has = sum(version == status.live_version for version in status.replicas.values())
    replicas = f"{has}/{config.serve.replicas}"
    return Row(name, where, status.live_version, replicas, drift, wrong or status.phase, file)


def _view(rows: list[Row]) -> RenderableType:
    table = Table("name", "address", "version", "replicas", "drift", "state")
    for row in rows:
        version = "-" if row.version is None else str(row.version)
        state = Text(row.state, style="" if row.version is not None else "red")
        table.add_row(row.name, row.url or "-", version, row.replicas, row.drift, state)
    return table
