"""The verbs that check the configuration, or describe it."""

from __future__ import annotations

import json

import typer

from undrift.cli.health import tried
from undrift.cli.views import ConfigOption, JsonOption, answer, say
from undrift.config import config_schema, find_config, load_platform
from undrift.serve.certificate import check_certificate
from undrift.store.place import place
from undrift.store.probe import check_store

app = typer.Typer(no_args_is_help=True, help="Check the configuration, or describe it.")


@app.command()
def check(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Check the configuration, and that the model, its weights and its reference fit together."""
    path = find_config(config)
    platform = load_platform(path)
    check_certificate(platform.serve)
    check_store(place(platform.root))
    found = {name: tried(platform.view(name)) for name in platform.models}
    models = {name: {**made, "warnings": odd} for name, (made, _, odd) in found.items()}
    told = [f"model {name!r}, {models[name]['reference_rows']:,} reference rows" for name in models]
    lines = [f"{path.name} is fine: {'; '.join(told)}"]
    for name, (_, cost, odd) in found.items():
        lines += [f"model {name!r}: {cost}", *(f"warning: model {name!r}: {one}" for one in odd)]
    answer({"config": str(path), "models": models}, say(*lines), as_json)


@app.command()
def schema() -> None:
    """Print the JSON schema of the configuration, for editors."""
    typer.echo(json.dumps(config_schema(), indent=2))


@app.command(hidden=True)
def reference() -> None:
    """Print the page of all settings, docs/settings.md."""
    from undrift.cli.reference import markdown

    typer.echo(markdown(config_schema()), nl=False)
