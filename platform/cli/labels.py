"""The verb that hands in late labels from a file."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from undrift.cli.views import ConfigOption, JsonOption, ModelOption, answer, progress_bar, say
from undrift.client import LABELS_AT_ONCE, Client
from undrift.config import load_model
from undrift.errors import BusyError, PlatformError

if TYPE_CHECKING:
    from undrift.streams.labelfile import LabelBlock

PATIENCE_S = 60.0
SHOWN = 10

app = typer.Typer(no_args_is_help=True, help="Late labels.")


@app.command("import")
def import_labels(
    path: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", exists=True, dir_okay=False, help="CSV, TSV (.gz too) or Parquet."
        ),
    ],
    id_column: Annotated[str, typer.Option("--id", help="Column of inference ids.")] = "id",
    label: Annotated[
        str,
        typer.Option(
            help="Column of class names, indices or numbers; for several outputs, commas."
        ),
    ] = "label",
    times: Annotated[
        str | None, typer.Option("--time", help="Column of Unix seconds or ISO 8601.")
    ] = None,
    config: ConfigOption = None,
    model: ModelOption = None,
    as_json: JsonOption = False,
) -> None:
    """Hand in the labels of a file, part by part; repeats do no harm. Code 1 if any is rejected."""
    from undrift.streams.labelfile import read_labels

    settings = load_model(config, model)
    classes, numbers = settings.model.classes, settings.model.is_regression
    told_by = label.split(",") if numbers else [label]
    size = min(LABELS_AT_ONCE, settings.serve.max_labels_per_request)
    columns = [id_column, *told_by, *([times] if times else [])]
    told: dict[str, Any] = {"rows": 0, "accepted": 0, "without_label": 0, "rejected": []}
    with Client.of(settings) as client, path.open("rb") as file, progress_bar() as bar:
        task = bar.add_task(path.name, total=path.stat().st_size, figures="")
        names = classes if isinstance(classes, tuple) else ()
        targets = len(told_by) if numbers else 0
        for block in read_labels(path, file, columns, names, size, targets):
            _hand_in(client, block, told, path)
            figures = f"{told['accepted']:,} labels"
            bar.update(task, completed=file.tell(), figures=figures)
    answer(told, say(*_lines(told, path)), as_json)
    if told["rejected"]:
        raise typer.Exit(1)


def _hand_in(client: Client, block: LabelBlock, told: dict[str, Any], path: Path) -> None:
    """Send one block, and count what became of it."""
    try:
        got = _patiently(client, block)
    except PlatformError as error:
        raise PlatformError(
            f"{error}\n{path}: its first {told['rows']:,} rows are stored; when that is mended, "
            "hand in the whole file again: repeats do no harm"
        ) from error
    told["accepted"] += got["accepted"]
    told["rejected"] += [
        {"row": block.row[item["index"]], "error": item["error"]} for item in got["rejected"]
    ]
    told["without_label"] += block.read - told["rows"] - len(block.row)
    told["rows"] = block.read


def _patiently(client: Client, block: LabelBlock) -> dict[str, Any]:
    """Hand in labels; while the platform has too much to do, wait as long as it says."""
    until = time.monotonic() + PATIENCE_S
    while True:
        try:
            return client.feedback(block.ids, block.labels, block.times)
        except BusyError as error:
            if time.monotonic() + error.retry_after_s > until:
                raise
            time.sleep(error.retry_after_s)


def _lines(told: dict[str, Any], path: Path) -> list[str]:
    rejected = told["rejected"]
    lines = [f"stored {told['accepted']:,} labels of {told['rows']:,} rows"]
    if told["without_label"]:
        lines.append(f"{told['without_label']:,} rows have no label yet and were left out")
    lines += [f"{path.name}, row {item['row']:,}: {item['error']}" for item in rejected[:SHOWN]]
    if len(rejected) > SHOWN:
        lines.append(f"and {len(rejected) - SHOWN:,} more were rejected; --json lists them")
    return [*lines, "how many have found their prediction is told by: undrift drift"]
