"""The log of the bandits' choices, its summary, and the report on a version."""

from __future__ import annotations

import json

import numpy as np
import pytest

from undrift.train.audit import Draw, columns, report, summary, uniform_instead
from undrift.views import AuditView, plain, read

CHOICES = (
    Draw(0, "sample", 0, 0.8, 0.5),
    Draw(1, "sample", 1, 0.2, 1.0),
    Draw(2, "sample", 0, 0.6, 0.7),
    Draw(9, "block", 0, 1.0, 0.3),
)
ARMS = {"sample": ("old", "new", "never"), "block": ("0", "2")}


def test_summary_says_what_was_drawn_of_each_arm() -> None:
    found = summary(columns(CHOICES), ARMS)
    assert found["sample"] == [
        {"arm": "old", "draws": 2, "probability": 0.7, "reward": 0.6, "first": 0, "last": 2},
        {"arm": "new", "draws": 1, "probability": 0.2, "reward": 1.0, "first": 1, "last": 1},
        {"arm": "never", "draws": 0},
    ]
    assert [arm["draws"] for arm in found["block"]] == [1, 0]


def test_method_without_a_bandit_has_an_empty_summary() -> None:
    assert summary(columns(()), ARMS) == {}


def test_uniform_choice_is_estimated_without_bias() -> None:
    rng = np.random.default_rng(0)
    probability, means = np.array([0.7, 0.2, 0.1]), np.array([0.2, 0.5, 0.8])
    arms = rng.choice(3, size=5000, p=probability)
    rewards = means[arms] + rng.normal(0.0, 0.1, size=5000)
    drawn = enumerate(zip(arms, rewards, strict=True))
    log = columns([Draw(i, "sample", a, probability[a], r) for i, (a, r) in drawn])
    found = uniform_instead(log, "sample", 3)
    assert found is not None
    assert found["reward"] == pytest.approx(0.32, abs=0.02)
    for estimate in (found["ips"], found["snips"], found["dr"]):
        assert estimate["value"] == pytest.approx(0.5, abs=4 * estimate["standard_error"])
        assert estimate["warning"] == ""
    assert found["dr"]["standard_error"] < found["ips"]["standard_error"]


def test_choices_without_an_alternative_do_not_count() -> None:
    assert uniform_instead(columns(CHOICES), "block", 2) is None
    found = uniform_instead(columns(CHOICES), "sample", 3)
    assert found is not None
    assert found["choices"] == 3


def test_report_tells_compute_forgetting_and_bandits_as_plain_json() -> None:
    manifest = {
        "version": 3,
        "parent": 1,
        "run_id": "run-2",
        "plan": {"method": "bandit", "steps": 600, "budget": "5s", "kind": "both"},
        "metrics": {
            "accepted": True,
            "reason": "better",
            "gate": {"validation_accuracy_new": 0.9, "retention_accuracy_old": 0.8},
            "training": {"start_version": 1, "steps": 40},
            "flops": 2e9,
            "seconds": {"train": 5.0},
            "audit": summary(columns(CHOICES), ARMS),
        },
    }
    found = report(manifest, columns(CHOICES))
    assert read(AuditView, json.loads(json.dumps(plain(found)))) == found
    assert found.compute == {"flops": 2e9, "seconds": {"train": 5.0}}
    assert found.older == {"accuracy_old": 0.8}
    assert found.bandits["sample"]["uniform_instead"] is None  # strata are not drawn one by one
    assert found.bandits["block"]["uniform_instead"] is None  # it had nothing to choose


def test_first_version_has_a_report_that_is_empty() -> None:
    first = {"version": 1, "parent": None, "run_id": "", "plan": None, "metrics": {}}
    found = report(first, columns(()))
    assert (found.accepted, found.bandits, found.plan["method"]) == (None, {}, None)
