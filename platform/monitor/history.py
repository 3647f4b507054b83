"""What a monitor is a fold over: committed ticks, and the re-armings between them.

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
    """One step of a monitor: a tick of rows and labels, or an order to re-arm after a tick.

    Attributes:
        tick: Number of the tick, or of the tick that the order came after.
        predictions: Numbered rows of the tick.
        labels: Labels of the tick, in order of arrival.
        order: The re-arming.
    """

    tick: int
    predictions: Predictions | None = None
    labels: Labels | None = None
    order: Rearm | None = None


def moments(
    ticks: Iterable[tuple[int, Predictions | None, Labels | None]],
    orders: Iterable[tuple[int, Rearm]],
) -> Iterator[Moment]:
    """Yield ticks and orders in the order in which the monitor took them.

    Args:
        ticks: Numbers, rows and labels, numbers ascending.
        orders: Orders with the number of the tick that each came after, ascending.

    Example:
        >>> steps = moments([(1, None, None), (2, None, None)], [(1, Rearm(version=2))])
        >>> [(step.tick, step.order is not None) for step in steps]
        [(1, False), (1, True), (2, False)]
    """
    waiting = [Moment(tick, order=order) for tick, order in orders]
    for seq, predictions, labels in ticks:
        while waiting and waiting[0].tick < seq:
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
        ConfigError: The reference of an order cannot calibrate the signals.
    """
    order = moment.order
    if order is None:
        monitor.fold(moment.predictions, moment.labels)
        return
    monitor.rearm(
        order.version,
        reference(order.version),
        regime_start=order.regime_start,
        against=order.against is not None,
        run_id=order.run_id,
    )
