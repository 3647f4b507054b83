"""Several named inputs in one row of floats, and out of it again."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from undrift.errors import ModelError
from undrift.model.door import Door
from undrift.model.layout import Layout, blank, held, limits
from undrift.model.network import ask
from undrift.model.settings import InputSettings, ModelSettings

DATATYPES = ("BOOL", "UINT8", "INT8", "INT16", "INT32", "INT64")


def one(name: str, shape: tuple[int, ...] = (), datatype: str = "FP32") -> InputSettings:
    return InputSettings.model_validate({"name": name, "shape": shape, "datatype": datatype})


TWO = Layout((one("tokens", (3,), "INT64"), one("numeric", (2,))))
TOKENS = np.array([[1, 2**24 + 1, -(2**63)], [0, 2**63 - 1, -5]])
NUMERIC = np.array([[0.5, 1.5], [-2.0, 3.0]], np.float32)


def split(layout: Layout, x: np.ndarray, dtype: torch.dtype = torch.float32) -> dict[str, Any]:
    class Named(nn.Module):
        def forward(self, **parts: torch.Tensor) -> torch.Tensor:
            return torch.zeros(2, 3)

    door = Door(layout=layout)
    door.mark(Named())
    return door.given(torch.from_numpy(x), dtype)[1]


@pytest.mark.parametrize("datatype", DATATYPES)
@given(st.data())
@settings(max_examples=25, deadline=None)
def test_every_whole_number_of_a_datatype_comes_back(datatype: str, data: st.DataObject) -> None:
    low, high = limits(datatype)
    edges = st.sampled_from([low, high, 0, min(high, 2**24), min(high, 2**48), max(low, -(2**24))])
    numbers = data.draw(st.lists(edges | st.integers(low, high), min_size=6, max_size=6))
    values = np.array(numbers, np.int64).reshape(2, 3)
    layout = Layout((one("f", (2,)), one("i", (3,), datatype), one("j", (3,), datatype)))
    x = layout.pack({"f": NUMERIC, "i": values, "j": values[::-1]})
    assert x.dtype == np.float32
    assert x.shape == (2, layout.width)
    assert np.isfinite(x).all()
    found = split(layout, x, torch.bfloat16)
    assert found["i"].to(torch.int64).tolist() == values.tolist()
    assert found["j"].to(torch.int64).tolist() == values[::-1].tolist()
    assert found["f"].dtype == torch.bfloat16


def test_row_begins_with_the_columns_in_order() -> None:
    x = TWO.pack({"numeric": NUMERIC, "tokens": np.array([[7, 8, 9], [1, -2, 3]], np.int8)})
    assert x[:, : TWO.columns].tolist() == [[7, 8, 9, 0.5, 1.5], [1, -2, 3, -2.0, 3.0]]
    assert not x[:, TWO.columns :].any()
    assert (TWO.columns, TWO.width, TWO.numbers.tolist()) == (5, 11, [3, 4])
    assert TWO.pack({"numeric": NUMERIC[:0], "tokens": TOKENS[:0]}).shape == (0, 11)


def test_shapes_and_kinds_are_those_that_were_configured() -> None:
    layout = Layout((one("image", (3, 4, 4), "UINT8"), one("id", (), "INT32"), one("v", (2,))))
    image = np.arange(96, dtype=np.uint8).reshape(2, 3, 4, 4)
    found = split(layout, layout.pack({"image": image, "id": np.array([3, -4]), "v": NUMERIC}))
    assert found["image"].dtype == torch.uint8
    np.testing.assert_array_equal(found["image"].numpy(), image)
    assert (found["id"].dtype, found["id"].tolist()) == (torch.int32, [3, -4])


@pytest.mark.parametrize(
    ("value", "datatype"),
    [
        (200, "INT8"),
        (-1, "UINT8"),
        (2, "BOOL"),
        (0.5, "INT64"),
        (2.0**54, "INT64"),
        (np.nan, "INT8"),
    ],
)
def test_value_that_an_input_cannot_hold_is_named(value: float, datatype: str) -> None:
    with pytest.raises(ValueError, match=f"in row 1 of 'i' is not {datatype}"):
        held(np.array([0, value]), one("i", (), datatype))
    assert held(np.array([True, False]), one("i", (), datatype)).tolist() == [1, 0]


def test_float_that_is_too_large_is_named() -> None:
    with pytest.raises(ValueError, match=r"1e\+39 in row \d+ of 'f' is not a finite 32-bit float"):
        held(np.array([0.0, 1e39]), one("f"))


class Records(nn.Module):
    """A model that keeps what it was given."""

    def forward(self, tokens: torch.Tensor, numeric: torch.Tensor) -> torch.Tensor:
        self.got = tokens, numeric
        return torch.zeros(len(tokens), 3)


class ByPosition(Records):
    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        return super().forward(a, b)


class ByKeyword(Records):
    def forward(self, *, numeric: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        return super().forward(tokens, numeric)


class ByKwargs(Records):
    def forward(self, **named: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        return super().forward(named["tokens"], named["numeric"])


@pytest.mark.parametrize("model", [Records(), ByPosition(), ByKeyword(), ByKwargs()])
def test_inputs_come_by_keyword_or_by_position(model: Records) -> None:
    x = torch.from_numpy(TWO.pack({"tokens": TOKENS, "numeric": NUMERIC}))
    kept = x.clone()
    ask(Door(3, layout=TWO).mark(model), x)
    tokens, numeric = model.got
    assert (tokens.dtype, tokens.tolist()) == (torch.int64, TOKENS.tolist())
    assert numeric.tolist() == NUMERIC.tolist()
    tokens.zero_(), numeric.zero_()
    assert torch.equal(x, kept)


def test_forward_that_has_some_of_the_names_is_refused() -> None:
    class Half(nn.Module):
        def forward(self, numeric: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
            return numeric

    said = "Half takes numeric, ids, but model.inputs names tokens, numeric; name all as it does"
    with pytest.raises(ModelError, match=said):
        Door(3, layout=TWO).mark(Half())


def test_what_a_model_raises_is_told_with_the_shapes_of_its_inputs() -> None:
    class Fails(Records):
        def forward(self, tokens: torch.Tensor, numeric: torch.Tensor) -> torch.Tensor:
            return tokens @ numeric

    said = r"Fails fails on input of shape tokens \[2, 3\], numeric \[2, 2\]: RuntimeError"
    x = torch.from_numpy(TWO.pack({"tokens": TOKENS, "numeric": NUMERIC}))
    with pytest.raises(ModelError, match=said):
        ask(Door(3, layout=TWO).mark(Fails()), x)


def test_rows_to_warm_up_with_have_no_empty_mask(tmp_path: Any) -> None:
    given_ = {"name": "m", "factory": "a:b", "weights": tmp_path, "classes": 3}
    several = ModelSettings.model_validate({**given_, "inputs": TWO.inputs})
    assert split(TWO, blank(several, 2))["tokens"].tolist() == [[1, 1, 1]] * 2
    assert not split(TWO, blank(several, 2))["numeric"].any()
    assert not blank(ModelSettings.model_validate({**given_, "input_shape": (2,)}), 2).any()
