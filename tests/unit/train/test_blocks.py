"""Blocks: order, cost, and real savings."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
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


class Residual(nn.Module):
    """Two convolutions and a shortcut, halving the image."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, 2 * channels, 3, stride=2, padding=1),
            nn.BatchNorm2d(2 * channels),
            nn.ReLU(),
            nn.Conv2d(2 * channels, 2 * channels, 3, padding=1, groups=2),
        )
        self.shortcut = nn.Conv2d(channels, 2 * channels, 1, stride=2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.body(x) + self.shortcut(x))


class Sentence(nn.Module):
    """Embeds ids that arrive as floats, and takes the mean over time of a middle part."""

    def __init__(self, middle: nn.Module) -> None:
        super().__init__()
        self.embedding, self.middle, self.head = nn.Embedding(50, 8), middle, nn.Linear(8, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.middle(self.embedding(x.long()))
        return self.head((h[0] if isinstance(h, tuple) else h).mean(dim=1))


def transformer() -> nn.Module:
    layers = (nn.TransformerEncoderLayer(8, 2, 16, batch_first=True) for _ in range(2))
    return Sentence(nn.Sequential(*layers))


def residual() -> nn.Module:
    stem = nn.Conv2d(3, 4, 3, padding=1)
    return nn.Sequential(
        stem, Residual(4), Residual(8), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 3)
    )


@pytest.fixture
def plain_attention() -> Iterator[None]:
    """torch counts none of its fused kernels for attention on a CPU."""
    torch.backends.mha.set_fastpath_enabled(False)
    with sdpa_kernel(SDPBackend.MATH):
        yield
    torch.backends.mha.set_fastpath_enabled(True)


@pytest.mark.parametrize(
    ("model", "x"),
    [
        (nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 2)), torch.zeros(5, 5)),
        (convolutional(), torch.zeros(5, 1, 8, 8)),
        (residual(), torch.zeros(5, 3, 8, 8)),
        (transformer(), torch.zeros(5, 9)),
        (Sentence(nn.GRU(8, 8, batch_first=True)), torch.zeros(5, 9)),
        (Backwards(), torch.zeros(5, 4)),
    ],
    ids=["mlp", "convolutional", "residual", "transformer", "gru", "backwards"],
)
@pytest.mark.usefixtures("plain_attention")
def test_counted_operations_are_those_of_a_real_step(model: nn.Module, x: torch.Tensor) -> None:
    blocks = Blocks(model, x[:2])
    for lowest in range(len(blocks)):
        model.train()
        blocks.activate(lowest)
        with FlopCounterMode(display=False) as counter:
            model(x).sum().backward()
        assert blocks.step_flops(lowest) == pytest.approx(counter.get_total_flops() / 5, rel=0.02)


@pytest.mark.parametrize(
    ("model", "x", "multiplications"),
    [
        (nn.Sequential(nn.Linear(5, 7), nn.Linear(7, 2)), torch.zeros(2, 5), 5 * 7 + 7 * 2),
        (convolutional(), torch.zeros(2, 1, 8, 8), 64 * 4 * 9 + 16 * 8 * 36 + 128 * 16 + 16 * 3),
        (Sentence(nn.Identity()), torch.zeros(2, 9), 8 * 2),  # an embedding only looks up
        (Sentence(nn.LSTM(8, 8, batch_first=True)), torch.zeros(2, 9), 9 * 4 * 8 * 16 + 8 * 2),
        (
            Sentence(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)),
            torch.zeros(2, 9),
            9 * (4 * 8 * 8 + 2 * 8 * 16) + 2 * 9 * 9 * 8 + 8 * 2,
        ),
    ],
    ids=["mlp", "convolutional", "embedding", "lstm", "transformer"],
)
def test_a_forward_pass_is_two_operations_for_each_multiplication(
    model: nn.Module, x: torch.Tensor, multiplications: int
) -> None:
    assert Blocks(model, x).forward_flops == 2 * multiplications


def test_the_model_is_left_as_it_was() -> None:
    model = convolutional().train()
    before = {name: t.clone() for name, t in model.state_dict().items()}
    Blocks(model, torch.randn(2, 1, 8, 8))
    assert model.training
    assert all(torch.equal(t, before[name]) for name, t in model.state_dict().items())
    assert all(p.requires_grad and p.grad is None for p in model.parameters())
    assert torch.backends.mkldnn.enabled
    assert torch.backends.mha.get_fastpath_enabled()


def test_parameters_of_a_model_itself_belong_to_its_lowest_block() -> None:
    model = Backwards()
    model.token = nn.Parameter(torch.zeros(1, 6))
    blocks = Blocks(model, torch.zeros(2, 4))
    assert blocks.all[0].modules[0] is model
    model.train()
    blocks.activate(1)
    assert not model.training
    assert model.second.training


def test_every_block_has_something_to_train() -> None:
    model = convolutional()
    for layer in (0, 1, 7):
        model[layer].requires_grad_(False)
    blocks = Blocks(model, torch.zeros(2, 1, 8, 8))
    assert [b.name for b in blocks.all] == ["3", "5"]
    assert blocks.all[0].modules == (model[0], model[1], model[3])
    assert blocks.all[1].modules == (model[5], model[7])


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
