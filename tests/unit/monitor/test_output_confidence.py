from __future__ import annotations

import numpy as np
import pytest

from undrift.monitor.statistics.confidence import Confidence


def answers(
    rng: np.random.Generator, n: int, classes: int, *, spread: float = 2.0, sharpness: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """Outputs of a model that is right as often as it says, then made too sure or unsure."""
    logits = rng.normal(size=(n, classes)) * spread
    chances = np.exp(logits)
    chances /= chances.sum(axis=1, keepdims=True)
    label = (chances.cumsum(axis=1) > rng.random((n, 1))).argmax(axis=1)
    output = chances**sharpness
    return (output / output.sum(axis=1, keepdims=True)).astype(np.float32), label


def fitted(output: np.ndarray, label: np.ndarray) -> Confidence:
    confidence = Confidence()
    confidence.fit(output, label)
    return confidence


@pytest.mark.parametrize("classes", [2, 10])
@pytest.mark.parametrize("sharpness", [0.3, 1.0, 4.0])
def test_confidence_of_a_model_too_sure_or_unsure_becomes_its_accuracy(
    classes: int, sharpness: float
) -> None:
    rng = np.random.default_rng(0)
    confidence = fitted(*answers(rng, 1_000, classes, sharpness=sharpness))
    output, label = answers(rng, 2_000, classes, sharpness=sharpness)
    uncertainty, predicted = confidence.uncertainty(output)
    assert np.mean(1 - uncertainty) == pytest.approx(np.mean(predicted == label), abs=0.03)


@pytest.mark.parametrize("classes", [2, 10])
def test_loss_of_accuracy_on_harder_inputs_is_estimated_within_its_error(classes: int) -> None:
    rng = np.random.default_rng(1)
    reference, truth = answers(rng, 1_000, classes, sharpness=2.0)
    confidence = fitted(reference, truth)
    for spread in (0.5, 1.0, 4.0):
        output, label = answers(rng, 500, classes, spread=spread, sharpness=2.0)
        found = confidence.estimate(confidence.uncertainty(output)[0], 1.0)
        real = np.mean(reference.argmax(1) == truth) - np.mean(output.argmax(1) == label)
        assert abs(found.loss - real) < 0.06
        assert abs(found.loss) > 4 * found.error


@pytest.mark.thorough
def test_standard_error_is_that_of_repeated_estimates() -> None:
    rng = np.random.default_rng(2)
    found = []
    for _ in range(150):
        confidence = fitted(*answers(rng, 300, 3))
        found.append(confidence.estimate(confidence.uncertainty(answers(rng, 200, 3)[0])[0], 1.0))
    loss, error = np.array([e.loss for e in found]), np.array([e.error for e in found])
    assert abs(loss.mean()) < 2 * loss.std() / np.sqrt(len(loss))
    assert loss.std() == pytest.approx(error.mean(), rel=0.15)


def test_correlated_rows_make_the_estimate_less_sure() -> None:
    rng = np.random.default_rng(3)
    confidence = fitted(*answers(rng, 300, 3))
    uncertainty, _ = confidence.uncertainty(answers(rng, 200, 3)[0])
    plain, correlated = (confidence.estimate(uncertainty, time) for time in (1.0, 4.0))
    assert correlated.error > 1.4 * plain.error
    assert correlated.loss == plain.loss


def test_reference_without_errors_does_not_make_the_model_infinitely_sure() -> None:
    rng = np.random.default_rng(4)
    output, _ = answers(rng, 200, 4, spread=6.0)
    confidence = fitted(output, output.argmax(axis=1))
    same = confidence.estimate(confidence.uncertainty(output)[0], 1.0)
    assert (same.accuracy, same.loss) == (1.0, 0.0)
    flat, _ = answers(rng, 200, 4, spread=0.5)
    assert confidence.estimate(confidence.uncertainty(flat)[0], 1.0).loss > 0.1


def test_before_the_first_row_the_estimate_is_the_reference() -> None:
    output, label = answers(np.random.default_rng(5), 100, 3)
    found = fitted(output, label).estimate(np.zeros(0), 1.0)
    assert found.accuracy == np.mean(output.argmax(axis=1) == label)
    assert (found.loss, found.error) == (0.0, 0.0)


def test_outputs_that_do_not_sum_to_one_count_by_their_proportions() -> None:
    output, label = answers(np.random.default_rng(6), 100, 3)
    confidence = fitted(output, label)
    expected = confidence.uncertainty(output)
    for scale in (1e-3, 7.0):
        uncertainty, predicted = confidence.uncertainty(output * np.float32(scale))
        np.testing.assert_allclose(uncertainty, expected[0], rtol=1e-5)
        np.testing.assert_array_equal(predicted, expected[1])


def test_negative_and_missing_parts_count_as_zero_and_a_row_without_any_as_unsure() -> None:
    output, label = answers(np.random.default_rng(7), 100, 3)
    confidence = fitted(output, label)
    nan, inf = np.nan, np.inf
    odd = [[0.6, -0.2, 0.2], [0.6, nan, 0.2], [0.6, -inf, 0.2], [0.6, inf, 0.2], [0.6, 0, 0.2]]
    uncertainty, predicted = confidence.uncertainty(np.array(odd, dtype=np.float32))
    assert len(set(uncertainty)) == 1
    assert set(predicted) == {0}
    mute = np.array([[nan, nan, nan], [0, 0, 0], [-1, -inf, nan]], dtype=np.float32)
    uncertainty, predicted = confidence.uncertainty(mute)
    assert set(uncertainty) == {1.0}
    assert set(predicted) == {3}
    assert confidence.estimate(uncertainty, 1.0).accuracy == 0.0


def test_odd_rows_leave_their_neighbours_alone() -> None:
    output, label = answers(np.random.default_rng(8), 100, 3)
    confidence = fitted(output, label)
    odd = output.copy()
    odd[3] = np.nan
    uncertainty, predicted = confidence.uncertainty(odd)
    expected = confidence.uncertainty(output)
    others = np.arange(100) != 3
    np.testing.assert_array_equal(uncertainty[others], expected[0][others])
    np.testing.assert_array_equal(predicted[others], expected[1][others])


def test_label_that_the_model_has_no_class_for_is_an_error_of_it() -> None:
    output, label = answers(np.random.default_rng(9), 100, 3)
    plain = fitted(output, label)
    label = np.where(np.arange(100) < 30, np.where(np.arange(100) < 15, 3, -1), label)
    odd = fitted(output, label)
    row = output[50:60]
    assert (odd.uncertainty(row)[0] > plain.uncertainty(row)[0]).all()


@pytest.mark.parametrize("classes", [1, 2, 3, 10, 17, 100])
def test_uncertainty_of_a_row_does_not_depend_on_its_company(classes: int) -> None:
    output, label = answers(np.random.default_rng(10), 300, classes)
    confidence = fitted(output, label)
    whole = confidence.uncertainty(output)
    for size in (1, 7, 64):
        parts = [confidence.uncertainty(output[i : i + size]) for i in range(0, 300, size)]
        np.testing.assert_array_equal(np.concatenate([p[0] for p in parts]), whole[0])
        np.testing.assert_array_equal(np.concatenate([p[1] for p in parts]), whole[1])


def test_saturated_answers_still_differ_in_certainty() -> None:
    output = np.array([[1.0, 1e-9], [1.0, 1e-11], [1.0, 0.0]], dtype=np.float32)
    uncertainty, _ = Confidence().uncertainty(output)
    assert uncertainty[0] > uncertainty[1] > uncertainty[2] > 0


def test_fall_of_confidence_is_a_change_and_noise_is_none() -> None:
    rng = np.random.default_rng(11)
    confidence = fitted(*answers(rng, 500, 3))
    assert confidence.changes(confidence.uncertainty(answers(rng, 200, 3)[0])[0], 1.0) == []
    flat, _ = answers(rng, 200, 3, spread=0.8)
    (change,) = confidence.changes(confidence.uncertainty(flat)[0], 1.0)
    assert (change.what, change.measure) == ("confidence", "cohen_d")
    assert change.effect < -0.5
    assert change.now < change.before - 0.1


def test_change_of_constant_confidence_has_a_finite_effect() -> None:
    output = np.tile(np.array([0.9, 0.1], dtype=np.float32), (100, 1))
    confidence = fitted(output, np.arange(100) // 90)
    lower = np.tile(np.array([0.6, 0.4], dtype=np.float32), (50, 1))
    (change,) = confidence.changes(confidence.uncertainty(lower)[0], 1.0)
    assert np.isfinite(change.effect)
    assert confidence.changes(confidence.uncertainty(output)[0], 1.0) == []
