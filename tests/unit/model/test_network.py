from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import nn

from tests.helpers.odd import AnswersFromABuffer, EmptiesItsEmbedding
from undrift.errors import ModelError
from undrift.model.names import not_finite, with_shared
from undrift.model.network import (
    ask,
    check_state_dict,
    differentiable,
    find_head,
    forward_with_embedding,
    load_factory,
    load_safetensors,
    load_weights,
    probe,
)


def small() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 3))


class Says(nn.Module):
    """A model whose forward is given the head and the rows."""

    def __init__(self, forward: Callable[[nn.Linear, torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.head = nn.Linear(4, 3)
        self._do = forward

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self._do(self.head, x)


@pytest.fixture(scope="module")
def user_code(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("user")
    (folder / "undrift_user_model.py").write_text(
        "from torch import nn\n"
        "VALUE = 3\n"
        "def build():\n    return nn.Linear(2, 2)\n"
        "def fails():\n    raise RuntimeError('no\\nGPU here')\n"
        "def wrong():\n    return 'a model'\n"
        "def lazy():\n    return nn.Sequential(nn.LazyLinear(4), nn.LazyLinear(2))\n"
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
    said = r"failed: RuntimeError: no GPU here \(undrift_user_model.py, line 6\)$"
    with pytest.raises(ModelError, match=said) as caught:
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
    with pytest.raises(ModelError, match=r"Sequential fails on input of shape \[5, 7\]"):
        forward_with_embedding(model, model[3], torch.ones(5, 7))
    assert not model[3]._forward_pre_hooks


def test_embedding_of_a_head_that_is_never_called() -> None:
    with pytest.raises(ModelError, match="without calling its head"):
        forward_with_embedding(small(), nn.Linear(8, 3), torch.ones(5, 4))


def test_embedding_that_is_not_one_vector_per_row() -> None:
    model = small()
    with pytest.raises(ModelError, match=r"has shape \[2, 5, 8\]"):
        forward_with_embedding(model, model[3], torch.ones(2, 5, 4))


def test_probe_counts_classes_and_keeps_the_modes() -> None:
    model = small().train()
    model[2].eval()
    assert probe(model, model[3], torch.randn(2, 4)) == 3
    assert model.training
    assert not model[2].training


def test_probe_with_the_wrong_input_shape() -> None:
    model = small()
    with pytest.raises(ModelError, match=r"Sequential fails on input of shape \[2, 5\]"):
        probe(model, model[3], torch.randn(2, 5))


@pytest.mark.parametrize(
    ("model", "shape", "text"),
    [
        (nn.Linear(4, 1), (4,), r"it returned \[2, 1\]"),
        (nn.Linear(4, 3), (2, 4), r"it returned \[2, 2, 3\]"),
        (nn.Sequential(nn.Linear(4, 3), nn.Softmax(dim=1)), (4,), "leave out the softmax"),
        (Says(lambda head, x: head(x) * torch.inf), (4,), "row 0 .* with no finite number"),
        (Says(lambda head, x: x @ head.weight.T), (4,), "uses only its weight"),
    ],
)
def test_probe_of_a_model_that_cannot_be_used(
    model: nn.Module, shape: tuple[int, ...], text: str
) -> None:
    head = next((m for m in model.modules() if isinstance(m, nn.Linear)), nn.Linear(1, 1))
    with pytest.raises(ModelError, match=text):
        probe(model, head, torch.randn(2, *shape))


def test_rows_are_the_callers_whatever_the_model_writes_into_them() -> None:
    model = Says(lambda head, x: head(x.mul_(2.0)))
    x = torch.ones(3, 4)
    ask(model, x)
    forward_with_embedding(model, model.head, x)
    assert torch.equal(x, torch.ones(3, 4))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_rows_come_in_the_precision_of_the_weights(dtype: torch.dtype) -> None:
    assert ask(small().to(dtype).eval(), torch.ones(2, 4)).dtype == dtype


def test_head_may_be_called_by_keyword() -> None:
    model = Says(lambda head, x: head(input=x))
    assert torch.equal(
        forward_with_embedding(model, model.head, torch.ones(2, 4))[1], torch.ones(2, 4)
    )


def test_what_the_users_code_raises_is_told_with_his_line() -> None:
    def fails(head: nn.Linear, x: torch.Tensor) -> torch.Tensor:
        return head(x.reshape(-1, 5))

    line = fails.__code__.co_firstlineno + 1
    with pytest.raises(ModelError, match=rf"RuntimeError: .* \(test_network.py, line {line}\)$"):
        ask(Says(fails), torch.ones(2, 4))


def test_memory_that_runs_out_is_no_fault_of_the_model() -> None:
    def fails(head: nn.Linear, x: torch.Tensor) -> torch.Tensor:
        raise torch.OutOfMemoryError("no memory")

    with pytest.raises(torch.OutOfMemoryError):
        ask(Says(fails), torch.ones(2, 4))


def test_gradients_are_there_in_evaluation_mode_and_the_modes_come_back() -> None:
    model = small().train()
    model[2].eval()
    with torch.no_grad(), differentiable(model):
        assert not any(m.training for m in model.modules())
        assert model(torch.ones(2, 4)).requires_grad
        assert not torch.backends.cudnn.enabled
    assert [m.training for m in model] == [True, True, False, True]


def tied() -> nn.Module:
    model = nn.Sequential(nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 3))
    model[2].weight = model[0].weight
    return model


def test_tensor_that_was_saved_once_has_all_its_names(tmp_path: Path) -> None:
    model, path = tied(), tmp_path / "weights.safetensors"
    safetensors.torch.save_model(model, str(path))
    state = load_safetensors(path)
    assert len(state) == 3
    other = tied()
    load_weights(other, state)
    assert torch.equal(other[2].weight, model[0].weight)
    assert set(with_shared(other, state)) == set(model.state_dict())


def test_name_that_is_missing_and_not_shared_stays_missing() -> None:
    state = small().state_dict()
    del state["3.bias"]
    with pytest.raises(ModelError, match=r"3\.bias is missing"):
        load_weights(small(), state)


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "model.net."])
def test_prefix_of_a_wrapper_is_named(prefix: str) -> None:
    state = {prefix + name: value for name, value in small().state_dict().items()}
    with pytest.raises(ModelError, match=f"all names begin with '{prefix}'"):
        check_state_dict(small(), state)


def test_layers_without_sizes_are_refused_with_a_way_out(user_code: Path) -> None:
    with pytest.raises(ModelError, match="pass one row through it before returning it"):
        load_factory("undrift_user_model:lazy", user_code)()


def test_answers_and_embeddings_are_the_callers_whatever_the_model_does_next() -> None:
    for model in (AnswersFromABuffer().eval(), EmptiesItsEmbedding().eval()):
        x = torch.randn(2, 5, 6)
        with torch.inference_mode():
            told = [forward_with_embedding(model, model.head, rows) for rows in x]
            for rows, (output, embedding) in zip(x, told, strict=True):
                assert torch.equal(embedding, model.inner(rows))
                assert torch.equal(output, model.head(embedding))


def with_more_than_tensors() -> nn.Module:
    class More(nn.Linear):
        def get_extra_state(self) -> dict[str, int]:
            return {"version": 3}

    return nn.Sequential(More(2, 3))


def without_memory() -> nn.Module:
    with torch.device("meta"):
        return nn.Linear(2, 3)


@pytest.mark.parametrize(
    ("factory", "text"),
    [
        (with_more_than_tensors, "keeps more than tensors in its state (0._extra_state)"),
        (without_memory, "without memory for its weights (weight; bias); build it on the CPU"),
    ],
)
def test_model_that_cannot_be_filled_is_refused_with_a_way_out(
    factory: Callable[[], nn.Module], text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(globals(), "odd", factory)
    with pytest.raises(ModelError, match=re.escape(text)):
        load_factory(f"{__name__}:odd")()


def test_finite_numbers_of_every_width_are_told_from_others() -> None:
    state = {
        "wide": torch.tensor([1e300], dtype=torch.float64),
        "eight": torch.tensor([1.0]).to(torch.float8_e4m3fn),
        "bad": torch.tensor([float("nan")]).to(torch.float8_e4m3fn),
        "whole": torch.tensor([3]),
    }
    assert not_finite(state) == ["bad"]
