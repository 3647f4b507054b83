from __future__ import annotations

import pytest
from pydantic import ValidationError

from undrift.serve.settings import ServeSettings


def test_number_of_replicas_is_fixed_unless_a_most_is_given() -> None:
    assert ServeSettings(replicas=3).scaling() == {"num_replicas": 3}
    bounds = ServeSettings(replicas=2, max_replicas=5).scaling()["autoscaling_config"]
    assert (bounds["min_replicas"], bounds["max_replicas"]) == (2, 5)


def test_most_replicas_below_the_fewest_are_refused() -> None:
    with pytest.raises(ValidationError, match="max_replicas, 1, is below replicas, 2"):
        ServeSettings(replicas=2, max_replicas=1)
