"""How much memory a piece of work takes at its peak."""

from __future__ import annotations

import ctypes
from pathlib import Path
from types import TracebackType

_PROCESS = Path("/proc/self")


class PeakMemory:
    """Measures, on Linux, by how much the resident memory of this process rises within a block.

    The heap is trimmed first; else what earlier work left free would hide what this one needs.

    Attributes:
        mb: MiB above what was resident at the start; 0 where the system does not tell.
    """

    def __init__(self) -> None:
        self.mb = 0.0
        self._before = 0.0

    def __enter__(self) -> PeakMemory:
        try:
            ctypes.CDLL(None).malloc_trim(0)
            (_PROCESS / "clear_refs").write_text("5")  # sets the peak to the present
            self._before = _resident("VmRSS")
        except (AttributeError, OSError):
            self._before = 0.0
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._before:
            self.mb = max(0.0, _resident("VmHWM") - self._before)


def _resident(name: str) -> float:
    lines = (_PROCESS / "status").read_text(encoding="ascii").splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(f"{name}:")) / 1024
