"""The verbs that look after a state folder or a model, whether a platform runs or not."""

from __future__ import annotations

from dataclasses import asdict

import typer
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from undrift.cli.views import ConfigOption, JsonOption, ModelOption, answer, in_bytes, say
from undrift.config import Config, load_model
from undrift.control.doctor import Health, examine
from undrift.control.doctor import repair as set_aside
from undrift.host.process import ProcessFile
from undrift.store.root import check_layout


def doctor(
    config: ConfigOption = None, model: ModelOption = None, as_json: JsonOption = False
) -> None:
    """Look through the state: what takes room, what is damaged, what to do. Code 1 if anything."""
    settings = load_model(config, model)
    check_layout(settings.root, settings.model_state)
    found = examine(settings.model_state, settings.lifecycle, settings.retention)
    owner = ProcessFile.of(settings).owner()
    told = asdict(found)
    for finding in told["findings"]:
        finding["path"] = finding["path"] and str(finding["path"])
    answer({**told, "owner": owner}, health_view(found, owner), as_json)
    if found.wrong:
        raise typer.Exit(1)


def repair(
    config: ConfigOption = None, model: ModelOption = None, as_json: JsonOption = False
) -> None:
    """Set aside what `doctor` found torn or damaged, and nothing else; no platform may run."""
    settings = load_model(config, model)
    check_layout(settings.root, settings.model_state)
    process = ProcessFile.of(settings)
    process.claim()
    try:
        root = settings.model_in(process.state)
        moved = set_aside(root, settings.lifecycle)
        left = examine(root, settings.lifecycle)
    finally:
        process.release()
    lines = [f"set aside as {path}" for path in moved] or ["there was nothing to set aside"]
    lines += [f"still wrong: {f.what}; {f.remedy}" for f in left.findings if f.wrong]
    answer({"set_aside": moved, "wrong": left.wrong}, say(*lines), as_json)
    if left.wrong:
        raise typer.Exit(1)


def tried(config: Config) -> tuple[dict[str, int | float], str, list[str]]:
    """Try what `up` and a retraining will do with the user's model.

    Returns:
        What was measured, as JSON has it, and in words; and warnings, a sentence each.

    Raises:
        UndriftError: One of them would fail; the text says what to do.
    """
    import torch

    from undrift.model.artifacts import PROBED, load_inputs
    from undrift.model.cost import batch_cost
    from undrift.model.network import load_weights
    from undrift.model.steady import unsteady
    from undrift.train.trainee import Trainee

    inputs = load_inputs(*config.artifacts)
    model = inputs.factory()
    load_weights(model, inputs.weights)
    trainee = Trainee(model, config.model.embedding)
    if config.lifecycle.mode != "off":
        trainee.check(inputs.x[:2])
        load_weights(model, inputs.weights)  # a pass in training mode moves running means
    x = torch.from_numpy(inputs.x)
    warnings = unsteady(model, x[:PROBED])
    load_weights(model, inputs.weights)
    if config.model.preprocess is not None and config.model.preprocess_example is None:
        warnings.append(
            f"model.preprocess {config.model.preprocess} was found, but not tried: without "
            "model.preprocess_example, the file of one value, nothing shows before the first "
            "request whether it makes rows that fit the model"
        )
    cost = batch_cost(model, trainee.layer, x, config.serve.max_batch_size)
    told = (
        f"a batch of {cost.rows} rows takes {1000 * cost.seconds:.2g} ms on one core, as in a "
        f"replica, and {in_bytes(cost.bytes)} beside the weights"
    )
    figures = {
        "reference_rows": len(inputs.y),
        "batch_rows": cost.rows,
        "batch_ms": 1000 * cost.seconds,
        "batch_bytes": cost.bytes,
    }
    return figures, told, warnings


def health_view(health: Health, owner: str) -> RenderableType:
    """Return the parts, the disk, who runs on it, and the findings with what to do."""
    table = Table("part", "size", "a day")
    for part in health.parts:
        rate = "-" if part.bytes_a_day is None else in_bytes(part.bytes_a_day)
        table.add_row(part.name, in_bytes(part.bytes), rate)
    full = f", full in {health.days_left:,.0f} days at this rate" if health.days_left else ""
    if health.flat_bytes is not None:
        full = f", never full: retention holds what grows at {in_bytes(health.flat_bytes)}"
    free = "" if health.free_bytes is None else f"free: {in_bytes(health.free_bytes)}{full}"
    lines = [Text(line) for line in (free, f"runs on it: {owner or '-'}") if line]
    for finding in health.findings:
        style = "red" if finding.wrong else "yellow"
        lines += [Text(finding.what, style=style), Text(f"  {finding.remedy}")]
    if not health.wrong:
        lines.append(Text("nothing is wrong", style="green"))
    return Group(table, *lines)
