from __future__ import annotations

import numpy as np
import pytest

from undrift.evidence import Level
from undrift.monitor.statistics.error_rate import ErrorTest
from undrift.monitor.statistics.group_rates import GroupRates


def errors(rate: float, n: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random(n) < rate


def one_class(rows: np.ndarray) -> np.ndarray:
    return np.zeros(len(rows), dtype=np.int64)


def fitted(reference: np.ndarray, drift_at: float = 10_000) -> ErrorTest:
    test = ErrorTest(drift_at, drift_at)
    test.fit(reference, one_class(reference), np.arange(len(reference)))
    return test


def feed(test: ErrorTest, wrong: np.ndarray, first: int = 0) -> int | None:
    """Return the row of the alarm, if any, looking after every block."""
    for at in range(0, len(wrong), 64):
        rows = np.arange(at, min(at + 64, len(wrong)))
        test.update(wrong[rows], one_class(rows), first + rows)
        if test.level > Level.NONE:
            return test.report("x").since_row
    return None


def test_short_reference_keeps_the_limit_without_a_margin() -> None:
    limit, times, alarms = 500, 0, 0
    for seed in range(60):
        wrong = errors(0.2, 3_200, seed)
        alarm = feed(fitted(wrong[:200], limit), wrong[200:])
        times += 3_000 if alarm is None else alarm + 1
        alarms += alarm is not None
    assert 1.0 <= times / alarms / limit <= 2.5


def test_correlated_errors_are_tempered() -> None:
    def in_fours(seed: int) -> np.ndarray:
        return np.repeat(errors(0.2, 500, seed), 4)

    alarms, untempered = 0, 0
    for seed in range(12):
        wrong = in_fours(seed)
        test = fitted(wrong[:800], 20_000)
        assert 2.5 < test.correlation_time < 6.0
        alarms += feed(test, wrong[800:]) is not None
        apart = ErrorTest(20_000, 20_000)
        apart.fit(wrong[:800], one_class(wrong[:800]), np.arange(800) * 1_000)
        untempered += feed(apart, wrong[800:]) is not None
    assert alarms <= 1
    assert untempered >= 4


def test_abrupt_rise_is_found_soon() -> None:
    delays = []
    for seed in range(20):
        test = fitted(errors(0.1, 1_000, seed), 100_000)
        wrong = np.concatenate([errors(0.1, 2_000, seed + 100), errors(0.5, 500, seed + 200)])
        delays.append((feed(test, wrong) or 0) - 2_000)
    assert min(delays) > 0
    assert np.median(delays) <= 25


def test_rise_right_after_a_short_reference_does_not_become_usual() -> None:
    found = 0
    for seed in range(20):
        test = fitted(errors(0.1, 100, seed))
        found += feed(test, errors(0.3, 1_000, seed + 100)) is not None
    assert found >= 19


def test_usual_rate_follows_a_healthy_stream_and_not_a_drift() -> None:
    test = fitted(errors(0.1, 200, 1))
    feed(test, errors(0.08, 6_400, 2))
    healthy = test.rate
    assert abs(healthy - 0.08) < 0.01
    feed(test, errors(0.9, 64, 3))
    assert test.level is Level.DRIFT
    wrong = errors(0.9, 3_200, 4)
    test.update(wrong, one_class(wrong), np.arange(3_200))
    assert test.rate == healthy
    assert test.level is Level.DRIFT


@pytest.mark.parametrize("wrong", [True, False])
def test_constant_errors_are_no_evidence(wrong: bool) -> None:
    test = fitted(np.full(50, wrong), 1_000)
    assert feed(test, np.full(5_000, wrong)) is None
    assert 0.0 < test.rate < 1.0
    assert test.correlation_time == 1.0


def test_first_errors_of_a_model_that_made_none() -> None:
    test = fitted(np.zeros(500, dtype=np.bool_))
    assert feed(test, errors(0.2, 500, 0)) is not None


def test_rise_that_can_be_seen_shrinks_with_labels() -> None:
    test = fitted(errors(0.1, 1_000, 0), 100_000)
    soon, late = test.rise_seen_within(50), test.rise_seen_within(1_000)
    assert 0.2 < soon < 0.5
    assert 0.03 < late < 0.08
    assert fitted(np.ones(200, dtype=np.bool_)).rise_seen_within(100) < 0.01


@pytest.mark.thorough
def test_drift_soon_after_a_short_reference_is_as_rare_as_promised_and_warned_of_instead() -> None:
    drifts = warnings = 0
    for seed in range(150):  # the chance of a false drift within 1,000 rows is at most 1 %
        test = fitted(errors(0.3, 50, seed), 100_000)
        feed(test, errors(0.3, 1_000, seed + 1_000))
        drifts += test.level is Level.DRIFT
        warnings += test.level is Level.WARNING
    assert drifts <= 4
    assert warnings >= 8, "a rate that is plugged in is at times an unlucky one"


def levels_of(
    seed: int, lags: tuple[int, int], *, doubled_at: int = 10_000
) -> tuple[ErrorTest, list[Level]]:
    """Play a tenth of rows of a hard class, 30 % wrong, and nine tenths of an easy one, 5 %."""
    rng = np.random.default_rng(seed)
    n, reference = 8_000, 500
    label = (rng.random(reference + n) < 0.1).astype(np.int64)
    rate = np.where(label == 1, 0.3, 0.05)
    rate[reference + doubled_at :] *= 2.0
    wrong = rng.random(reference + n) < rate
    test = ErrorTest(5_000, 100_000)
    test.fit(wrong[:reference], label[:reference], np.arange(reference))
    arrival = np.arange(n) + np.where(label[reference:] == 1, lags[1], lags[0])
    order, seen = np.argsort(arrival, kind="stable"), []
    for at in range(0, n, 64):
        rows = order[at : at + 64]
        test.update(wrong[reference + rows], label[reference + rows], rows)
        seen.append(test.level)
    return test, seen


def test_class_whose_labels_come_sooner_than_the_others_is_no_drift() -> None:
    for seed in range(10):  # all of them were, by the rate over all classes
        _, seen = levels_of(seed, (2_000, 200))
        assert Level.DRIFT not in seen
        assert Level.WARNING in seen


def test_rise_is_found_whenever_labels_come() -> None:
    for seed in range(10):
        _, seen = levels_of(seed, (0, 0), doubled_at=3_000)
        assert Level.DRIFT not in seen[: 3_000 // 64]
        assert Level.DRIFT in seen


def test_a_class_is_held_to_its_own_rate_and_never_to_less_than_the_common_one() -> None:
    rates, none = GroupRates(), np.zeros(0, dtype=np.int64)
    assert rates.upper(none, 0.1).shape == (0,)
    label = np.repeat([0, 1], [900, 100])
    rates.add(np.arange(1_000) % 1_000 >= 960, label)  # 40 of the 100 of class 1
    easy, hard, unseen, huge = rates.upper(np.array([0, 1, 7, 10**12]), 0.04)
    assert easy == 0.04
    assert 0.42 < hard < 0.46
    assert unseen == huge
    assert 0.1 < unseen < 0.2


def test_statistic_agrees_with_the_level() -> None:
    levels = set()
    for seed in range(40):
        test = ErrorTest(1_000, 100_000)
        rows = np.arange(60)
        test.fit(errors(0.1, 60, seed), one_class(rows), rows)
        for at in range(0, 640, 64):
            rate = 0.4 if at > 64 else 0.1
            rows = np.arange(at, at + 64)
            test.update(errors(rate, 64, seed + at), one_class(rows), rows)
            report = test.report("x")
            levels.add(report.level)
            assert (report.change_row is None) == (report.level is Level.NONE)
            if report.level is not Level.DRIFT:
                assert report.statistic < report.drift_at
    assert levels == {Level.NONE, Level.WARNING, Level.DRIFT}


def test_batch_cut_changes_nothing_across_a_drift() -> None:
    wrong = np.concatenate([errors(0.1, 300, 1), errors(0.7, 200, 2)])
    whole, cut = fitted(errors(0.1, 100, 3)), fitted(errors(0.1, 100, 3))
    whole.update(wrong, one_class(wrong), np.arange(500))
    for at in range(0, 500, 7):
        rows = np.arange(at, min(at + 7, 500))
        cut.update(wrong[rows], one_class(rows), rows)
    assert whole.level is Level.DRIFT
    one, two = whole.state(), cut.state()
    assert one.keys() == two.keys()
    for name in one:
        np.testing.assert_allclose(one[name], two[name], rtol=1e-9, err_msg=name)


@pytest.mark.thorough
def test_shuffled_reference_of_a_stream_in_bursts_is_no_worse_than_one_in_order() -> None:
    found = {True: 0, False: 0}
    for shuffled in found:
        for seed in range(40):
            rng = np.random.default_rng(seed)
            hard = np.cumsum(rng.random(6_000) < 1 / 20) % 2
            wrong = rng.random(6_000) < np.where(hard, 0.2, 0.05)
            reference = rng.permutation(wrong[:1_000]) if shuffled else wrong[:1_000]
            test = fitted(reference, 100_000)
            feed(test, wrong[1_000:])
            found[shuffled] += test.level is Level.DRIFT
    assert found[True] <= found[False] + 1, "5 and 2 before the stream told by itself"
