"""A model's answers on many rows."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from undrift.model import find_head, forward_with_embedding
from undrift.records import FloatArray


def score(
    model: nn.Module,
    x: FloatArray,
    *,
    head: str = "auto",
    batch: int = 1024,
    device: torch.device | str = "cpu",
) -> tuple[FloatArray, FloatArray]:
    """Return the class probabilities (n, c) and the embeddings (n, e) of rows (n, *input_shape).

    ``head`` names the last linear layer. The model is on ``device`` and is left in evaluation mode.
    """
    layer = find_head(model, head)[1]
    model.eval()
    outputs, embeddings = [], []
    with torch.inference_mode():
        for start in range(0, max(1, len(x)), batch):
            rows = torch.as_tensor(x[start : start + batch], device=device)
            logits, embedding = forward_with_embedding(model, layer, rows)
            outputs.append(logits.softmax(dim=1).float().cpu().numpy())
            embeddings.append(embedding.float().cpu().numpy())
    return np.concatenate(outputs), np.concatenate(embeddings)
