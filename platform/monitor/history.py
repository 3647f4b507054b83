"""What a monitor is a fold over: commits of rows and labels, and the re-armings between them.

The live monitor, its recovery after a kill, and a replay all take the same steps through here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from undrift.events import Rearm
from undrift.monitor.monitor import Monitor
from undrift.records import Labels, Predictions, Reference


@dataclass(frozen=True, slots=True)
class Moment:
    """One step of a monitor: a commit of rows and labels, or a re-arming after one.

    Attributes:
        commit: Number of the commit, or of the one that the re-arming came after.
        predictions: Numbered rows of the commit.
        labels: Labels of the commit, in order of arrival.
        rearm: The re-arming.
    """

    commit: int
    predictions: Predictions | None = None
    labels: Labels | None = None
    rearm: Rearm | None = None


def moments(
    commits: Iterable[tuple[int, Predictions | None, Labels | None]],
    rearmings: Iterable[tuple[int, Rearm]],
) -> Iterator[Moment]:
    """Yield commits and re-armings in the order in which the monitor took them.

    Args:
        commits: Numbers, rows and labels, numbers ascending.
        rearmings: With the number of the commit that each came after, ascending.

    Example:
        >>> steps = moments([(1, None, None), (2, None, None)], [(1, Rearm(version=2))])
        >>> [(step.commit, step.rearm is not None) for step in steps]
        [(1, False), (1, True), (2, False)]
    """
    waiting = [Moment(commit, rearm=rearm) for commit, rearm in rearmings]
    for seq, predictions, labels in commits:
        while waiting and waiting[0].commit < seq:
            yield waiting.pop(0)
        yield Moment(seq, predictions, labels)
    yield from waiting


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
    if rearm is None:
        monitor.fold(moment.predictions, moment.labels)
        return
    monitor.rearm(
        rearm.version,
        reference(rearm.version),
        regime_start=rearm.regime_start,
        against=rearm.against is not None,
        run_id=rearm.run_id,
    )
