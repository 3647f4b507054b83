"""Forward passes that leave the model as it is."""

from __future__ import annotations

import copy

import torch
from torch import nn

from tests.helpers.setups import setup
from undrift.train.inference import forward


def test_a_pass_gives_output_and_embedding_in_evaluation_mode() -> None:
    model = nn.Sequential(nn.Linear(2, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 2))
    s = setup(model=model)
    model.train()
    model[1].eval()
    before = copy.deepcopy(model.state_dict())
    output, embedding = forward(s, s.x)
    assert [m.training for m in model] == [True, False, True, True]
    assert all(torch.equal(t, before[n]) for n, t in model.state_dict().items())
    model.eval()
    torch.testing.assert_close(output, model(s.x))
    torch.testing.assert_close(embedding, model[:3](s.x))
    assert not output.requires_grad


def test_a_pass_is_counted() -> None:
    s = setup()
    forward(s, s.x[:70])
    assert s.meter.flops == 70 * s.blocks.forward_flops


def test_a_pass_of_another_model_of_the_same_kind() -> None:
    s = setup()
    other = copy.deepcopy(s.model)
    with torch.no_grad():
        other[-1].bias += 1.0
    torch.testing.assert_close(forward(s, s.x, other)[0], forward(s, s.x)[0] + 1.0)
