"""Whether another version of the model fits into the memory that is left."""

from __future__ import annotations

from undrift.errors import ModelError

COPIES = 2
"""Of the weights that loading takes: as they are read, and in the model that is filled."""


def check_room(version: int, size: int, available: int) -> None:
    """Check, before anything is read, that a version fits beside the one that answers.

    Args:
        version: Its number.
        size: Bytes of the weights of a version.
        available: Bytes that are left.

    Raises:
        ModelError: It does not.

    Example:
        >>> check_room(2, size=67_000_000, available=1_000_000_000)
    """
    needed = COPIES * size
    if needed > available:
        raise ModelError(
            f"version {version} takes about {_mb(needed)} to load beside the one that answers, and "
            f"{_mb(available)} of memory are left: it is not loaded"
        )


def _mb(size: int) -> str:
    return f"{max(size, 0) / 1e6:,.1f} MB"
