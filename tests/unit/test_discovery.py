from __future__ import annotations

import pytest

from tests.helpers.discovery import concrete, hold_all
from undrift import bandits
from undrift.bandits import EXP3, Policy


def test_a_class_without_an_entry_is_named_and_told_where_to_go() -> None:
    family = concrete(Policy, bandits)
    with pytest.raises(AssertionError, match="enter EXP3 in POLICIES"):
        hold_all(family, family - {EXP3}, "POLICIES")


def test_unfinished_and_private_classes_are_no_members() -> None:
    names = {cls.__name__ for cls in concrete(Policy, bandits)}
    assert "EXP3" in names
    assert not names & {"Policy", "EmpiricalMeans", "_Index"}
