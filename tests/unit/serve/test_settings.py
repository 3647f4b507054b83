from __future__ import annotations

import pytest
from pydantic import ValidationError

from undrift.serve.settings import ServeSettings


def test_number_of_replicas_is_fixed_unless_a_most_is_given() -> None:
    assert ServeSettings(replicas=3).scaling() == {"num_replicas": 3}
    bounds = ServeSettings(replicas=2, max_replicas=5, scale_up_after_s=3).scaling()
    assert bounds["autoscaling_config"] == {
        "min_replicas": 2,
        "max_replicas": 5,
        "target_ongoing_requests": 16,
        "upscale_delay_s": 3,
        "downscale_delay_s": 600,
    }


def test_most_replicas_below_the_fewest_are_refused() -> None:
    with pytest.raises(ValidationError, match="max_replicas, 1, is below replicas, 2"):
        ServeSettings(replicas=2, max_replicas=1)
