"""State machines of Hypothesis, held against models: how long they run, and so that runs repeat."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

GATE = settings(
    max_examples=30,
    stateful_step_count=50,
    deadline=None,
    derandomize=True,
    database=None,
    print_blob=False,
    phases=[Phase.generate, Phase.shrink],
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),  # they take a slow machine for a fault
)
LONG = settings(GATE, max_examples=120, stateful_step_count=100)

lengths = pytest.mark.parametrize(
    "length",
    [
        pytest.param(GATE, id="1_000_steps", marks=pytest.mark.thorough),
        pytest.param(LONG, id="10_000_steps", marks=[pytest.mark.slow, pytest.mark.timeout(1_200)]),
    ],
)
"""Runs a test at both lengths; it takes ``length``."""


def run(machine: type[RuleBasedStateMachine], length: settings) -> None:
    """Let a machine run; it fails with the shortest way to a fault that was found."""
    run_state_machine_as_test(machine, settings=length)
