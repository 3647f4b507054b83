"""The verbs that deploy on a Ray cluster that runs already."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from undrift.cli.views import JsonOption, answer, error_console, in_bytes, say
from undrift.config import Config

ChangesOption = Annotated[
    list[str] | None, typer.Option("--set", help="SECTION.KEY=VALUE instead; repeatable.")
]


def say_stage(text: str) -> None:
    """Tell that a stage of the start begins."""
    error_console().print(text, style="dim", markup=False)


def deploy_on(config: Config, address: str, as_json: bool) -> None:
    """Deploy on a running cluster, and tell where it answers."""
    from undrift.jobs.deploy import deploy

    done = deploy(config, address, say_stage)
    for note in done.notes:
        error_console().print(note, style="yellow", markup=False)
    model = config.model.name
    data = {"url": done.url, "cluster": done.cluster, "model": model, "state": str(config.state)}
    view = say(
        f"ready at {done.url}/v2/models/{model}/infer",
        f"it stays on the Ray cluster at {done.cluster}; remove it with: undrift down",
    )
    answer(data, view, as_json)


def remove_from(config: Config, address: str, as_json: bool) -> None:
    """Remove the platform from a cluster, and tell so."""
    from undrift.jobs.deploy import remove

    remove(config, address)
    text = f"removed from the Ray cluster at {address}; the cluster runs on"
    answer({"removed_from": address}, say(text), as_json)


def submit(
    address: Annotated[str, typer.Option(help="The cluster's dashboard, as http://HEAD:8265.")],
    config: Annotated[
        Path | None, typer.Argument(help="The YAML file; else $UNDRIFT_CONFIG, ./undrift.yaml.")
    ] = None,
    changes: ChangesOption = None,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Return at once.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Deploy or update the platform on a running Ray cluster, by a Ray job."""
    run_job(address, config, changes, ["up"], wait=not no_wait, as_json=as_json)


def run_job(
    address: str,
    config: Path | None,
    changes: list[str] | None,
    verb: list[str],
    *,
    brought: dict[str, Path] | None = None,
    wait: bool = True,
    as_json: bool = False,
) -> None:
    """Run a verb as a job and show what it says; Ctrl-C leaves it running.

    Args:
        address: The cluster's dashboard.
        config: The YAML file.
        changes: What to set instead.
        verb: The verb and its arguments.
        brought: More files to travel with the project, by their names there.
        wait: Whether to wait for its end.
        as_json: Whether to tell as JSON.

    Raises:
        Exit: Ctrl-C, with code 130.
    """
    from undrift.jobs.submit import Jobs, packed

    console = error_console()
    jobs = Jobs(address)
    with packed(config, changes or (), brought) as cargo:
        console.print(
            f"what travels: the project, {cargo.project_files} files of "
            f"{in_bytes(cargo.project_bytes)}, and undrift, {in_bytes(cargo.package_bytes)}",
            style="dim",
            markup=False,
        )
        travelled = {
            "project_files": cargo.project_files,
            "project_bytes": cargo.project_bytes,
            "package_bytes": cargo.package_bytes,
        }
        with console.status(f"handing the project to {address}"):
            job = jobs.submit(cargo, verb)
    look = f"ray job logs --follow --address {address} {job}"
    status = "submitted"
    if wait:
        console.print(f"job {job}: undrift {' '.join(verb)}", markup=False)
        try:
            jobs.follow(job, lambda text: console.print(text, end="", style="dim", markup=False))
        except KeyboardInterrupt:
            console.print(f"job {job} goes on; look at it with `{look}`", markup=False)
            raise typer.Exit(130) from None
        status = "succeeded"
    lines = [f"job {job} {status}", *([] if wait else [f"look at it with: {look}"])]
    told = {"job": job, "status": status, "address": address, "travelled": travelled}
    answer(told, say(*lines), as_json)
