"""Multi-armed bandits that return (arm, probability); NumPy only."""

from undrift.bandits.base import Policy
from undrift.bandits.exp3 import EXP3S
from undrift.bandits.thompson import DiscountedThompson

__all__ = ["DiscountedThompson", "EXP3S", "Policy"]
