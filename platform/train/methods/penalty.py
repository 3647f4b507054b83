"""What a method adds to the loss of a batch."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch


class Penalty:
    """Adds nothing: the base of all penalties, and the one of methods that have none.

    At every step `rehearse` says which rows of the past the model shall also answer, the model
    answers them together with the batch, inside `recording`, and `term` is added to the loss.
    """

    def rehearse(self, part: slice) -> torch.Tensor | None:
        """Draw the rows (k, *input_shape) that the next step also runs; None for none.

        Every worker draws the same rows and takes its ``part`` of them.
        """

    def rehearsed(self) -> int:
        """Return how many rows the next step rehearses, over all workers."""
        return 0

    def recording(self) -> AbstractContextManager[object]:
        """Watch a forward pass."""
        return nullcontext()

    def term(self, output: torch.Tensor | None) -> torch.Tensor | None:  # noqa: ARG002
        """Return this worker's addition to the loss; its mean over the workers is meant.

        Args:
            output: (k, c) what the model said of the rehearsed rows.
        """
        return None

    def figures(self) -> dict[str, float]:
        """Return figures for the manifest."""
        return {}

    def state(self) -> dict[str, Any]:
        """Return what `load` needs to go on identically, as plain values."""
        return {}

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from `state`."""
