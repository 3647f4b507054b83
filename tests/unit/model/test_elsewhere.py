"""Weights as others leave them: files, folders, shards, and what is refused."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from undrift.errors import ModelError
from undrift.model.elsewhere import find_weights
from undrift.model.network import check_brought, load_safetensors, load_weights

STATE = {"weight": torch.arange(6.0).reshape(3, 2), "bias": torch.zeros(3)}


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    folder = tmp_path / "scratch"
    folder.mkdir()
    return folder


def sharded(folder: Path) -> Path:
    """Write shards and their index, as `save_pretrained` does."""
    folder.mkdir()
    for number, name in enumerate(STATE, 1):
        save_file({name: STATE[name]}, folder / f"model-0000{number}-of-00002.safetensors")
    where = {name: f"model-0000{n}-of-00002.safetensors" for n, name in enumerate(STATE, 1)}
    index = json.dumps({"metadata": {}, "weight_map": where})
    (folder / "model.safetensors.index.json").write_text(index, encoding="utf-8")
    return folder


def mlflow_folder(folder: Path) -> Path:
    """Write what MLflow leaves of a Hugging Face model."""
    (folder / "model").mkdir(parents=True)
    (folder / "MLmodel").write_text("flavors: {}\n", encoding="utf-8")
    save_file(STATE, folder / "model" / "model.safetensors")
    return folder


def one_file(folder: Path) -> Path:
    folder.mkdir()
    save_file(STATE, folder / "any.name")
    return folder / "any.name"


@pytest.mark.parametrize("make", [sharded, mlflow_folder, one_file])
def test_file_shards_and_folders_give_the_same_weights(
    tmp_path: Path, scratch: Path, make: object
) -> None:
    source = make(tmp_path / "there")  # type: ignore[operator]
    found = load_safetensors(find_weights(str(source), scratch))
    assert found.keys() == STATE.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in STATE.items())


def pickled(folder: Path) -> str:
    torch.save(STATE, folder / "pytorch_model.bin")
    return "only pickled weights, pytorch_model.bin; save them as safetensors"


def pickled_under_another_name(folder: Path) -> str:
    torch.save(STATE, folder / "model.safetensors")
    return "is pickled, and unpickling runs what is in it; save them as safetensors"


def traced_by_mlflow(folder: Path) -> str:
    program = torch.export.export(nn.Linear(2, 3), (torch.zeros(1, 2),))
    (folder / "data").mkdir()
    torch.export.save(program, folder / "data" / "model.pt2")
    (folder / "MLmodel").write_text("flavors: {}\n", encoding="utf-8")
    return r"only a traced program, model.pt2; save them .*extra_files=\['new.safetensors'\]\)$"


def empty(_: Path) -> str:
    return "no safetensors file; save them as safetensors"


def two(folder: Path) -> str:
    for name in ("a", "b"):
        save_file(STATE, folder / f"{name}.safetensors")
    return r"2 sets of weights \(a.safetensors, b.safetensors\); name one of them"


def truncated(folder: Path) -> str:
    save_file(STATE, folder / "model.safetensors")
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[:-4])
    return "is not a whole safetensors file"


def lost_shard(folder: Path) -> str:
    sharded(folder / "in")
    (folder / "in" / "model-00002-of-00002.safetensors").unlink()
    return "there is no weights file .*model-00002-of-00002.safetensors"


def index_that_points_outside(folder: Path) -> str:
    index = json.dumps({"weight_map": {"weight": "../../secret.safetensors"}})
    (folder / "model.safetensors.index.json").write_text(index, encoding="utf-8")
    return "does not name the files of its weights"


@pytest.mark.parametrize(
    "make",
    [
        pickled,
        pickled_under_another_name,
        traced_by_mlflow,
        empty,
        two,
        truncated,
        lost_shard,
        index_that_points_outside,
    ],
)
def test_what_is_no_set_of_safe_weights_is_refused_in_one_sentence(
    tmp_path: Path, scratch: Path, make: object
) -> None:
    folder = tmp_path / "there"
    folder.mkdir()
    text = make(folder)  # type: ignore[operator]
    with pytest.raises(ModelError, match=text) as refused:
        find_weights(str(folder), scratch)
    assert "\n" not in str(refused.value)


def test_source_that_is_not_there_is_refused(tmp_path: Path, scratch: Path) -> None:
    with pytest.raises(ModelError, match="there is no file or folder"):
        find_weights(str(tmp_path / "nothing"), scratch)


def test_mlflow_model_is_refused_where_mlflow_is_not_installed(
    scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "mlflow.artifacts", None)
    with pytest.raises(ModelError, match=r"models:/shop/3 takes MLflow.*pip install mlflow"):
        find_weights("models:/shop/3", scratch)


@pytest.mark.parametrize("text", ["raise TypeError('protobuf')", "import no_such_module"])
def test_mlflow_that_cannot_be_imported_is_told_apart_from_one_that_is_not_there(
    tmp_path: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    (tmp_path / "mlflow").mkdir()
    (tmp_path / "mlflow" / "__init__.py").write_text(text, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    for name in [n for n in sys.modules if n.partition(".")[0] == "mlflow"]:
        monkeypatch.delitem(sys.modules, name)
    told = "models:/shop/3 takes MLflow, which cannot be imported: .*(protobuf|no_such_module)"
    with pytest.raises(ModelError, match=told):
        find_weights("models:/shop/3", scratch)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"bias": None}, "bias is missing"),
        ({"more": torch.zeros(1)}, "more is not expected"),
        ({"weight": torch.zeros(3, 4)}, r"weight has shape \[3, 4\], not \[3, 2\]"),
        ({"bias": torch.zeros(3, dtype=torch.float16)}, "bias is of type float16, not float32"),
        ({"bias": torch.tensor([0.0, torch.nan, 0.0])}, "numbers that are not finite: bias"),
        ({"bias": torch.tensor([0.0, -torch.inf, 0.0])}, "numbers that are not finite: bias"),
    ],
)
def test_weights_that_do_not_fit_are_refused_with_what_differs(
    change: dict[str, torch.Tensor | None], text: str
) -> None:
    state = {name: t for name, t in {**STATE, **change}.items() if t is not None}
    with pytest.raises(ModelError, match=text):
        check_brought(nn.Linear(2, 3), state)


def test_weights_that_share_a_tensor_are_completed() -> None:
    tied = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    tied[1].weight = tied[0].weight
    state = {name: t for name, t in tied.state_dict().items() if name != "1.weight"}
    assert check_brought(tied, state).keys() == tied.state_dict().keys()


class Wrapped(nn.Module):
    """What the user calls a model of Hugging Face's by."""

    def __init__(self, more: nn.Module) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
        self.inner[1].weight = self.inner[0].weight
        self.more = more


