"""What one batch costs is measured as the model computes it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from undrift.model.cost import batch_cost

ROWS = 50


def held(model: nn.Module, width: int = 4) -> float:
    """Return the floats of each row that lived at one time, beside the copy of the batch."""
    head = next(m for m in reversed(list(model.modules())) if isinstance(m, nn.Linear))
    return batch_cost(model, head, torch.zeros(3, width), ROWS).bytes / 4 / ROWS - width


@pytest.mark.parametrize(
    ("layers", "floats"),
    [
        ([nn.Linear(4, 100)], 204),
        ([nn.Linear(4, 100), nn.ReLU(), nn.Linear(100, 2)], 202),
        ([nn.Linear(4, 100), nn.ReLU(inplace=True), nn.Linear(100, 2)], 202),
        ([nn.Linear(4, 100), nn.Unflatten(1, (10, 10)), nn.Flatten(), nn.Linear(100, 2)], 202),
    ],
)
def test_most_that_lived_at_one_time_is_counted(layers: list[nn.Module], floats: int) -> None:
    assert held(nn.Sequential(*layers)) == floats


def test_what_the_model_keeps_is_counted_as_long_as_it_does() -> None:
    class Keeps(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.head = nn.Linear(4, 100), nn.Linear(100, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            kept = [self.body(x) for _ in range(3)]
            return self.head(torch.stack(kept).sum(dim=0))

    assert held(Keeps()) == 700


def test_view_of_a_weight_takes_nothing() -> None:
    class Plain(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            super().forward(x)
            return x @ self.weight.T.view(4, 100)

    assert held(Plain(4, 100)) == 204


def test_rows_are_repeated_and_threads_and_weights_left_as_they_were() -> None:
    asked = []

    class Counts(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            asked.append((len(x), torch.get_num_threads()))
            return super().forward(x)

    model, threads = Counts(1, 2), torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        found = batch_cost(model, model, torch.tensor([[1.0], [2.0]]), 5)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    assert set(asked) == {(5, 1)}
    assert (found.rows, found.seconds > 0) == (5, True)
