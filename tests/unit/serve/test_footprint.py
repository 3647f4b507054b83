"""A replica that holds more memory than it may says so."""

from __future__ import annotations

import numpy as np
import pytest

from undrift.errors import StoreError
from undrift.serve.footprint import check_footprint, resident


def test_memory_that_is_taken_is_seen_and_refused_beyond_the_limit() -> None:
    before = resident()
    check_footprint(None)
    check_footprint(before + 2**26)
    taken = np.ones(2**25)  # 256 MiB, touched
    assert resident() - before > 2**27
    with pytest.raises(StoreError, match=r"serve\.max_replica_bytes allows"):
        check_footprint(before + 2**26)
    assert taken.all()
