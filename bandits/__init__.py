"""Multi-armed bandits that return (arm, probability); NumPy only."""

from undrift.bandits.base import Bandit, Policy
from undrift.bandits.exp3 import EXP3, EXP3S
from undrift.bandits.linear import LinearThompson
from undrift.bandits.offpolicy import (
    Estimate,
    Log,
    doubly_robust,
    inverse_propensity,
    self_normalized,
)
from undrift.bandits.regret import dynamic_regret, play, pseudo_regret
from undrift.bandits.thompson import DiscountedThompson, Thompson
from undrift.bandits.ucb import UCB1, DiscountedUCB, SlidingWindowUCB

__all__ = [
    "EXP3",
    "EXP3S",
    "UCB1",
    "Bandit",
    "DiscountedThompson",
    "DiscountedUCB",
    "Estimate",
    "LinearThompson",
    "Log",
    "Policy",
    "SlidingWindowUCB",
    "Thompson",
    "doubly_robust",
    "dynamic_regret",
    "inverse_propensity",
    "play",
    "pseudo_regret",
    "self_normalized",
]
