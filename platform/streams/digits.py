"""Handwritten digits seen by a camera that slowly tilts; the images ship inside scikit-learn."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from undrift.errors import ConfigError
from undrift.records import FloatArray, IntArray
from undrift.streams.stream import Rows, Stream, fixed_lag

CALM_FRAC, TILT_END_FRAC = 0.15, 0.75
FULL_TILT_DEG, FINAL_TILT_DEG = 65.0, 70.0
JITTER_DEG, SHIFT_PX, NOISE = 3.0, 0.2, 0.03


def digits(rows: int = 10_000, lag: int = 200, seed: int = 0) -> Stream:
    """Make the stream of tilting digits.

    The images are split in half: those that the first model learns from never appear in the
    stream. Each appearance is jittered and noisy, so no two rows are the same.

    Args:
        rows: Live rows, at least 500.
        lag: Rows between a prediction and its label.
        seed: Seed of the split, the order and the noise.

    Raises:
        ConfigError: scikit-learn is not installed, or the stream is too short.
    """
    if rows < 500:
        raise ConfigError(f"the digits stream needs at least 500 rows, not {rows}")
    images, y = _images()
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(y))
    first, later = order[: len(y) // 2], order[len(y) // 2 :]

    known = rng.permutation(np.tile(first, 6))
    held_out = np.isin(known, first[: len(first) // 4])
    seen = Rows(photograph(images[known], np.zeros(len(known)), rng), y[known])
    pick = _pick(later, rows, rng)
    live = Rows(photograph(images[pick], tilt(rows), rng), y[pick])
    return Stream(
        name="digits",
        title="Handwritten digits under a tilting camera",
        task="Read the digit in an 8 by 8 image. The camera slowly tilts by "
        f"{FINAL_TILT_DEG:.0f} degrees while the model is in service.",
        input_shape=(1, 8, 8),
        class_names=tuple(str(c) for c in range(10)),
        train=seen.take(~held_out),
        reference=seen.take(held_out),
        live=live,
        label_at=fixed_lag(live.y, lag),
        notes=(
            f"{len(first)} images train and calibrate the first model, {len(later)} others are "
            f"streamed, each about {rows / len(later):.0f} times with fresh jitter and noise.",
            f"Each label arrives {lag} rows after its prediction.",
        ),
        drift_row=int(CALM_FRAC * rows),
    )


def _images() -> tuple[FloatArray, IntArray]:
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise ConfigError(
            "the digits ship with scikit-learn, which is missing: pip install 'undrift[demo]'"
        ) from None
    bunch = load_digits()
    return (bunch.images / 16.0).astype(np.float32), bunch.target.astype(np.int64)


def tilt(rows: int) -> np.ndarray:
    """Return the tilt of the camera at each row, (rows,) degrees: calm, tilting, nearly still.

    Example:
        >>> tilt(1000)[[0, 150, 750, 999]].round().tolist()
        [0.0, 0.0, 65.0, 70.0]
    """
    at = np.arange(rows) / max(rows - 1, 1)
    knots = [CALM_FRAC, TILT_END_FRAC, 1.0]
    return np.interp(at, knots, [0.0, FULL_TILT_DEG, FINAL_TILT_DEG])


def photograph(images: FloatArray, angle_deg: np.ndarray, rng: np.random.Generator) -> FloatArray:
    """Photograph each image with a camera at its angle, with jitter, shift and sensor noise.

    Args:
        images: (n, 8, 8) in [0, 1].
        angle_deg: (n,) tilt of the camera.
        rng: Source of the jitter and the noise.

    Returns:
        (n, 1, 8, 8) in [0, 1].
    """
    n, height, width = images.shape
    angle = np.deg2rad(angle_deg + rng.normal(0.0, JITTER_DEG, n))[:, None, None]
    shift = rng.normal(0.0, SHIFT_PX, (2, n, 1, 1))
    down, right = np.mgrid[:height, :width].astype(float)
    down, right = down - (height - 1) / 2 + shift[0], right - (width - 1) / 2 + shift[1]
    source = (
        np.broadcast_to(np.arange(n)[:, None, None], (n, height, width)),
        np.cos(angle) * down + np.sin(angle) * right + (height - 1) / 2,
        np.cos(angle) * right - np.sin(angle) * down + (width - 1) / 2,
    )
    seen = ndimage.map_coordinates(images, source, order=1, prefilter=False)
    seen += rng.normal(0.0, NOISE, seen.shape).astype(np.float32)
    return np.asarray(np.clip(seen, 0.0, 1.0)[:, None], dtype=np.float32)


def _pick(pool: np.ndarray, rows: int, rng: np.random.Generator) -> np.ndarray:
    """Draw ``rows`` from ``pool`` in shuffled passes, so that every image is equally frequent."""
    passes = -(-rows // len(pool))
    return np.concatenate([rng.permutation(pool) for _ in range(passes)])[:rows]
