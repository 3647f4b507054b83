from __future__ import annotations

from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import nn

from undrift.errors import ModelError
from undrift.model.network import (
    check_state_dict,
    find_head,
    forward_with_embedding,
    load_factory,
    load_safetensors,
    load_weights,
    probe,
)


def small() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 3))


@pytest.fixture(scope="module")
def user_code(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("user")
    (folder / "undrift_user_model.py").write_text(
        "from torch import nn\n"
        "VALUE = 3\n"
        "def build():\n    return nn.Linear(2, 2)\n"
        "def fails():\n    raise RuntimeError('no\\nGPU here')\n"
        "def wrong():\n    return 'a model'\n"
    )
    (folder / "undrift_user_broken.py").write_text("import a_package_that_is_not_there\n")
    return folder


def test_factory_builds_a_new_model_each_time(user_code: Path) -> None:
    build = load_factory("undrift_user_model:build", user_code)
    assert isinstance(build(), nn.Linear)
    assert build() is not build()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("undrift_user_model", "module:attribute"),
        (":build", "module:attribute"),
        ("undrift_no_such:build", "cannot import 'undrift_no_such' (looked in"),
        ("undrift_user_broken:build", "No module named 'a_package_that_is_not_there'"),
        ("undrift_user_model:other", "has no 'other'"),
        ("undrift_user_model:VALUE", "is a int, not a function"),
    ],
)
def test_factory_that_cannot_be_found(user_code: Path, name: str, text: str) -> None:
    with pytest.raises(ModelError) as caught:
        load_factory(name, user_code)
    assert text in str(caught.value)


def test_factory_that_raises_says_why_on_one_line(user_code: Path) -> None:
    with pytest.raises(ModelError, match=r"failed: RuntimeError: no GPU here$") as caught:
        load_factory("undrift_user_model:fails", user_code)()
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_factory_that_returns_something_else(user_code: Path) -> None:
    with pytest.raises(ModelError, match=r"returned a str, not a torch\.nn\.Module"):
        load_factory("undrift_user_model:wrong", user_code)()


def test_head_is_the_last_linear_layer_unless_named() -> None:
    model = small()
    assert find_head(model) == ("3", model[3])
    assert find_head(model, "0") == ("0", model[0])


def test_head_that_is_no_linear_layer() -> None:
    with pytest.raises(
        ModelError, match=r"'1' is not an nn\.Linear layer of Sequential; it has 0; 3"
    ):
        find_head(small(), "1")
    with pytest.raises(ModelError, match=r"has no nn\.Linear layer"):
        find_head(nn.Sequential(nn.Conv2d(1, 1, 1)))


def test_state_dict_problems_are_all_named() -> None:
    state = small().state_dict()
    del state["0.bias"]
    state["extra"] = torch.zeros(1)
    state["3.weight"] = torch.zeros(3, 9)
    with pytest.raises(ModelError) as caught:
        check_state_dict(small(), state)
    assert "0.bias is missing; extra is not expected; 3.weight has shape [3, 9], not [3, 8]" in str(
        caught.value
    )


def test_state_dict_with_many_problems_lists_five() -> None:
    with pytest.raises(ModelError, match=r"and 3 more$") as caught:
        check_state_dict(small(), {f"n{i}": torch.zeros(1) for i in range(4)})
    assert str(caught.value).count(" is ") == 5


def test_weights_that_do_not_fit_leave_the_model_alone() -> None:
    model = small()
    before = model[0].weight.clone()
    state = {k: v + 1 for k, v in small().state_dict().items() if k != "3.bias"}
    with pytest.raises(ModelError):
        load_weights(model, state)
    assert torch.equal(model[0].weight, before)


def test_safetensors_round_trip(tmp_path: Path) -> None:
    state = small().state_dict()
    safetensors.torch.save_file(state, tmp_path / "m.safetensors")
    model = small()
    load_weights(model, load_safetensors(tmp_path / "m.safetensors"))
    assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())


def test_safetensors_file_missing_truncated_or_foreign(tmp_path: Path) -> None:
    whole = tmp_path / "m.safetensors"
    safetensors.torch.save_file(small().state_dict(), whole)
    (tmp_path / "cut").write_bytes(whole.read_bytes()[:-10])
    torch.save(small().state_dict(), tmp_path / "pickle")
    (tmp_path / "empty").touch()
    with pytest.raises(ModelError, match="there is no weights file"):
        load_safetensors(tmp_path / "none")
    for name in ("cut", "pickle", "empty"):
        with pytest.raises(ModelError, match=f"{name} is not a whole safetensors file"):
            load_safetensors(tmp_path / name)
    with pytest.raises(ModelError):
        load_safetensors(tmp_path)


def test_embedding_is_what_enters_the_head() -> None:
    model = small().eval()
    x = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        logits, embedding = forward_with_embedding(model, model[3], x)
        assert torch.equal(embedding, model[:3](x))
        assert torch.equal(logits, model(x))
    assert not model[3]._forward_pre_hooks


def test_embedding_carries_gradients_in_training() -> None:
    model = small().train()
    logits, embedding = forward_with_embedding(model, model[3], torch.ones(5, 4))
    (logits.sum() + embedding.sum()).backward()
    assert model[0].weight.grad is not None


def test_embedding_hook_is_removed_when_the_forward_fails() -> None:
    model = small()
    with pytest.raises(RuntimeError):
        forward_with_embedding(model, model[3], torch.ones(5, 7))
    assert not model[3]._forward_pre_hooks


def test_embedding_of_a_head_that_is_never_called() -> None:
    with pytest.raises(ModelError, match="without calling its head"):
        forward_with_embedding(small(), nn.Linear(8, 3), torch.ones(5, 4))


def test_embedding_that_is_not_one_vector_per_row() -> None:
    model = small()
    with pytest.raises(ModelError, match=r"has shape \[2, 5, 8\]"):
        forward_with_embedding(model, model[3], torch.ones(2, 5, 4))


def test_probe_counts_classes_and_keeps_the_mode() -> None:
    model = small().train()
    assert probe(model, (4,)) == 3
    assert model.training


def test_probe_with_the_wrong_input_shape() -> None:
    with pytest.raises(ModelError, match=r"Sequential fails on input of shape \[2, 5\]"):
        probe(small(), (5,))


@pytest.mark.parametrize(
    ("model", "shape", "text"),
    [
        (nn.Linear(4, 1), (4,), r"it returned \[2, 1\]"),
        (nn.Linear(4, 3), (2, 4), r"it returned \[2, 2, 3\]"),
        (nn.LSTM(4, 3), (4,), "it returned tuple"),
    ],
)
def test_probe_of_a_model_that_does_not_return_logits(
    model: nn.Module, shape: tuple[int, ...], text: str
) -> None:
    with pytest.raises(ModelError, match=text):
        probe(model, shape)
