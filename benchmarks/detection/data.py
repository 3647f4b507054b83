"""Reads the data sets; each function names the file it wants."""

from __future__ import annotations

import csv
import gzip
import io
import lzma
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from undrift.records import FloatArray, IntArray


@cache
def mnist(folder: Path, part: str) -> tuple[FloatArray, IntArray]:
    """Return (n, 1, 28, 28) images in [0, 1] and labels of ``train`` or ``t10k``."""
    images = gzip.decompress((folder / "mnist" / f"{part}-images-idx3-ubyte.gz").read_bytes())
    labels = gzip.decompress((folder / "mnist" / f"{part}-labels-idx1-ubyte.gz").read_bytes())
    x = np.frombuffer(images, np.uint8, offset=16).reshape(-1, 1, 28, 28)
    y = np.frombuffer(labels, np.uint8, offset=8)
    return (x / np.float32(255)).astype(np.float32), y.astype(np.int64)


@cache
def usps(folder: Path) -> tuple[FloatArray, IntArray]:
    """Return the 9,298 images of both parts, enlarged from 16 x 16 to (n, 1, 28, 28)."""
    import h5py

    with h5py.File(folder / "usps" / "usps.h5") as file:
        x = np.concatenate([file[part]["data"][:] for part in ("train", "test")])
        y = np.concatenate([file[part]["target"][:] for part in ("train", "test")])
    small = torch.from_numpy(x.astype(np.float32)).reshape(-1, 1, 16, 16)
    large = F.interpolate(small, size=28, mode="bilinear", align_corners=False)
    return large.numpy(), y.astype(np.int64)


@cache
def concepts(folder: Path, name: str) -> tuple[FloatArray, IntArray]:
    """Return a stream of four concepts of 10,000 rows each, from `lobo_synthetic/NAME.csv.xz`."""
    raw = lzma.decompress((folder / "lobo_synthetic" / f"{name}.csv.xz").read_bytes())
    table = np.loadtxt(io.BytesIO(raw), delimiter=",", skiprows=1, dtype=np.float32)
    return np.ascontiguousarray(table[:, :-1]), table[:, -1].astype(np.int64)


@cache
def electricity(folder: Path) -> tuple[FloatArray, IntArray]:
    """Return 944 days of 48 rows, 6 columns, from `elec2/elec.csv.gz`."""
    text = gzip.decompress((folder / "elec2" / "elec.csv.gz").read_bytes()).decode()
    rows = list(csv.DictReader(io.StringIO(text)))
    columns = [c for c in rows[0] if c != "class"]
    x = np.array([[float(row[c]) for c in columns] for row in rows], dtype=np.float32)
    return x, np.array([int(row["class"]) for row in rows], dtype=np.int64)


def rotated(images: FloatArray, degrees: FloatArray) -> FloatArray:
    """Return (n, 1, h, w) images turned by one angle each."""
    angle = torch.from_numpy(np.deg2rad(degrees).astype(np.float32))
    zero = torch.zeros_like(angle)
    cos, sin = angle.cos(), angle.sin()
    turn = torch.stack([torch.stack([cos, -sin, zero], 1), torch.stack([sin, cos, zero], 1)], 1)
    x = torch.from_numpy(images)
    grid = F.affine_grid(turn, list(x.shape), align_corners=False)
    turned: FloatArray = F.grid_sample(x, grid, align_corners=False).numpy()
    return turned
