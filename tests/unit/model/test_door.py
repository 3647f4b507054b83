"""What a model answers, and which of it are the logits."""

from __future__ import annotations

import copy
from collections import OrderedDict, namedtuple
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import nn

from undrift.errors import ModelError
from undrift.model.door import Door
from undrift.model.network import ask

Pair = namedtuple("Pair", "logits hidden")


@dataclass
class Output:
    logits: torch.Tensor
    loss: torch.Tensor | None = None
    hidden: tuple[torch.Tensor, ...] = ()


LOGITS = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
HIDDEN, SCALAR, CODES = torch.zeros(2, 8), torch.zeros(()), torch.zeros(2, 3, dtype=torch.int64)


class Answers(nn.Module):
    def __init__(self, answer: Any) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, x: torch.Tensor) -> Any:
        return self.answer


def logits(answer: Any, output: str | int | None = None) -> torch.Tensor:
    return ask(Door(3, output).mark(Answers(answer)), torch.zeros(2, 4))


@pytest.mark.parametrize(
    "answer",
    [
        LOGITS,
        (LOGITS,),
        [HIDDEN, LOGITS],
        {"hidden": HIDDEN, "logits": LOGITS, "codes": CODES},
        OrderedDict(loss=SCALAR, logits=LOGITS),
        Pair(LOGITS, HIDDEN),
        Output(LOGITS, SCALAR, (HIDDEN, HIDDEN)),
        (HIDDEN, (HIDDEN, {"deep": LOGITS})),
    ],
)
def test_one_floating_tensor_of_the_right_shape_is_found(answer: Any) -> None:
    assert torch.equal(logits(answer), LOGITS)


@pytest.mark.parametrize(
    ("answer", "output"),
    [
        ((LOGITS + 1, LOGITS), 1),
        ((LOGITS + 1, LOGITS), "1"),
        ((LOGITS + 1, LOGITS), -1),
        ({"a": LOGITS + 1, "b": LOGITS}, "b"),
        ({"a": LOGITS + 1, "b": LOGITS}, 1),
        ({"a.b": LOGITS, "a": {"b": HIDDEN}}, "a.b"),
        (Pair(LOGITS, LOGITS + 1), "logits"),
        (Pair(LOGITS, LOGITS + 1), 0),
        (Output(LOGITS, hidden=(LOGITS + 1,)), "logits"),
        (Output(LOGITS + 1, hidden=(HIDDEN, LOGITS)), "hidden.1"),
        (LOGITS, "logits"),  # as those answer in evaluation that answer more while they train
    ],
)
def test_setting_picks_one_of_several(answer: Any, output: str | int) -> None:
    assert torch.equal(logits(answer, output), LOGITS)


@pytest.mark.parametrize(
    ("answer", "output", "said"),
    [
        (
            (LOGITS, LOGITS + 1),
            None,
            r"Answers answers with 0 \[2, 3\], 1 \[2, 3\]; 2 of it can be the logits, \[2, 3\]; "
            r"name them as model\.output$",
        ),
        ({"hidden": HIDDEN}, None, r"with hidden \[2, 8\]; none of it can be the logits, \[2, 3\]"),
        ({"codes": CODES, "loss": SCALAR}, None, r"codes \[2, 3\], loss \[\]; none of it"),
        (tuple([HIDDEN] * 10), None, "and 2 more; none"),
        (None, None, "answers with no tensor; none of it"),
        ({"a": LOGITS}, "b", r"answers with a \[2, 3\]; model.output is 'b', which is no tensor"),
        ((LOGITS,), 1, "model.output is 1, which is no tensor"),
        ({"a": {"b": LOGITS}}, "a", r"a\.b \[2, 3\]; model.output is 'a', which is no tensor"),
    ],
)
def test_what_was_answered_is_told_where_the_logits_are_not_clear(
    answer: Any, output: str | int | None, said: str
) -> None:
    with pytest.raises(ModelError, match=said):
        logits(answer, output)


def test_logits_that_were_found_once_are_those_of_later_requests() -> None:
    class Mapped(nn.Module):
        def forward(self, x: torch.Tensor) -> Any:
            return {"map": torch.zeros(3, 3), "logits": x}

    model = Door(3).mark(Mapped())
    with pytest.raises(ModelError, match="2 of it"):
        ask(model, torch.ones(3, 3))
    ask(model, torch.ones(2, 3))
    assert torch.equal(ask(model, torch.ones(3, 3)), torch.ones(3, 3))


@pytest.mark.parametrize(
    "made", [copy.deepcopy, lambda model: torch.compile(model, backend="eager")]
)
def test_copies_and_compiled_models_are_asked_alike(
    made: Callable[[nn.Module], nn.Module],
) -> None:
    model = made(Answers({"a": LOGITS + 1, "b": LOGITS}))
    Door(3, "b").mark(model)
    assert torch.equal(ask(model, torch.zeros(2, 4)), LOGITS)
    assert torch.equal(ask(copy.deepcopy(model), torch.zeros(2, 4)), LOGITS)
