"""The verbs that deploy on a Ray cluster that runs already."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from undrift.cli.views import JsonOption, answer, error_console, in_bytes, say
from undrift.config import Config
from undrift.errors import ConfigError

if TYPE_CHECKING:
    from undrift.jobs.submit import Cargo, Jobs

ByJobOption = Annotated[bool, typer.Option("--submit", help="Run it as a job, at --address.")]
AddressOption = Annotated[str, typer.Option(help="As http://HEAD:8265.")]
JobOption = Annotated[
    str | None, typer.Option("--job", help="With --submit: of one that runs already.")
]
AsJobOption = Annotated[bool, typer.Option("--as-job", hidden=True)]
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

    jobs = Jobs(address)
    with packed(config, changes or (), brought) as cargo:
        job = _handed_in(jobs, cargo, verb)
    look = _look(address, job)
    status = "submitted"
    if wait:
        _followed(jobs, job, verb)
        status = "succeeded"
    travelled = {
        "project_files": cargo.project_files,
        "project_bytes": cargo.project_bytes,
        "package_bytes": cargo.package_bytes,
    }
    lines = [f"job {job} {status}", *([] if wait else [f"look at it with: {look}"])]
    told = {"job": job, "status": status, "address": address, "travelled": travelled}
    answer(told, say(*lines), as_json)


def found_by_job(
    address: str,
    config: Path | None,
    verb: list[str],
    *,
    changes: list[str],
    state_by: str,
    brought: dict[str, Path],
    job: str | None,
) -> Any:
    """Run a verb as a job, show what it says, and return what it found; Ctrl-C leaves it running.

    Args:
        address: The cluster's dashboard.
        config: The YAML file.
        verb: The verb and its arguments.
        changes: What to set instead.
        state_by: The option that names the state that it reads; empty: it reads none.
        brought: More files to travel with the project, by their names there.
        job: One that was handed in before, to be followed instead.

    Returns:
        The JSON values that the verb gave to `tell`.

    Raises:
        PlatformError: The cluster does not answer, or the job failed.
        Exit: Ctrl-C, with code 130.
    """
    from pydantic_core import from_json

    from undrift.jobs.result import result_in
    from undrift.jobs.submit import Jobs, packed

    jobs = Jobs(address)
    if job is None:
        with packed(config, changes, brought, state_by) as cargo:
            job = _handed_in(jobs, cargo, [*verb, "--as-job"])
    later = f"; the same command with `--job {job}` brings its result"
    return from_json(result_in(_followed(jobs, job, verb, later)))


def travelling(files: dict[str, Path | None]) -> tuple[list[str], dict[str, Path]]:
    """Return options that name files as they are called in the job's copy, and those files.

    Raises:
        ConfigError: One is not there.
    """
    words, brought = [], {}
    for option, path in files.items():
        if path is None:
            continue
        if not path.is_file():
            raise ConfigError(f"{path}: no such file")
        name = f"brought/{path.name}"
        words.append(f"{option}={name}")
        brought[name] = path
    return words, brought


def worded(options: dict[str, Any]) -> list[str]:
    """Return options for a command line, those that are None left out."""
    return [f"{name}={value}" for name, value in options.items() if value is not None]


def tell(found: Any) -> None:
    """Hand what a verb found to whoever submitted it, as JSON values."""
    from pydantic_core import to_json

    from undrift.jobs.result import lines

    for line in lines(to_json(found, inf_nan_mode="constants")):
        sys.stdout.write(line)
        sys.stdout.flush()


def _handed_in(jobs: Jobs, cargo: Cargo, verb: list[str]) -> str:
    console = error_console()
    console.print(
        f"what travels: the project, {cargo.project_files} files of "
        f"{in_bytes(cargo.project_bytes)}, and undrift, {in_bytes(cargo.package_bytes)}",
        style="dim",
        markup=False,
    )
    with console.status(f"handing the project to {jobs.address}"):
        return jobs.submit(cargo, verb)


def _followed(jobs: Jobs, job: str, verb: list[str], later: str = "") -> str:
    console = error_console()
    try:
        console.print(f"job {job}: undrift {' '.join(verb)}", markup=False)
        return jobs.follow(job, lambda text: console.print(text, end="", style="dim", markup=False))
    except KeyboardInterrupt:
        look = _look(jobs.address, job)
        console.print(f"job {job} goes on; look at it with `{look}`{later}", markup=False)
        raise typer.Exit(130) from None


def _look(address: str, job: str) -> str:
    return f"ray job logs --follow --address {address} {job}"
