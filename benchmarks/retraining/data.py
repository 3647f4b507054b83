"""Reads the data sets that the detection benchmark does not read, and shifts images."""

from __future__ import annotations

import gzip
import io
import lzma
import os
import tarfile
from functools import cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.nn import functional as F

from undrift.records import FloatArray, IntArray

# The authors of the retraining paper shift images by these amounts, in the code of their earlier
# paper (XiaofengZhu/frosting_weights, Apache-2.0); a shear given there as 0.2 is in radians here.
_TURN, _SHEAR, _SHIFT, _ZOOM = 45.0, 0.2, 0.2, 0.2
_CIFAR_MEAN = np.array([0.491, 0.482, 0.447], np.float32)[:, None, None]
_CIFAR_STD = np.array([0.247, 0.243, 0.262], np.float32)[:, None, None]


@cache
def digits(folder: Path, name: str, part: str) -> tuple[FloatArray, IntArray]:
    """Return (n, 1, 28, 28) images in [0, 1] and labels of ``mnist`` or ``fashion_mnist``.

    Args:
        folder: Data sets.
        name: Of the data set's folder.
        part: ``train`` or ``t10k``.
    """
    read = [
        gzip.decompress((folder / name / f"{part}-{kind}-ubyte.gz").read_bytes())
        for kind in ("images-idx3", "labels-idx1")
    ]
    x = np.frombuffer(read[0], np.uint8, offset=16).reshape(-1, 1, 28, 28)
    y = np.frombuffer(read[1], np.uint8, offset=8)
    return (x / np.float32(255)).astype(np.float32), y.astype(np.int64)


@cache
def cifar10(folder: Path, part: str, out: Path) -> tuple[FloatArray, IntArray]:
    """Return (n, 3, 32, 32) standardised images and labels of ``train`` or ``test``.

    The archive of images is decoded once; the pixels are kept in ``out``.
    """
    path = out / "cifar10.npz"
    if not path.exists():
        _unpack_cifar10(folder / "cifar10_jpg" / "cifar10_jpg.tar.xz", path)
    with np.load(path) as kept:
        pixels, y = kept[f"{part}_x"], kept[f"{part}_y"]
    x = (pixels.transpose(0, 3, 1, 2) / np.float32(255) - _CIFAR_MEAN) / _CIFAR_STD
    return np.ascontiguousarray(x, dtype=np.float32), y.astype(np.int64)


def _unpack_cifar10(archive: Path, path: Path) -> None:
    images: dict[str, list[NDArray[np.uint8]]] = {"train": [], "test": []}
    classes: dict[str, list[str]] = {"train": [], "test": []}
    with tarfile.open(archive) as tar:
        for member in tar:
            file = tar.extractfile(member) if member.name.endswith(".jpg") else None
            if file is None:
                continue
            part, name, _ = member.name.split("/")
            images[part].append(np.asarray(Image.open(file)))
            classes[part].append(name)
    arrays: dict[str, NDArray[np.uint8]] = {}
    for part in images:
        arrays[f"{part}_x"] = np.stack(images[part])
        arrays[f"{part}_y"] = np.unique(classes[part], return_inverse=True)[1].astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}.npz")
    np.savez(partial, **arrays)  # type: ignore[arg-type]
    partial.replace(path)


@cache
def insects(folder: Path) -> tuple[FloatArray, IntArray]:
    """Return 24,150 rows of 33 columns and their 6 classes, in order of time."""
    path = folder / "insects_gradual" / "gradual_balanced_24150.csv.xz"
    text = lzma.decompress(path.read_bytes()).decode()
    table = np.loadtxt(io.StringIO(text), delimiter=",", dtype=np.float32)
    classes = np.unique(table[:, -1], return_inverse=True)[1]
    return np.ascontiguousarray(table[:, :-1]), classes.astype(np.int64)


def moved(images: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Return images (n, c, h, w), each turned, sheared, shifted and zoomed at random.

    Up to 45 degrees, a shear of 0.2, a shift of 0.2 of the width, a zoom from 0.8 to 1.2 along
    either axis; what comes into view repeats the border.
    """
    n = len(images)
    angle = np.deg2rad(rng.uniform(-_TURN, _TURN, n))
    shear = rng.uniform(-_SHEAR, _SHEAR, n)
    shift = 2.0 * rng.uniform(-_SHIFT, _SHIFT, (n, 2))  # the grid spans -1 to 1
    zoom = rng.uniform(1.0 - _ZOOM, 1.0 + _ZOOM, (n, 2))
    turn = np.stack([np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)], 1)
    slant = np.stack([np.ones(n), -np.sin(shear), np.zeros(n), np.cos(shear)], 1)
    matrix = turn.reshape(n, 2, 2) @ slant.reshape(n, 2, 2) * zoom[:, None, :]
    theta = torch.from_numpy(np.concatenate([matrix, shift[:, :, None]], 2).astype(np.float32))
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    seen: FloatArray = F.grid_sample(
        torch.from_numpy(images), grid, padding_mode="border", align_corners=False
    ).numpy()
    return seen
