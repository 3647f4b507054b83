"""Ctrl-C while several processes start and stop."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Interrupt:
    """Turns SIGINT and SIGTERM into KeyboardInterrupt, and keeps them in mind.

    A signal may strike while a library runs a callback and swallows what it raises; `check` then
    raises it again.
    """

    def __init__(self) -> None:
        self._asked = False
        self._previous: dict[signal.Signals, Any] = {}

    def install(self) -> None:
        """Take over both signals, in the main thread; again after others have done so."""
        if threading.current_thread() is not threading.main_thread():
            return
        for sign in (signal.SIGINT, signal.SIGTERM):
            before = self._previous.setdefault(sign, signal.getsignal(sign))
            if before != signal.SIG_IGN:  # as for a background job of a shell: so be it
                signal.signal(sign, self._strike)

    def restore(self) -> None:
        """Give the signals back."""
        for sign, handler in self._previous.items():
            signal.signal(sign, handler)

    def check(self) -> None:
        """Raise KeyboardInterrupt if one of the signals came."""
        if self._asked:
            raise KeyboardInterrupt

    def _strike(self, *_: Any) -> None:
        self._asked = True
        raise KeyboardInterrupt


@contextmanager
def put_off() -> Iterator[None]:
    """Let Ctrl-C strike after the block rather than in its midst.

    For what must be made as a whole: half an event loop, say, complains when it is thrown away.
    """
    before = signal.getsignal(signal.SIGINT)
    if before is None or threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    signal.signal(signal.SIGINT, lambda sign, _: came.append(sign))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if came:
            signal.raise_signal(signal.SIGINT)
