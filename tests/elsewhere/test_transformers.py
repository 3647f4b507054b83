"""Models of Hugging Face's own code, saved by themselves, through all that a model goes through."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tests.helpers import matrix
from tests.helpers.families import FAMILIES
from tests.helpers.family import CLASSES, Family
from tests.helpers.structured import one
from undrift.errors import ModelError
from undrift.model.elsewhere import find_weights
from undrift.model.network import check_brought, load_safetensors
from undrift.train.methods.registry import METHODS

pytestmark = pytest.mark.filterwarnings("default")  # theirs

TOKENS = (one("input_ids", 6, datatype="INT64"),)


def bert() -> nn.Module:
    hf: Any = importlib.import_module("transformers")
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    more = {"intermediate_size": 32, "max_position_embeddings": 16}
    config = hf.BertConfig(vocab_size=20, num_labels=CLASSES, **sizes, **more)
    model: nn.Module = hf.BertForSequenceClassification(config)
    return model


def distilbert() -> nn.Module:
    hf: Any = importlib.import_module("transformers")
    sizes = {"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 32}
    config = hf.DistilBertConfig(
        vocab_size=20, max_position_embeddings=16, num_labels=CLASSES, **sizes
    )
    model: nn.Module = hf.DistilBertForSequenceClassification(config)
    return model


class Wrapped(nn.Module):
    """A model of Hugging Face's within one of the user's."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.inner(input_ids=x.long()).logits
        return logits


def seeded(build: Callable[[], nn.Module]) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return build()


MODELS = {"BERT": bert, "DistilBERT": distilbert}


@pytest.mark.parametrize("size", ["5GB", "8KB"])
@pytest.mark.parametrize("name", MODELS)
def test_saved_model_is_found_whole_or_in_shards_also_by_a_factory_that_wraps_it(
    tmp_path: Path, name: str, size: str
) -> None:
    model: Any = seeded(MODELS[name])
    model.save_pretrained(tmp_path / "saved", max_shard_size=size)
    shards = len(list((tmp_path / "saved").glob("*.safetensors")))
    assert (shards == 1) == (size == "5GB")
    (tmp_path / "scratch").mkdir()
    found = load_safetensors(find_weights(str(tmp_path / "saved"), tmp_path / "scratch"))
    wrapped = Wrapped(MODELS[name]())
    wrapped.load_state_dict(check_brought(wrapped, found))
    tokens = torch.randint(0, 20, (4, 6))
    with torch.no_grad():
        wanted = model.eval()(input_ids=tokens).logits
        assert torch.equal(wrapped.eval()(tokens), wanted)


def test_saved_model_of_other_sizes_is_refused_with_what_differs(tmp_path: Path) -> None:
    hf: Any = importlib.import_module("transformers")
    model: Any = bert()
    model.config.vocab_size = 30
    hf.BertForSequenceClassification(model.config).save_pretrained(tmp_path)
    found = load_safetensors(find_weights(str(tmp_path), tmp_path))
    with pytest.raises(ModelError, match=r"word_embeddings.weight has shape \[30, 16\]"):
        check_brought(bert(), found)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", MODELS)
def test_model_is_retrained_by_every_method_and_served(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, method: str
) -> None:
    family = Family(lambda: seeded(MODELS[name]), inputs=TOKENS, output="logits")
    marked = Family(lambda: family.door.mark(family.build()), inputs=TOKENS, output="logits")
    monkeypatch.setitem(FAMILIES, name, marked)
    inputs = matrix.checked(name, tmp_path)
    (answer,) = matrix.served(name, [inputs.weights])
    np.testing.assert_allclose(answer.sum(axis=1), 1, atol=1e-5)
    matrix.come_through(name, method)
