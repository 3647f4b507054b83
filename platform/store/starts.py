"""Moments from which the record of a model can be folded, though what came before is gone."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self

from undrift.store.blobs import Blobs

_NAME = re.compile(r"start-(\d+)-(\d+)-(\d+)")


@dataclass(frozen=True, slots=True, order=True)
class Start:
    """A moment from which a record can be folded, though what came before is gone.

    Attributes:
        commit: Last commit that the state includes.
        row: Row after the newest one of that commit.
        at: When it was kept, Unix seconds.
    """

    commit: int
    row: int
    at: int

    @property
    def name(self) -> str:
        """Name of the blob that has the state."""
        return f"start-{self.commit}-{self.row}-{self.at}"

    @classmethod
    def named(cls, name: str) -> Self | None:
        """Return the start that a blob belongs to, None for other blobs."""
        found = _NAME.fullmatch(name)
        return cls(*map(int, found.groups())) if found else None


def first_commit(blobs: Blobs) -> int:
    """Return the commit after which a replay begins; 0 while no start was kept."""
    return min((start.commit for start in kept(blobs)), default=0)


def kept(blobs: Blobs) -> list[Start]:
    """Return the starts that there are, oldest first."""
    return sorted(start for name in blobs.names() if (start := Start.named(name)))
