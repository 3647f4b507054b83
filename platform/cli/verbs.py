"""The command line. Nothing here decides anything; every verb is also a Python function.

PyTorch and Ray are imported inside the verbs that need them, so that the others start at once.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from undrift.cli.cluster import ChangesOption, remove_from, run_job, submit
from undrift.cli.config import app as config_app
from undrift.cli.demo import demo
from undrift.cli.existing import init_existing
from undrift.cli.follow import follow, outcome_view
from undrift.cli.health import doctor, repair
from undrift.cli.k8s import app as k8s_app
from undrift.cli.labels import app as labels_app
from undrift.cli.models import app as models_app
from undrift.cli.promote import promote
from undrift.cli.rebuild import rebuild
from undrift.cli.replay import replay
from undrift.cli.token import token
from undrift.cli.tune import tune
from undrift.cli.up import up
from undrift.cli.views import (
    ConfigOption,
    JsonOption,
    ModelOption,
    audit_view,
    drift_view,
    error_console,
    say,
    status_line,
    status_view,
    versions_view,
)
from undrift.cli.views import answer as _answer
from undrift.cli.why import why
from undrift.client import Client
from undrift.config import Config, load_config, load_model, wanted
from undrift.errors import PlatformError, UndriftError, last_line
from undrift.host.process import ProcessFile

TEMPLATES = Path(__file__).parents[1] / "starter"
WRITTEN = ("undrift.yaml", "model.py")
STARTER = (*WRITTEN, "weights.safetensors", "reference.npz")


class _Verbs(TyperGroup):
    """Turns errors meant for a person into red lines and exit code 1, never a traceback."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise
        except (UndriftError, OSError) as error:
            for line in str(error).splitlines():
                error_console().print(f"error: {line}", style="red", markup=False)
            raise typer.Exit(1) from None


app = typer.Typer(
    cls=_Verbs,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Serve a PyTorch model, notice drift, retrain, and swap the weights.",
)
app.add_typer(config_app, name="config")
app.add_typer(k8s_app, name="k8s")
app.add_typer(labels_app, name="labels")
app.add_typer(models_app, name="models")


def main() -> None:
    """Run the command line."""
    app()


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"undrift {installed_version('undrift')}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(help="Where to write; made if missing.")] = Path(),
    force: Annotated[bool, typer.Option("--force", help="Overwrite what is there.")] = False,
    model: Annotated[
        str | None, typer.Option("--from-model", help="Your own: module:function, in the folder.")
    ] = None,
    weights: Annotated[str | None, typer.Option(help="Its weights; as for promote.")] = None,
    reference: Annotated[Path | None, typer.Option(help="A labelled table, or .npz.")] = None,
    label: Annotated[str | None, typer.Option(help="Label column of the table.")] = None,
    input_shape: Annotated[str, typer.Option(help="Of one row, as 3,32,32.")] = "",
    as_json: JsonOption = False,
) -> None:
    """Write a configuration and a small trained model that run as they are, or of your own."""
    if model is not None:
        init_existing(folder, model, weights, reference, label, input_shape, force, as_json)
        return
    there = [name for name in STARTER if (folder / name).exists()]
    if there and not force:
        raise PlatformError(f"{folder.resolve()} has {', '.join(there)}; --force overwrites")
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        made = Path(scratch)
        for name in WRITTEN:
            shutil.copyfile(TEMPLATES / name, made / name)
        with error_console().status("training the starter model"):
            run = subprocess.run(
                [sys.executable, "model.py"], cwd=made, capture_output=True, text=True, check=False
            )
        if run.returncode:
            raise PlatformError(f"the starter model failed: {last_line(run.stderr)}")
        for name in STARTER:
            shutil.copyfile(made / name, folder / name)
    first = "" if folder.resolve() == Path.cwd() else f"cd {folder} && "
    view = say(f"wrote {', '.join(STARTER)}", f"start it with: {first}undrift up")
    _answer({"folder": str(folder.resolve()), "files": list(STARTER)}, view, as_json)


def roll_back_offline(config: Config, version: int | None) -> int:
    """Serve another version from the next start on, and return it; nothing may run meanwhile."""
    from undrift.control.offline import roll_back
    from undrift.store.root import check_layout

    check_layout(config.root, config.model_state)
    process = ProcessFile.of(config)
    process.claim()
    try:
        return roll_back(config.model_in(process.state), config.lifecycle, version, time.time())
    finally:
        process.release()


