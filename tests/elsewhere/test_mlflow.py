"""MLflow itself, with a store in a file: what it logs, and what of that is taken."""

from __future__ import annotations

import importlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import torch
from safetensors.torch import save_file, save_model
from torch import nn

from tests.helpers.support import ModelServer
from tests.unit.cli.test_verbs import STATUS, change, run
from tests.unit.cli.test_verbs import folder as folder
from tests.unit.cli.test_verbs import starter as starter
from undrift.errors import ModelError
from undrift.model.elsewhere import find_weights
from undrift.model.network import load_safetensors

pytestmark = pytest.mark.filterwarnings("default")  # theirs

REQUIRED = {"pip_requirements": ["torch"]}  # else MLflow imports the model to find out
HOW_MLFLOW = r"save_model\(model, path\).*extra_files=\['new.safetensors'\]\)$"


@dataclass(frozen=True)
class Logged:
    """A run that has logged one model in many ways, each of them registered under its name."""

    mlflow: Any
    run: str
    model: nn.Module


def build() -> nn.Module:
    return nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 3))


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory) -> Logged:
    mlflow: Any = importlib.import_module("mlflow")
    root = tmp_path_factory.mktemp("mlflow")
    mlflow.set_tracking_uri(f"sqlite:///{root}/mlflow.db")
    experiment = mlflow.create_experiment("shop", artifact_location=str(root / "artifacts"))
    model = build()
    (root / "weights").mkdir()
    one = root / "weights" / "new.safetensors"
    save_model(model, str(one))
    log = mlflow.pytorch.log_model
    rows = torch.zeros(2, 2).numpy()
    ways: dict[str, dict[str, Any]] = {
        "pickled": {"serialization_format": "pickle"},
        "traced": {"serialization_format": "pt2", "input_example": rows},
        "beside": {"serialization_format": "pickle", "extra_files": [str(one)]},
    }
    with mlflow.start_run(experiment_id=experiment) as begun:
        for name, how in ways.items():
            log(model, name=name, registered_model_name=name, **how, **REQUIRED)
        mlflow.log_artifacts(str(root / "weights"), "weights")
    return Logged(mlflow, begun.info.run_id, model)


@pytest.mark.parametrize(
    "source",
    [
        "models:/beside/1",
        "models:/beside/latest",
        "runs:/{run}/beside",
        "runs:/{run}/weights",
        "runs:/{run}/weights/new.safetensors",
    ],
)
def test_safetensors_are_found_wherever_mlflow_keeps_them(
    logged: Logged, tmp_path: Path, source: str
) -> None:
    found = load_safetensors(find_weights(source.format(run=logged.run), tmp_path))
    wanted = logged.model.state_dict()
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in wanted.items())


@pytest.mark.parametrize("source", ["models:/{name}/1", "runs:/{run}/{name}"])
@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("pickled", "has only pickled weights, model.pth; "),
        ("traced", "has only a traced program, model.pt2; "),
    ],
)
def test_formats_of_mlflow_itself_are_refused_with_what_to_log(
    logged: Logged, tmp_path: Path, source: str, name: str, text: str
) -> None:
    with pytest.raises(ModelError, match=text + ".*" + HOW_MLFLOW):
        find_weights(source.format(run=logged.run, name=name), tmp_path)


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("models:/beside/99", "version=99"),
        ("models:/nobody/1", "nobody not found"),
        ("models:/beside@best", "alias best not found"),
        ("runs:/none/model", "id=none not found"),
        ("runs:/{run}/nothing", "nothing"),
        ("mlflow-artifacts:/1/2", "tracking URI"),
    ],
)
def test_what_mlflow_does_not_find_is_told_in_its_words_and_one_line(
    logged: Logged, tmp_path: Path, source: str, text: str
) -> None:
    source = source.format(run=logged.run)
    with pytest.raises(ModelError, match=f"^MLflow cannot fetch {source}: .*{text}") as refused:
        find_weights(source, tmp_path)
    assert "\n" not in str(refused.value)


def test_promote_sends_what_a_registered_model_has(logged: Logged, folder: Path) -> None:
    state = load_safetensors(folder / "weights.safetensors")
    moved = {name: tensor + 1 for name, tensor in state.items()}
    save_file(moved, folder / "new.safetensors")
    with logged.mlflow.start_run():
        logged.mlflow.pytorch.log_model(
            logged.model,
            name="promoted",
            serialization_format="pickle",
            registered_model_name="promoted",
            extra_files=[str(folder / "new.safetensors")],
            **REQUIRED,
        )
    with ModelServer() as server:
        change(folder, "serve", port=server.port)
        path = "weights?" + urlencode({"origin": "models:/promoted/1"})
        server.replies = {path: (200, json.dumps(STATUS).encode())}
        done = run("promote", "--weights", "models:/promoted/1", "--no-wait")
        assert done.exit_code == 0, done.stderr
    ((_, sent, body, _),) = server.seen
    assert sent.endswith(path)
    assert body == (folder / "new.safetensors").read_bytes()
