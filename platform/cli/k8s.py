"""The verbs of `undrift k8s`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.table import Table

from undrift.cli.views import say, show
from undrift.config import ALONE, load_config

app = typer.Typer(no_args_is_help=True, help="Deploy to Kubernetes through KubeRay.")

ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", "-c", help="The YAML file; else $UNDRIFT_CONFIG, ./undrift.yaml."),
]
OverlayOption = Annotated[str, typer.Option(help="cpu, gpu, gpu-spot or dev.")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", help="SECTION.KEY=VALUE instead; repeatable.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")]


@app.command()
def render(
    config: ConfigOption = None,
    overlay: OverlayOption = "cpu",
    changes: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print the manifests."""
    from undrift.k8s import render as rendering

    objects = rendering.render(config, overlay, tuple(changes or ()))
    typer.echo(json.dumps(objects, indent=2) if as_json else rendering.to_yaml(objects), nl=as_json)


@app.command()
def apply(
    config: ConfigOption = None,
    overlay: OverlayOption = "cpu",
    changes: SetOption = None,
    force: Annotated[bool, typer.Option("--force", help="Take over fields of others.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Apply the manifests to the cluster that kubectl would use."""
    from undrift.k8s.client import Deployment
    from undrift.k8s.render import render as rendered

    objects = rendered(config, overlay, tuple(changes or ()))
    with Deployment(_namespace(config, changes)) as deployment:
        done = deployment.apply(objects, force=force)
    data = {"namespace": deployment.namespace, "applied": done}
    _answer(data, say(f"applied to {deployment.namespace}:", *done), as_json)


@app.command()
def status(
    config: ConfigOption = None, changes: SetOption = None, as_json: JsonOption = False
) -> None:
    """Show what the operator and the pods say."""
    from undrift.k8s.client import Deployment

    with Deployment(_namespace(config, changes)) as deployment:
        found = deployment.status()
    _answer(found, _status_view(found), as_json)


@app.command()
def delete(
    config: ConfigOption = None,
    overlay: OverlayOption = "cpu",
    changes: SetOption = None,
    state: Annotated[
        bool, typer.Option("--state", help="The volumes and secrets too: all that was learnt.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Delete what `apply` made; the state stays unless asked otherwise."""
    from undrift.k8s.client import Deployment
    from undrift.k8s.render import render as rendered

    objects = rendered(config, overlay, tuple(changes or ()))
    with Deployment(_namespace(config, changes)) as deployment:
        gone = deployment.delete(objects, state=state)
    data = {"namespace": deployment.namespace, "deleted": gone}
    _answer(data, say(f"deleted from {deployment.namespace}:", *(gone or ["nothing"])), as_json)


def _namespace(config: Path | None, changes: list[str] | None) -> str | None:
    return load_config(config, changes or (), ALONE).kubernetes.namespace


def _answer(data: Any, view: RenderableType, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(data, indent=2))
    else:
        show(view)


def _status_view(found: dict[str, Any]) -> RenderableType:
    pods = Table("pod", "component", "phase", "ready", "restarts", box=None)
    for pod in found["pods"]:
        ready = "yes" if pod["ready"] else "no"
        pods.add_row(pod["name"], pod["component"], pod["phase"], ready, str(pod["restarts"]))
    told = [
        f"{name}: {state}{f', {message}' if message else ''}"
        for name, (state, message) in {**found["applications"], **found["conditions"]}.items()
    ]
    head = f"{found['namespace']}: {found['endpoints']} endpoints"
    return Group(say(head, *told), pods)
