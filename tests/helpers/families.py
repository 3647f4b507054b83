"""Small models of many families, as people bring them: each a function that builds one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations
from torch.utils.checkpoint import checkpoint

from tests.helpers.family import CLASSES, Family
from tests.helpers.odd import ODD
from tests.helpers.regressions import REGRESSIONS
from tests.helpers.structured import STRUCTURED


class Fn(nn.Module):
    """A model whose forward is given: ``forward(model, x)``."""

    def __init__(
        self, forward: Callable[[nn.Module, torch.Tensor], torch.Tensor], **parts: nn.Module
    ) -> None:
        super().__init__()
        self._do = forward
        for name, part in parts.items():
            self.add_module(name, part)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self._do(self, x)


def seq(*layers: nn.Module) -> nn.Module:
    return nn.Sequential(*layers)


def flat(*layers: nn.Module) -> nn.Module:
    return seq(*layers, nn.Flatten(), nn.LazyLinear(CLASSES))


class Residual(nn.Module):
    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.body(x)


class Last(nn.Module):
    """The last step of what a recurrent layer answers."""

    def __init__(self, layer: nn.RNNBase) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x)[0][:, -1]


class Mean(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean(dim=1)


class Tokens(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.long().clamp(0, 19)


class UNet(nn.Module):
    """Down, up, joined; classified from the mean of the map."""

    def __init__(self) -> None:
        super().__init__()
        self.top = nn.Conv2d(1, 4, 3, padding=1)
        self.down = nn.Conv2d(4, 8, 3, stride=2, padding=1)
        self.up = nn.ConvTranspose2d(8, 4, 2, stride=2)
        self.head = nn.Linear(8, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        top = torch.relu(self.top(x))
        low = torch.relu(self.up(torch.relu(self.down(top))))
        return self.head(torch.cat([top, low], dim=1).mean(dim=(2, 3)))


class Basic(nn.Module):
    """A residual block with normalisation, as ResNets have."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = seq(
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(x + self.body(x), inplace=True)


