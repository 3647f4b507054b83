"""How much memory this process holds."""

from __future__ import annotations

import os
import resource
import sys
from pathlib import Path

from undrift.errors import StoreError

_STATM = Path("/proc/self/statm")


def resident() -> int:
    """Return the bytes that are in memory now; where there is no /proc, the most that ever were."""
    if _STATM.exists():
        return int(_STATM.read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def check_footprint(limit: int | None) -> None:
    """Check that this process holds no more memory than it may.

    Args:
        limit: Bytes; None: any number.

    Raises:
        StoreError: It does.
    """
    if limit is not None and (held := resident()) > limit:
        raise StoreError(
            f"this replica holds {held / 1e6:,.0f} MB, serve.max_replica_bytes allows "
            f"{limit / 1e6:,.0f}: another takes its place"
        )
