"""A result of the schedules benchmark is kept until the code behind it changes."""

from __future__ import annotations

from benchmarks.schedules import OURS, PLAYERS, digest


def test_players_of_the_product_are_keyed_by_its_code_and_the_others_are_not() -> None:
    assert len({digest(player) for player in PLAYERS}) == 1
    assert len({digest(player) for player in OURS}) == 1
    assert digest("mixture") != digest("frozen")
