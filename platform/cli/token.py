"""The verb that makes and removes tokens for others."""

from __future__ import annotations

from typing import Annotated

import typer

from undrift.cli.views import ConfigOption, JsonOption, answer, say
from undrift.config import wanted
from undrift.host.process import ProcessFile
from undrift.serve.tokens import TOKENS_FILE, TokenScope, make_token, remove_token


def token(
    name: Annotated[str, typer.Argument(help="Who gets it.")],
    scopes: Annotated[
        list[TokenScope] | None, typer.Option("--scope", help="What it may do; repeatable.")
    ] = None,
    remove: Annotated[bool, typer.Option("--remove", help="End it instead.")] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a token for somebody else, in place of an earlier one; it is shown this once."""
    if remove == bool(scopes):
        raise typer.BadParameter("give --scope, or --remove")
    runfile = ProcessFile.of(wanted(config).platform)
    path = runfile.folder / TOKENS_FILE
    if scopes:
        runfile.make_folder()
        made = make_token(path, name, scopes)
        data = {"name": name, "scopes": sorted(set(scopes)), "token": made}
        answer(data, say(made), as_json)
        return
    remove_token(path, name)
    answer({"removed": name}, say(f"the token of {name} is no longer taken"), as_json)
