"""Families that take several named inputs, or answer more than one tensor."""

from __future__ import annotations

from collections import OrderedDict, namedtuple
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from tests.helpers.family import CLASSES, Family
from undrift.model.settings import InputSettings

Pair = namedtuple("Pair", "logits hidden")


@dataclass
class Output(OrderedDict):  # type: ignore[type-arg]
    """What Hugging Face's models answer: a dataclass and a mapping of what is not None."""

    loss: torch.Tensor | None = None
    logits: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None

    def __post_init__(self) -> None:
        self.update({k: v for k, v in vars(self).items() if v is not None})


def one(name: str, *shape: int, datatype: str = "FP32") -> InputSettings:
    return InputSettings.model_validate({"name": name, "shape": shape, "datatype": datatype})


class Body(nn.Module):
    """Layers that the models here have in common."""

    def __init__(self, **parts: nn.Module) -> None:
        super().__init__()
        for name, part in parts.items():
            self.add_module(name, part)
        self.head = nn.Linear(8, CLASSES)


class Two(Body):
    def forward(self, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        return self.head(torch.relu(self.left(left) + self.right(right)))


class TokensAndNumbers(Body):
    def forward(self, *, numeric: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        return self.head(torch.relu(self.embed(tokens).mean(dim=1) + self.body(numeric)))


class ImageAndVector(Body):
    def forward(self, image: torch.Tensor, vector: torch.Tensor) -> torch.Tensor:
        seen = self.conv(image.to(vector.dtype) / 255.0).mean(dim=(2, 3))
        return self.head(torch.relu(seen + self.body(vector)))


class Masked(Body):
    """Tokens of which some count, and a place; it divides by how many count."""

    def forward(self, ids: torch.Tensor, mask: torch.Tensor, place: torch.Tensor) -> torch.Tensor:
        known = self.embed(ids) * mask[..., None]
        mean = known.sum(dim=1) / mask.sum(dim=1, keepdim=True).clamp(min=1)
        return self.head(torch.relu(mean + self.places(place)))


class Says(Body):
    """A model of one input whose answer is made by a function of itself, logits and embedding."""

    def __init__(self, says: Callable[[nn.Module, torch.Tensor, torch.Tensor], Any]) -> None:
        super().__init__(body=nn.Linear(6, 8), beside=nn.Linear(8, CLASSES))
        self.head = nn.Linear(8, CLASSES)
        self._says = says

    def forward(self, x: torch.Tensor) -> Any:
        known = torch.relu(self.body(x))
        return self._says(self, self.head(known), known)


def says(said: Callable[[nn.Module, torch.Tensor, torch.Tensor], Any], **more: Any) -> Family:
    return Family(lambda: Says(said), alone=_head, **more)


def _head(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    return model.head(torch.relu(model.body(x)))


STRUCTURED: dict[str, Family] = {
    "two named inputs": Family(
        lambda: Two(left=nn.Linear(2, 8), right=nn.Linear(4, 8)),
        inputs=(one("right", 4), one("left", 2)),
        alone=lambda m, x: m(x[:, 4:], x[:, :4]),
    ),
    "two inputs by position": Family(
        lambda: Two(left=nn.Linear(2, 8), right=nn.Linear(4, 8)),
        inputs=(one("a", 2), one("b", 4)),
        alone=lambda m, x: m(x[:, :2], x[:, 2:]),
    ),
    "tokens and numbers": Family(
        lambda: TokensAndNumbers(embed=nn.Embedding(20, 8), body=nn.Linear(6, 8)),
        inputs=(one("tokens", 5, datatype="INT64"), one("numeric", 6)),
        alone=lambda m, x: m(tokens=x[:, :5].long(), numeric=x[:, 5:11]),
    ),
    "tokens, mask and place": Family(
        lambda: Masked(embed=nn.Embedding(20, 8), places=nn.Embedding(20, 8)),
        inputs=(
            one("ids", 4, datatype="INT32"),
            one("mask", 4, datatype="BOOL"),
            one("place", datatype="INT64"),
        ),
        alone=lambda m, x: m(x[:, :4].int(), x[:, 4:8].bool(), x[:, 8].long()),
    ),
    "image and vector": Family(
        lambda: ImageAndVector(conv=nn.Conv2d(3, 8, 3), body=nn.Linear(4, 8)),
        inputs=(one("image", 3, 8, 8, datatype="UINT8"), one("vector", 4)),
        alone=lambda m, x: m(x[:, :192].reshape(-1, 3, 8, 8).byte(), x[:, 192:]),
    ),
    "answers a dict": says(lambda m, logits, known: {"hidden": known, "logits": logits}),
    "answers a tuple": says(lambda m, logits, known: (logits, known)),
    "answers a named tuple": says(lambda m, logits, known: Pair(logits, known)),
    "answers two of one shape": says(
        lambda m, logits, known: (m.beside(known.detach()), logits), output=1
    ),
    "answers a model output": says(
        lambda m, logits, known: Output(None, logits, (known, known.detach()))
    ),
    "answers more while it trains": says(
        lambda m, logits, known: (
            {"logits": logits, "beside": m.beside(known)} if m.training else logits
        ),
        output="logits",
    ),
}
