"""The verb that explains a version or an event out of the journal."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import RenderableType
from rich.table import Table

from undrift.cli.views import ConfigOption, JsonOption, ModelOption, answer
from undrift.config import load_model
from undrift.control.past import begun, rest
from undrift.control.why import Link, why_event, why_version
from undrift.store.root import check_layout
from undrift.store.store import Store


def why(
    version: Annotated[int | None, typer.Argument(help="A version.")] = None,
    event: Annotated[int | None, typer.Option(help="Or an event, as `status` counts.")] = None,
    config: ConfigOption = None,
    model: ModelOption = None,
    as_json: JsonOption = False,
) -> None:
    """Explain a version or an event: signal, data, gate, swap, verdict; running or not."""
    if (version is None) == (event is None):
        raise typer.BadParameter("name a version, or --event and its number")
    settings = load_model(config, model)
    check_layout(settings.root, settings.model_state)
    store = Store(settings.model_state, read_only=True)
    start = begun(settings.model_state, settings.lifecycle)
    records = rest(settings.model_state, start)
    if version is not None:
        links = why_version(version, records, start, store.manifest(version))
    else:
        assert event is not None
        links = why_event(event, records, start, store.manifest)
    answer([asdict(link) for link in links], why_view(links), as_json)


def why_view(links: list[Link]) -> RenderableType:
    """Return the chain, a line a link, with the gate's figures."""
    table = Table("when", "what", "", show_header=False, box=None, padding=(0, 2, 0, 0))
    for link in links:
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(link.at))
        table.add_row(when, link.what, link.text)
        gate = link.detail.get("gate") if link.what == "gate" else None
        if gate:
            figures = ", ".join(f"{name} {value:.3f}" for name, value in _numbers(gate))
            table.add_row("", "", figures)
    return table


def _numbers(gate: dict[str, object]) -> list[tuple[str, float]]:
    return [(n.replace("_", " "), float(v)) for n, v in gate.items() if isinstance(v, int | float)]