def test_weights_of_what_the_model_wraps_are_those_of_the_model() -> None:
    model = Wrapped(nn.Identity())
    state = {k: v + 1 for k, v in model.inner.state_dict().items() if k != "1.weight"}
    found = check_brought(model, state)
    assert found.keys() == model.state_dict().keys()
    assert torch.equal(found["inner.1.weight"], state["0.weight"])
    load_weights(model, state)
    assert torch.equal(model.inner[0].bias, state["0.bias"])


@pytest.mark.parametrize(
    ("more", "text"),
    [
        (nn.Linear(2, 2), "more.weight is missing"),
        (nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)), "inner.0.weight is missing"),
    ],
)
def test_weights_of_a_part_of_the_model_or_of_one_of_two_are_refused(
    more: nn.Module, text: str
) -> None:
    model = Wrapped(more)
    with pytest.raises(ModelError, match=text):
        check_brought(model, {k: v + 1 for k, v in model.inner.state_dict().items()})


def test_file_whose_header_has_a_length_as_a_pickle_begins_is_read(
    tmp_path: Path, scratch: Path
) -> None:
    path = tmp_path / "padded.safetensors"
    for length in range(300):
        save_file(STATE, path, metadata={"note": "x" * length})
        if path.read_bytes()[0] == 0x80:
            break
    assert path.read_bytes()[0] == 0x80
    assert find_weights(str(path), scratch) == path
