"""Trains an example's first model and writes what undrift.yaml names; run it in the folder.

The rows of `model.rows()` are in order of time. The first 2,000 train the model, the next 600 are
its reference, the others are the stream, which it meets once it serves.
"""

import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors.torch import save_file

FOLDER = Path.cwd()
sys.path.insert(0, str(FOLDER))

import model as example  # noqa: E402 - it lies in that folder

TRAINED, REFERENCE, STEPS, BATCH = 2000, 2600, 300, 64  # a model may have STEPS of its own


def main() -> None:
    """Write weights.safetensors, reference.npz and stream.parquet."""
    x, y = example.rows()
    torch.manual_seed(0)
    net, rng = example.build(), np.random.default_rng(0)
    classes, truth = getattr(example, "CLASSES", None), torch.from_numpy(y)
    criterion = torch.nn.CrossEntropyLoss()
    if classes is None:  # numbers to be met, a column for each output of the model
        criterion, truth = torch.nn.MSELoss(), truth.reshape(len(y), -1)
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3)
    for _ in range(getattr(example, "STEPS", STEPS)):
        index = rng.integers(0, TRAINED, BATCH)
        loss = criterion(net(torch.from_numpy(x[index])), truth[index])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    save_file(net.state_dict(), FOLDER / "weights.safetensors")
    np.savez(FOLDER / "reference.npz", x=x[TRAINED:REFERENCE], y=y[TRAINED:REFERENCE])
    later, told = x[REFERENCE:].reshape(len(x) - REFERENCE, -1), y[REFERENCE:]
    columns = {f"x{i}": later[:, i] for i in range(later.shape[1])}
    columns["label"] = told if classes is None else [classes[i] for i in told]
    pq.write_table(pa.table(columns), FOLDER / "stream.parquet")


if __name__ == "__main__":
    main()
