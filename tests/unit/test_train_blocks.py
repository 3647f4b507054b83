"""Blocks: order, cost, and real savings."""

from __future__ import annotations

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from undrift.train.blocks import Blocks


def convolutional() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1, bias=False),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Conv2d(4, 8, 3, stride=2, padding=1),
        nn.Flatten(),
        nn.Linear(128, 16),
        nn.ReLU(),
        nn.Linear(16, 3),
    )


class Backwards(nn.Module):
    """Registers its layers in another order than it calls them; one is never called as such."""

    def __init__(self) -> None:
        super().__init__()
        self.second = nn.Linear(6, 6)
        self.first = nn.Linear(4, 6)
        self.attention = nn.MultiheadAttention(6, 2, batch_first=True)
        self.head = nn.Linear(6, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.second(self.first(x))[:, None]
        return self.head(self.attention(h, h, h, need_weights=False)[0][:, 0])


def test_blocks_follow_the_forward_pass_and_norms_join_their_layer() -> None:
    names = [b.name for b in Blocks(convolutional(), torch.zeros(2, 1, 8, 8)).all]
    assert names == ["0", "3", "5", "7"]


def test_every_parameter_is_in_exactly_one_block() -> None:
    for model, x in ((convolutional(), torch.zeros(2, 1, 8, 8)), (Backwards(), torch.zeros(2, 4))):
        found = [id(p) for b in Blocks(model, x).all for p in b.parameters]
        assert sorted(found) == sorted(id(p) for p in model.parameters())


def test_order_is_that_of_the_calls_not_of_the_registration() -> None:
    names = [b.name for b in Blocks(Backwards(), torch.zeros(2, 4)).all]
    assert names.index("first") < names.index("second")
    assert names[-1] == "head"


def test_deep_models_have_at_most_six_blocks() -> None:
    deep = nn.Sequential(*[nn.Linear(4, 4) for _ in range(20)])
    blocks = Blocks(deep, torch.zeros(2, 4))
    assert len(blocks) == 6
    assert blocks.all[-1].modules == (deep[19],)


def test_a_model_that_is_all_head_has_one_block() -> None:
    assert len(Blocks(nn.Sequential(nn.Linear(4, 3)), torch.zeros(2, 4))) == 1


def test_counted_operations_are_those_that_torch_counts() -> None:
    model, x = convolutional(), torch.zeros(5, 1, 8, 8)
    blocks = Blocks(model, x)
    for lowest in range(len(blocks)):
        blocks.activate(lowest)
        with FlopCounterMode(display=False) as counter:
            model(x).sum().backward()
        counted = counter.get_total_flops()
        # torch counts no batch normalisation
        assert abs(blocks.step_flops(lowest) * 5 - counted) < 0.03 * counted


def test_resting_blocks_get_no_gradient_and_keep_their_statistics() -> None:
    model = convolutional().train()
    blocks = Blocks(model, torch.zeros(2, 1, 8, 8))
    blocks.activate(2)
    before = model[1].running_mean.clone()
    model(torch.randn(8, 1, 8, 8)).sum().backward()
    assert [p.grad is None for p in model[0].parameters()] == [True]
    assert all(p.grad is None for p in model[3].parameters())
    assert all(p.grad is not None for p in model[5].parameters())
    assert torch.equal(model[1].running_mean, before)
    blocks.activate(0)
    model(torch.randn(8, 1, 8, 8))
    assert not torch.equal(model[1].running_mean, before)
