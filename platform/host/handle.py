"""A running platform in the hands of the process that started it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from undrift.host import cluster
from undrift.host.interrupt import Interrupt
from undrift.host.process import ProcessFile
from undrift.host.renewal import Renewal
from undrift.store.lease import Keeper


@dataclass
class Handle:
    """A running platform.

    Attributes:
        url: Where it answers.
        token: What operators send as bearer token.
        runfile: What says that it runs; it has the state, with the right to write to it.
        actors: Ray handles of ``controller``, ``monitor`` and ``trainer`` of the only model.
        interrupt: The signals that ask it to stop.
        notes: Remarks for the user, such as a fallback.
        keeper: What keeps the lease of a state in a bucket, if this process does.
        renewal: What takes a renewed certificate to the load balancer, where there is one.
        folder: Private folder of this run, where there is one.
        version: Of the Serve application at the route ``/``.
    """

    url: str
    token: str
    runfile: ProcessFile
    actors: dict[str, Any]
    interrupt: Interrupt
    notes: list[str] = field(default_factory=list)
    keeper: Keeper | None = None
    renewal: Renewal | None = None
    folder: Path | None = None
    version: str = ""

    def wait(self) -> None:
        """Wait for a signal that asks the platform to stop.

        Raises:
            KeyboardInterrupt: It came.
            PlatformError: Ray has ended by itself, or another platform has taken the state.
        """
        while True:
            self.check()
            time.sleep(0.2)

    def check(self) -> None:
        """Raise what `wait` does, if there is cause."""
        self.interrupt.check()
        if self.keeper is not None:
            self.keeper.check()
        if self.renewal is not None:
            self.renewal.look()
        cluster.check_running()
