"""Messages of twelve words, sorted by topic: the mean of the words' embeddings decides.

They are made by a rule. Of 240 words, each of three topics has 30 of its own and the others are
everybody's; a message takes each word from its topic with probability 0.4, else from everybody's.
From live row 600 on the topics talk in new words: 30 that were everybody's before.
"""

import numpy as np
import torch
from torch import nn

CLASSES = ("sport", "money", "art")
ROWS, CHANGE = 5600, 3200
WORDS, LENGTH, TOPICS, OWN = 240, 12, 3, 30


class Bag(nn.Module):
    """Word numbers to one logit per topic."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(WORDS, 16)
        self.hidden = nn.Linear(16, 32)
        self.topic = nn.Linear(32, TOPICS)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return (n, topics) logits of (n, 12) word numbers, which come as floating point."""
        return self.topic(torch.relu(self.hidden(self.words(x.long()).mean(dim=1))))


def build() -> nn.Module:
    """Return the untrained model."""
    return Bag()


def rows() -> tuple[np.ndarray, np.ndarray]:
    """Return (n, 12) word numbers in order of time, and the (n,) topic of each message."""
    rng = np.random.default_rng(0)
    topic = rng.integers(0, TOPICS, ROWS)
    moved = np.arange(ROWS) >= CHANGE
    first = OWN * (topic + TOPICS * moved)
    own = first[:, None] + rng.integers(0, OWN, (ROWS, LENGTH))
    common = rng.integers(OWN * TOPICS, WORDS, (ROWS, LENGTH))
    words = np.where(rng.random((ROWS, LENGTH)) < 0.4, own, common)
    return words.astype(np.float32), topic.astype(np.int64)
