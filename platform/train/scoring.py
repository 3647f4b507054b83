"""A model's answers on many rows."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from undrift.model.door import door_of
from undrift.model.network import find_head, forward_with_embedding
from undrift.records import FloatArray
from undrift.train.objective import Classification, Objective, Regression


def score(
    model: nn.Module,
    x: FloatArray,
    *,
    objective: Objective | None = None,
    head: str = "auto",
    batch: int = 1024,
    device: torch.device | str = "cpu",
) -> tuple[FloatArray, FloatArray]:
    """Return what is served for rows (n, *input_shape), and their embeddings (n, e).

    Args:
        model: The model, on ``device``; it is left in evaluation mode.
        x: (n, *input_shape) rows.
        objective: Makes answers (n, c) of outputs; by default class probabilities, or the numbers
            of a model that answers numbers.
        head: Linear layer whose input is the embedding.
        batch: Rows of one forward pass.
        device: Where to run it.
    """
    objective = objective or (Regression() if door_of(model).numbers else Classification())
    layer = find_head(model, head)[1]
    model.eval()
    answers, embeddings = [], []
    with torch.inference_mode():
        for start in range(0, max(1, len(x)), batch):
            rows = torch.as_tensor(x[start : start + batch], device=device)
            output, embedding = forward_with_embedding(model, layer, rows)
            answers.append(objective.answers(output).float().cpu().numpy())
            embeddings.append(embedding.float().cpu().numpy())
    return np.concatenate(answers), np.concatenate(embeddings)
