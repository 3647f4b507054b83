"""A replay's result as JSON, and back: what runs elsewhere is told and drawn here."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from undrift.evidence import Evidence
from undrift.replay.run import Replayed
from undrift.replay.timeline import Entry, Timeline, Trace
from undrift.views import plain, read

_NO_TRACE = Trace((), np.empty(0, np.int64), *(np.empty((0, 0)) for _ in range(3)))


@dataclass(frozen=True, slots=True)
class Sent:
    """A replay that was made elsewhere.

    Attributes:
        source: What was replayed, as it was called there.
        notes: How, one sentence each.
        entries: What would have happened.
        last: What the monitor knew at the end.
        totals: Counts and costs.
        accuracy: As `Replayed` has it.
        measure: As `Replayed` has it.
        plot: The picture in base 64; empty: none was wanted.
    """

    source: str
    notes: tuple[str, ...]
    entries: tuple[Entry, ...]
    last: Evidence
    totals: dict[str, Any]
    accuracy: dict[str, dict[str, float | None]]
    measure: str
    plot: str = ""


def pack(found: Replayed, plot: Path | None) -> dict[str, Any]:
    """Return a replay and the picture of it as plain JSON values."""
    timeline = found.timeline
    picture = base64.b64encode(plot.read_bytes()).decode() if plot is not None else ""
    sent = Sent(
        found.source,
        found.notes,
        timeline.entries,
        timeline.last,
        found.totals,
        found.accuracy,
        found.measure,
        picture,
    )
    packed: dict[str, Any] = plain(sent)
    return packed


def unpack(data: Any, source: str, plot: Path | None) -> Replayed:
    """Return what `pack` made JSON of, and write the picture.

    Args:
        data: The JSON values.
        source: What was replayed, as it is called here; empty: as there.
        plot: Where to write the picture.

    Raises:
        PlatformError: It is something else.
    """
    sent = read(Sent, data)
    if plot is not None:
        plot.write_bytes(base64.b64decode(sent.plot))
    timeline = Timeline(sent.entries, _NO_TRACE, sent.last)
    return Replayed(
        source or sent.source, sent.notes, timeline, sent.totals, sent.accuracy, sent.measure
    )
