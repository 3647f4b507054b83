"""The verb that trains a version again from its manifest."""

from __future__ import annotations

import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from multiprocessing import get_context
from typing import TYPE_CHECKING, Annotated

import typer

from undrift.cli.views import ConfigOption, JsonOption, ModelOption, answer, error_console, say
from undrift.config import Config, load_model
from undrift.store.root import check_layout
from undrift.store.store import Store
from undrift.store.versions import CONDITIONS

if TYPE_CHECKING:
    from undrift.train.rebuild import Rebuilt


def rebuild(
    version: Annotated[int, typer.Argument(help="A stored version.")],
    config: ConfigOption = None,
    model: ModelOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train a version again from its manifest: are the weights the same, bit for bit?"""
    settings = load_model(config, model)
    check_layout(settings.root, settings.model_state)
    known = Store(settings.model_state, read_only=True).manifest(version).metrics.get(CONDITIONS)
    # As for a worker: libraries read how many threads they may start when they are loaded.
    os.environ["OMP_NUM_THREADS"] = str((known or {}).get("threads", 1))
    with (
        error_console().status("training"),
        ProcessPoolExecutor(1, mp_context=get_context("spawn")) as apart,
    ):
        found = apart.submit(_rebuilt, settings, version).result()
    view = say(found.text, f"{found.expected}  expected", f"{found.found or 'nothing'}  found")
    answer(asdict(found), view, as_json)
    if not found.same:
        raise typer.Exit(1)


def _rebuilt(settings: Config, version: int) -> Rebuilt:
    from undrift.train.rebuild import rebuild

    store = Store(settings.model_state, read_only=True)
    return rebuild(store, version, settings.model, settings.folder)
