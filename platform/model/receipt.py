"""What the monitor tells a replica in return for the rows that it was handed."""

from __future__ import annotations

from dataclasses import dataclass

from undrift.model.mixture import Mixture


@dataclass(frozen=True, slots=True)
class Receipt:
    """How the monitor would have a replica answer from here on.

    Attributes:
        watched: Version that the monitor watches.
        against: Version that the probation of the watched one is held against; None without one.
        mixture: A newer mixture to answer with; None if there is none.
    """

    watched: int
    against: int | None = None
    mixture: Mixture | None = None
