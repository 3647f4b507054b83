"""The verb that serves another version: a stored one, or weights that were trained elsewhere."""

from __future__ import annotations

import re
import tempfile
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from undrift.cli.cluster import ChangesOption, run_job
from undrift.cli.follow import follow, outcome_view
from undrift.cli.views import (
    ConfigOption,
    JsonOption,
    ModelOption,
    answer,
    error_console,
    status_line,
)
from undrift.client import Client
from undrift.config import Config, load_model
from undrift.serve.body import MAX_ORIGIN
from undrift.views import StatusView


class Strategy(StrEnum):
    """How a stored version is promoted."""

    NOW = "now"
    SHADOW = "shadow"
    CANARY = "canary"


def promote(
    version: Annotated[int | None, typer.Argument(help="A stored version.")] = None,
    weights: Annotated[
        str | None,
        typer.Option(
            help="Weights trained elsewhere: a .safetensors file, a Hugging Face or MLflow folder, "
            "models:/NAME/VERSION. Served if the gate agrees."
        ),
    ] = None,
    strategy: Annotated[
        Strategy,
        typer.Option(help="now, or by stages: shadow, then canary; canary alone."),
    ] = Strategy.NOW,
    detach: Annotated[
        bool, typer.Option("--no-wait", "-d", help="With --weights: return at once.")
    ] = False,
    config: ConfigOption = None,
    model: ModelOption = None,
    by_job: Annotated[bool, typer.Option("--submit", help="Ask by a job, at --address.")] = False,
    address: Annotated[str, typer.Option(help="As http://HEAD:8265.")] = "",
    changes: ChangesOption = None,
    as_json: JsonOption = False,
) -> None:
    """Serve a stored version, or weights that were trained elsewhere."""
    if (version is None) == (weights is None):
        raise typer.BadParameter("give a stored version, or --weights")
    if weights is not None and strategy != Strategy.NOW:
        raise typer.BadParameter(
            "--strategy is for a stored version; weights go through the stages of lifecycle.rollout"
        )
    settings = load_model(config, model)
    if by_job:
        with tempfile.TemporaryDirectory() as scratch:
            words, brought = [str(version), f"--strategy={strategy.value}"], {}
            if weights is not None:
                travels = f"brought/{_name(weights)}"
                brought = {travels: _found(settings, weights, Path(scratch))}
                words = [f"--weights={travels}"]
            run_job(
                address,
                config,
                changes,
                ["promote", *words],
                brought=brought,
                wait=not detach,
                as_json=as_json,
            )
        return
    with Client.of(settings) as client:
        if version is not None:
            status = client.promote(version, strategy.value)
        else:
            status = _bring(client, settings, str(weights))
        if version is not None or detach or status.run is None:
            answer(status, status_line(status), as_json)
            return
        outcome = follow(client, status.run.run_id)
    answer(outcome, outcome_view(outcome), as_json)
    if outcome["outcome"] in ("failed", "cancelled"):
        raise typer.Exit(1)


def _bring(client: Client, config: Config, source: str) -> StatusView:
    """Send what is at a source."""
    with tempfile.TemporaryDirectory() as scratch:
        path = _found(config, source, Path(scratch))
        name = source if ":" in source else Path(source).resolve().name
        with error_console().status("sending the weights"):
            return client.bring(path, name[-MAX_ORIGIN:])


def _found(config: Config, source: str, scratch: Path) -> Path:
    """Return the file of what is at a source; what is wrong with it is told before it travels."""
    from undrift.model.elsewhere import find_weights
    from undrift.model.network import check_brought, load_factory, load_safetensors

    with error_console().status("reading the weights"):
        path = find_weights(source, scratch)
        model = load_factory(config.model.factory, config.folder)()
        check_brought(model, load_safetensors(path))
    return path


def _name(source: str) -> str:
    """Return a file's name for what is at a source."""
    name = source if ":" in source else Path(source).resolve().name
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).lstrip(".-")[-100:] or "weights"