class Experts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Linear(6, 4)
        self.experts = nn.ModuleList(seq(nn.Linear(6, 8), nn.ReLU()) for _ in range(4))
        self.head = nn.Linear(8, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        said = torch.stack([expert(x) for expert in self.experts], dim=1)
        return self.head((self.gate(x).softmax(dim=1)[..., None] * said).sum(dim=1))


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attend = nn.MultiheadAttention(8, 2, batch_first=True)
        self.norm = nn.LayerNorm(8)
        self.head = nn.Linear(8, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        said, _ = self.attend(x, x, x, need_weights=False)
        return self.head(self.norm(x + said).mean(dim=1))


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inp, self.mix = nn.Linear(6, CLASSES), nn.Linear(CLASSES, CLASSES, bias=False)
        self.head = nn.Linear(CLASSES, CLASSES, bias=False)
        self.head.weight = self.mix.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.tanh(self.mix(torch.relu(self.inp(x)))))


class Odd(nn.Module):
    """Buffers of several dtypes, a whole-number parameter, one of no layer, and a free list."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))
        self.register_buffer("mask", torch.tensor([True] * 5 + [False]))
        self.register_buffer("table", torch.arange(6, dtype=torch.uint8))
        self.code = nn.Parameter(torch.tensor([1, 2]), requires_grad=False)
        self.scale = nn.Parameter(torch.ones(6))
        self.free = nn.ParameterList([nn.Parameter(torch.randn(6, 8) / 3)])
        self.head = nn.Linear(8, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.relu((x * self.mask * self.scale) @ self.free[0]))


class FakeQuant(nn.Module):
    """Quantisation-aware: weights and activations are rounded on the way, gradients pass."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(6, 16), nn.Linear(16, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weight = torch.fake_quantize_per_tensor_affine(self.body.weight, 0.01, 0, -128, 127)
        said = torch.relu(F.linear(x, weight, self.body.bias))
        return self.head(torch.fake_quantize_per_tensor_affine(said, 0.05, 0, -128, 127))


class Depth(nn.Module):
    """Layers that are left out at random while it trains."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 8)
        self.rest = nn.ModuleList(nn.Linear(8, 8) for _ in range(3))
        self.head = nn.Linear(8, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.first(x))
        for layer in self.rest:
            if not self.training or torch.rand(()) < 0.7:
                x = x + torch.relu(layer(x))
        return self.head(x)


class Gated(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.squeeze = seq(nn.Linear(4, 2), nn.ReLU(), nn.Linear(2, 4), nn.Sigmoid())
        self.conv = nn.Conv2d(1, 4, 3)
        self.head = nn.Linear(4, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.conv(x))
        return self.head((x * self.squeeze(x.mean(dim=(2, 3)))[..., None, None]).mean(dim=(2, 3)))


def body(width: int = 16, **more: nn.Module) -> dict[str, nn.Module]:
    return {"body": nn.Linear(6, width), "head": nn.Linear(width, CLASSES), **more}


def said(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    return model.head(torch.relu(model.body(x)))


def in_place(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    x /= 3.0
    x[:, 0] = 0.0
    return said(model, x)


def by_weight_norm() -> nn.Module:
    return seq(
        nn.Linear(6, 16),
        nn.ReLU(),
        parametrizations.weight_norm(nn.Linear(16, CLASSES, bias=False)),
    )


def by_spectral_norm() -> nn.Module:
    return seq(parametrizations.spectral_norm(nn.Linear(6, 16)), nn.ReLU(), nn.Linear(16, CLASSES))


def by_orthogonal() -> nn.Module:
    return seq(parametrizations.orthogonal(nn.Linear(6, 6)), nn.Tanh(), nn.Linear(6, CLASSES))


def frozen() -> nn.Module:
    model = seq(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, CLASSES))
    model[0].requires_grad_(False)
    return model


def materialised() -> nn.Module:
    model = seq(nn.LazyLinear(16), nn.ReLU(), nn.LazyLinear(CLASSES))
    model(torch.zeros(2, 6))
    return model


def of_dtype(dtype: torch.dtype) -> Callable[[], nn.Module]:
    return lambda: Fn(said, **body()).to(dtype)


def recomputed(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    kept = checkpoint(model.body, x, use_reentrant=False)
    return model.head(torch.relu(kept))


def twice(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    left, right = (torch.relu(model.body(part)) for part in x.chunk(2, dim=1))
    return model.head(torch.cat([left, right, (left - right).abs()], dim=1))


def two_inputs(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    return model.head(torch.relu(model.left(x[:, :2]) + model.right(x[:, 2:])))


def encoder() -> nn.Module:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    return seq(
        nn.TransformerEncoder(layer, 1, enable_nested_tensor=False), Mean(), nn.Linear(8, CLASSES)
    )


IMAGE, COLOUR, STEPS = (1, 8, 8), (3, 8, 8), (5, 8)

_FAMILIES: dict[str, Family] = {
    "linear": Family(lambda: nn.Linear(6, CLASSES)),
    "perceptron": Family(lambda: Fn(said, **body())),
    "perceptron, dropout": Family(
        lambda: seq(nn.Linear(6, 16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, CLASSES))
    ),
    "perceptron, batch norm": Family(
        lambda: seq(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, CLASSES))
    ),
    "perceptron, layer norm, GELU": Family(
        lambda: seq(nn.LayerNorm(6), nn.Linear(6, 16), nn.GELU(), nn.Linear(16, CLASSES))
    ),
    "residual perceptron": Family(
        lambda: seq(Residual(seq(nn.Linear(6, 6), nn.ReLU())), nn.Linear(6, CLASSES))
    ),
    "gated linear units": Family(lambda: seq(nn.Linear(6, 16), nn.GLU(), nn.Linear(8, CLASSES))),
    "mixture of experts": Family(Experts),
    "convolutions over time": Family(
        lambda: flat(nn.Conv1d(1, 4, 3), nn.ReLU(), nn.Conv1d(4, 4, 3, dilation=2)), (1, 12)
    ),
    "convolutions": Family(lambda: flat(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(2)), IMAGE),
    "depthwise convolutions": Family(
        lambda: flat(nn.Conv2d(3, 6, 3, groups=3), nn.Hardswish(), nn.Conv2d(6, 4, 1)), COLOUR
    ),
    "ResNet": Family(
        lambda: seq(
            nn.Conv2d(3, 4, 3),
            Basic(4),
            Basic(4),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(4, CLASSES),
        ),
        COLOUR,
    ),
    "U-Net": Family(UNet, IMAGE),
    "squeeze and excitation": Family(Gated, IMAGE),
    "group norm": Family(lambda: flat(nn.Conv2d(1, 4, 3), nn.GroupNorm(2, 4), nn.SiLU()), IMAGE),
    "instance norm": Family(
        lambda: flat(nn.Conv2d(1, 4, 3), nn.InstanceNorm2d(4, affine=True), nn.ReLU()), IMAGE
    ),
    "RNN": Family(lambda: seq(Last(nn.RNN(8, 8, batch_first=True)), nn.Linear(8, CLASSES)), STEPS),
    "LSTM": Family(
        lambda: seq(Last(nn.LSTM(8, 8, batch_first=True)), nn.Linear(8, CLASSES)), STEPS
    ),
    "LSTM, both ways, two layers": Family(
        lambda: seq(
            Last(nn.LSTM(8, 4, 2, batch_first=True, bidirectional=True, dropout=0.2)),
            nn.Linear(8, CLASSES),
        ),
        STEPS,
    ),
    "GRU": Family(lambda: seq(Last(nn.GRU(8, 8, batch_first=True)), nn.Linear(8, CLASSES)), STEPS),
    "attention": Family(Attention, STEPS),
    "transformer encoder": Family(encoder, STEPS),
    "embedding of tokens": Family(
        lambda: seq(Tokens(), nn.Embedding(20, 8), Mean(), nn.Linear(8, CLASSES)), (5,), tokens=True
    ),
    "embedding bag": Family(
        lambda: seq(Tokens(), nn.EmbeddingBag(20, 8), nn.Linear(8, CLASSES)), (5,), tokens=True
    ),
    "tokens and LSTM": Family(
        lambda: seq(
            Tokens(),
            nn.Embedding(20, 8),
            Last(nn.LSTM(8, 8, batch_first=True)),
            nn.Linear(8, CLASSES),
        ),
        (5,),
        tokens=True,
    ),
    "two inputs in one row": Family(
        lambda: Fn(
            two_inputs, left=nn.Linear(2, 8), right=nn.Linear(4, 8), head=nn.Linear(8, CLASSES)
        )
    ),
    "siamese": Family(lambda: Fn(twice, body=nn.Linear(3, 4), head=nn.Linear(12, CLASSES))),
    "weight norm": Family(by_weight_norm),
    "spectral norm": Family(by_spectral_norm),
    "orthogonal weights": Family(by_orthogonal),
    "tied weights": Family(Tied),
    "head in the middle": Family(
        lambda: Fn(said, **body(), projection=nn.Linear(16, 2)), head="head"
    ),
    "head by keyword": Family(
        lambda: Fn(lambda m, x: m.head(input=torch.relu(m.body(x))), **body())
    ),
    "head without bias": Family(
        lambda: Fn(said, body=nn.Linear(6, 8), head=nn.Linear(8, CLASSES, bias=False))
    ),
    "writes into its input": Family(lambda: Fn(in_place, **body())),
    "in-place activations": Family(
        lambda: seq(nn.Linear(6, 16), nn.ReLU(inplace=True), nn.Linear(16, CLASSES))
    ),
    "frozen layers": Family(frozen),
    "odd parameters and buffers": Family(Odd),
    "lazy layers, one row passed": Family(materialised),
    "quantisation-aware": Family(FakeQuant),
    "stochastic depth": Family(Depth),
    "activation checkpointing": Family(lambda: Fn(recomputed, **body())),
    "weights in bfloat16": Family(of_dtype(torch.bfloat16)),
    "weights in float64": Family(of_dtype(torch.float64)),
}


def _seeded(family: Family) -> Family:
    def build() -> nn.Module:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = family.build()
            if any(isinstance(m, nn.modules.lazy.LazyModuleMixin) for m in model.modules()):
                model(torch.zeros(2, *family.shape))
        return family.door.mark(model)

    return replace(family, build=build)


FAMILIES = {
    name: _seeded(family) for name, family in (_FAMILIES | STRUCTURED | REGRESSIONS | ODD).items()
}
