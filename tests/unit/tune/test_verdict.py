"""Who wins a search, and what the held-out part says of it."""

from __future__ import annotations

import math

import pytest

from undrift.errors import ConfigError
from undrift.tune.play import Play, Tally
from undrift.tune.verdict import Contender, Outcome, Trial, Verdict, decide, evidence, finalists


def play(searched: int, held_out: int | None = None, training_s: float = 0.0) -> Play:
    """Right answers of 100 rows, before and after the split."""
    after = None if held_out is None else Tally(100, held_out, training_s=training_s)
    return Play(Tally(100, searched, training_s=training_s), after)


def trial(name: str, searched: int, training_s: float = 0.0) -> Trial:
    return Trial({"train.method": name}, play(searched, training_s=training_s))


def contender(name: str, *results: tuple[int, int]) -> Contender:
    settings = {"train.method": name} if name else {}
    return Contender(settings, tuple(play(*result) for result in results))


def outcome(*gains: int, ahead: int = 5) -> Outcome:
    """A winner that is so many points ahead before the split, and gains so many after it."""
    present = contender("", *((70, 60) for _ in gains))
    winner = contender("full", *((70 + ahead, 60 + gain) for gain in gains))
    return decide([trial("full", 75)], [present, winner], 0.0)


@pytest.mark.parametrize(
    ("gains", "verdict"),
    [
        ((1, 2, 3), Verdict.BETTER),
        ((-1, 2, 3), Verdict.UNCLEAR),
        ((0, 2, 3), Verdict.UNCLEAR),
        ((-1, -2, 3), Verdict.WORSE),
        ((0, 0, 0), Verdict.WORSE),
    ],
)
def test_better_means_under_every_seed(gains: tuple[int, ...], verdict: Verdict) -> None:
    assert outcome(*gains).verdict is verdict


def test_luck_after_the_split_alone_is_no_reason_to_change() -> None:
    found = outcome(5, 5, 5, ahead=0)
    assert found.verdict is Verdict.WORSE
    assert "no setting that was tried beats the present" in found.reason


def test_winner_is_chosen_by_what_came_before_the_split() -> None:
    present = contender("", (70, 60))
    lucky, best = contender("random", (71, 99)), contender("full", (80, 61))
    assert decide([trial("full", 80)], [present, lucky, best], 0.0).winner is best


def test_seeds_count_by_their_median() -> None:
    present = contender("", (50, 60), (50, 60), (50, 60))
    wild = contender("random", (99, 60), (60, 60), (60, 60))
    steady = contender("full", (70, 60), (70, 60), (70, 60))
    assert decide([trial("full", 70)], [present, wild, steady], 0.0).winner is steady


def test_price_makes_training_cost_right_answers() -> None:
    cheap, dear = trial("last_layer", 70), trial("full", 80, training_s=10.0)
    assert finalists([cheap, dear], 0.0) == [dear.settings]
    assert finalists([cheap, dear], 2.0) == [cheap.settings]
    assert dear.score(2.0) == pytest.approx(0.6)


def test_finalists_are_the_best_fifth_each_once() -> None:
    trials = [trial(str(i % 8), 50 + i % 8) for i in range(16)]
    assert [s["train.method"] for s in finalists(trials, 0.0)] == ["7", "6", "5", "4"]


def test_trial_that_could_not_be_played_is_never_a_finalist() -> None:
    failed = Trial({"train.method": "bandit"}, Play(error="too few rows"))
    assert failed.score(0.0) == -math.inf
    assert finalists([failed, *(trial("full", 1) for _ in range(9))], 0.0) == [
        {"train.method": "full"}
    ]
    with pytest.raises(ConfigError, match="no trial could be played: too few rows"):
        finalists([failed], 0.0)


def test_contender_with_an_error_does_not_win() -> None:
    present, good = contender("", (70, 60)), contender("full", (71, 61))
    failed = Contender({"train.method": "random"}, (Play(error="no"),))
    assert decide([], [present, failed, good], 0.0).winner is good
    with pytest.raises(ConfigError, match="no finalist"):
        decide([], [present, failed], 0.0)
    with pytest.raises(ConfigError, match="the present configuration cannot be played: no"):
        decide([], [failed, good], 0.0)


def test_evidence_names_what_changed_and_both_accuracies() -> None:
    lines = evidence(outcome(1, 2, 3), {"train.method": "bandit"}, "Rows.")
    assert lines[0] == "1 trials. Rows."
    assert "62.0 % (61.0 to 63.0), before 60.0 % (60.0 to 60.0)" in lines[1]
    assert lines[-1] == "  train.method: bandit -> full"


def test_plays_survive_a_round_trip_through_json() -> None:
    from dataclasses import asdict

    for each in (play(1, 2), play(1), Play(error="no")):
        assert Play.from_dict(asdict(each)) == each
