"""The verb that serves another version: a stored one, or weights that were trained elsewhere."""

from __future__ import annotations

import tempfile
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from undrift.cli.follow import follow, outcome_view
from undrift.cli.views import ConfigOption, JsonOption, answer, error_console, status_line
from undrift.client import Client
from undrift.config import Config, load_config
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
    as_json: JsonOption = False,
) -> None:
    """Serve a stored version, or weights that were trained elsewhere."""
    if (version is None) == (weights is None):
        raise typer.BadParameter("give a stored version, or --weights")
    settings = load_config(config)
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
    """Send what is at a source; what is wrong with it is told before it is sent."""
    from undrift.model.elsewhere import find_weights
    from undrift.model.network import check_brought, load_factory, load_safetensors

    with tempfile.TemporaryDirectory() as scratch:
        with error_console().status("reading the weights"):
            path = find_weights(source, Path(scratch))
            model = load_factory(config.model.factory, config.folder)()
            check_brought(model, load_safetensors(path))
        name = source if ":" in source else Path(source).resolve().name
        with error_console().status("sending the weights"):
            return client.bring(path, name[-MAX_ORIGIN:])