@app.command()
def down(
    config: ConfigOption = None,
    address: Annotated[
        str | None, typer.Option(help="By a job on this cluster, as http://HEAD:8265.")
    ] = None,
    changes: ChangesOption = None,
    as_json: JsonOption = False,
) -> None:
    """Stop the platform that runs on this configuration's state folder."""
    if address:
        run_job(address, config, changes, ["down"], as_json=as_json)
        return
    settings = load_config(config, changes) if changes else wanted(config).platform
    running = ProcessFile.of(settings).running()
    if running and running.cluster:
        remove_from(settings, running.cluster, as_json)
        return
    with error_console().status("stopping"):
        record = ProcessFile.of(settings).stop()
    text = f"stopped process {record.pid}" if record else f"nothing runs on {settings.state}"
    _answer({"stopped": record.pid if record else None}, say(text), as_json)


@app.command()
def status(
    config: ConfigOption = None, model: ModelOption = None, as_json: JsonOption = False
) -> None:
    """Show the lifecycle, the versions and the newest events."""
    with Client.of(load_model(config, model)) as client:
        answer = client.status()
    _answer(answer, status_view(answer), as_json)


@app.command()
def drift(
    config: ConfigOption = None, model: ModelOption = None, as_json: JsonOption = False
) -> None:
    """Show the evidence: signals, challengers, labels, and what they make together."""
    with Client.of(load_model(config, model)) as client:
        answer = client.drift()
    _answer(answer, drift_view(answer), as_json)


@app.command()
def versions(
    config: ConfigOption = None, model: ModelOption = None, as_json: JsonOption = False
) -> None:
    """List the stored versions."""
    with Client.of(load_model(config, model)) as client:
        answer = client.versions()
    _answer(answer, versions_view(answer), as_json)


@app.command()
def audit(
    version: Annotated[int, typer.Argument(help="A stored version.")],
    config: ConfigOption = None,
    model: ModelOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show how a version was made: what was chosen, what it cost, what it forgot."""
    with Client.of(load_model(config, model)) as client:
        answer = client.audit(version)
    _answer(answer, audit_view(answer), as_json)


@app.command()
def retrain(
    config: ConfigOption = None,
    model: ModelOption = None,
    method: Annotated[str | None, typer.Option(help="Instead of the configured one.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Gradient steps.")] = None,
    budget: Annotated[str | None, typer.Option(help="Or: 30s, 5min, 2.5TFLOP.")] = None,
    detach: Annotated[
        bool, typer.Option("--no-wait", "-d", help="Return at once; the run goes on.")
    ] = False,
    by_job: Annotated[bool, typer.Option("--submit", help="Ask by a job, at --address.")] = False,
    address: Annotated[str, typer.Option(help="As http://HEAD:8265.")] = "",
    changes: ChangesOption = None,
    as_json: JsonOption = False,
) -> None:
    """Retrain now, and show how far it is; Ctrl-C leaves it running."""
    if by_job:
        given = {"--method": method, "--steps": steps, "--budget": budget}
        words = [f"{name}={value}" for name, value in given.items() if value is not None]
        run_job(address, config, changes, ["retrain", *words], wait=not detach, as_json=as_json)
        return
    with Client.of(load_model(config, model)) as client:
        answer = client.retrain(method, steps, budget)
        if detach or answer.run is None:
            _answer(answer, status_line(answer), as_json)
            return
        outcome = follow(client, answer.run.run_id)
    _answer(outcome, outcome_view(outcome), as_json)
    if outcome["outcome"] in ("failed", "cancelled"):
        raise typer.Exit(1)


@app.command()
def rollback(
    version: Annotated[int | None, typer.Argument(help="Else the one before.")] = None,
    config: ConfigOption = None,
    model: ModelOption = None,
    offline: Annotated[
        bool, typer.Option("--offline", help="In the state of a platform that does not run.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Go back to the version before the live one, or to another."""
    settings = load_model(config, model)
    if offline:
        live = roll_back_offline(settings, version)
        told = f"version {live} is live from the next `undrift up` on"
        _answer({"live_version": live}, say(told), as_json)
        return
    with Client.of(settings) as client:
        answer = client.rollback(version)
    _answer(answer, status_line(answer), as_json)


@app.command()
def pause(
    config: ConfigOption = None, model: ModelOption = None, as_json: JsonOption = False
) -> None:
    """Stop automatic decisions; serving and monitoring go on."""
    with Client.of(load_model(config, model)) as client:
        answer = client.pause()
    _answer(answer, status_line(answer), as_json)


@app.command()
def resume(
    config: ConfigOption = None, model: ModelOption = None, as_json: JsonOption = False
) -> None:
    """Let automatic decisions go on."""
    with Client.of(load_model(config, model)) as client:
        answer = client.resume()
    _answer(answer, status_line(answer), as_json)


for _verb in (up, promote, replay, tune, token, submit, demo, why, rebuild, doctor, repair):
    app.command()(_verb)
