"""What a monitor is a fold over: commits of rows and labels, and the re-armings between them.

The live monitor, its recovery after a kill, and a replay all take the same steps through here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from undrift.events import Codec, Compare, Rearm
from undrift.monitor.monitor import Monitor
from undrift.records import Labels, Predictions, Reference

LEFT_OUT = "LeftOut"
"""Type of a record that says which commit is left out, and why."""


def rearms(record: Mapping[str, Any]) -> bool:
    """Tell whether a record is of a re-arming, which says what version is watched from then on."""
    return bool(record.get("type", Rearm.__name__) == Rearm.__name__)


@dataclass(frozen=True, slots=True)
class Moment:
    """One step of a monitor: a commit of rows and labels, or a re-arming after one.

    Attributes:
        commit: Number of the commit, or of the one that the re-arming came after.
        predictions: Numbered rows of the commit.
        labels: Labels of the commit, in order of arrival.
        rearm: The re-arming, or the comparison to begin.
        left_out: Whether the monitor learns nothing from the commit, as it could not fold it.
    """

    commit: int
    predictions: Predictions | None = None
    labels: Labels | None = None
    rearm: Rearm | Compare | None = None
    left_out: bool = False

    @property
    def items(self) -> int:
        """Number of rows and labels."""
        return sum(len(part) for part in (self.predictions, self.labels) if part is not None)


def moments(
    commits: Iterable[tuple[int, Predictions | None, Labels | None]],
    records: Sequence[dict[str, Any]],
) -> Iterator[Moment]:
    """Yield commits and re-armings in the order in which the monitor took them.

    Args:
        commits: Numbers, rows and labels, numbers ascending.
        records: Re-armings, each with the number of the commit that it came after, ascending, and
            which commits are left out.

    Example:
        >>> records = [{**Codec.encode(Rearm(version=2)), "commit": 1}]
        >>> steps = moments([(1, None, None), (2, None, None)], records)
        >>> [(step.commit, step.rearm is not None) for step in steps]
        [(1, False), (1, True), (2, False)]
    """
    left_out = {int(r["commit"]) for r in records if r["type"] == LEFT_OUT}
    orders = [r for r in records if r["type"] != LEFT_OUT]
    waiting = [Moment(int(r["commit"]), rearm=_order(r)) for r in orders]
    for seq, predictions, labels in commits:
        while waiting and waiting[0].commit < seq:
            yield waiting.pop(0)
        yield Moment(seq, predictions, labels, left_out=seq in left_out)
    yield from waiting


def _order(record: dict[str, Any]) -> Rearm | Compare:
    order = Codec.decode(record)
    assert isinstance(order, Rearm | Compare)
    return order


def take(monitor: Monitor, moment: Moment, reference: Callable[[int], Reference]) -> None:
    """Let ``monitor`` take one step.

    Args:
        monitor: The monitor.
        moment: The step.
        reference: Returns the reference of a version.

    Raises:
        ConfigError: The reference of a re-arming cannot calibrate the signals.
    """
    rearm = moment.rearm
    if moment.left_out:
        return
    if rearm is None:
        monitor.fold(moment.predictions, moment.labels)
        return
    if isinstance(rearm, Compare):
        monitor.comparison.start(rearm)
        return
    monitor.rearm(
        rearm.version,
        reference(rearm.version),
        regime_start=rearm.regime_start,
        against=rearm.against is not None,
        run_id=rearm.run_id,
    )
