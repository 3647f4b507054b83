"""`undrift init --from-model`: a configuration for a model that exists already."""

from __future__ import annotations

import re
import shutil
import tempfile
from pathlib import Path

import typer

from undrift.cli.health import tried
from undrift.cli.views import answer, error_console, say
from undrift.config import load_config
from undrift.errors import PlatformError

FILES = ("undrift.yaml", "weights.safetensors", "reference.npz")


def init_existing(
    folder: Path,
    model: str,
    weights: str | None,
    reference: Path | None,
    label: str | None,
    input_shape: str,
    force: bool,
    as_json: bool,
) -> None:
    """Write what `config check` accepts, or nothing.

    Raises:
        UndriftError: The model, its weights and the reference do not fit together.
    """
    from undrift.streams.existing import write_existing

    if not re.fullmatch(r"(\d+(,\d+)*)?", input_shape):
        raise typer.BadParameter(
            f"--input-shape: got {input_shape!r}, expected numbers, as 3,32,32"
        )
    shape = [int(size) for size in input_shape.split(",") if size]
    with tempfile.TemporaryDirectory() as scratch, error_console().status("trying the model"):
        made = Path(scratch)
        found = write_existing(
            folder,
            model,
            weights=weights,
            reference=reference,
            label=label,
            shape=shape,
            target=made,
        )
        if found.rows is not None:
            tried(load_config(made / "undrift.yaml"))
        given = {Path(path).resolve() for path in (weights, reference) if path}
        made_here = [name for name in FILES if (made / name).exists()]
        written = [name for name in made_here if (folder / name).resolve() not in given]
        there = [name for name in written if (folder / name).exists()]
        if there and not force:
            raise PlatformError(f"{folder.resolve()} has {', '.join(there)}; --force overwrites")
        for name in written:
            shutil.copyfile(made / name, folder / name)
    lines = [
        f"wrote {', '.join(written)}",
        f"input {list(found.shape)} ({found.shape_from}), classes {found.classes}, "
        f"head {found.head}",
    ]
    if found.rows is None:
        lines.append("bring reference.npz, labelled rows that it was not trained on: x and y")
    else:
        lines.append(f"{found.accuracy:.1%} of {len(found.rows.y)} reference rows right")
    lines.append("look through undrift.yaml for CHECK and CHOOSE, then: undrift config check")
    data = {
        "folder": str(folder.resolve()),
        "files": written,
        "input_shape": found.shape,
        "classes": found.classes,
        "embedding": found.head,
        "accuracy": found.accuracy,
    }
    answer(data, say(*lines), as_json)
