"""Which settings won the search, and whether they keep what they promised on the held-out part."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from statistics import median
from typing import Any

from undrift.errors import ConfigError
from undrift.tune.play import Play, Tally
from undrift.tune.space import Settings

_FINALISTS = 5  # of so many trials, one is played again under more seeds


class Verdict(StrEnum):
    """What the held-out part says of the winner of the search."""

    BETTER = "better"
    UNCLEAR = "unclear"
    WORSE = "worse"


@dataclass(frozen=True, slots=True)
class Trial:
    """One setting, played once.

    Attributes:
        settings: What it sets, by ``section.key``.
        play: What came of it.
    """

    settings: Settings
    play: Play

    def score(self, price: float) -> float:
        """Return the score before the split; without one, less than any other."""
        return -math.inf if self.play.search is None else self.play.search.score(price)


@dataclass(frozen=True, slots=True)
class Contender:
    """One setting, played to the end under several seeds.

    Attributes:
        settings: What it sets, by ``section.key``; nothing for the present configuration.
        plays: One for each seed, in the same order for every contender.
    """

    settings: Settings
    plays: tuple[Play, ...]

    @property
    def searched(self) -> list[Tally]:
        """The part before the split, by seed."""
        return [play.search for play in self.plays if play.search is not None]

    @property
    def held_out(self) -> list[Tally]:
        """The part after the split, by seed."""
        return [play.held_out for play in self.plays if play.held_out is not None]

    @property
    def error(self) -> str:
        """Why it could not be played under some seed."""
        return next((play.error for play in self.plays if play.error), "")

    def to_dict(self, price: float) -> dict[str, Any]:
        """Return plain JSON values."""
        parts = {"search": self.searched, "held_out": self.held_out}
        return {"settings": self.settings} | {
            name: [asdict(t) | {"accuracy": t.accuracy, "score": t.score(price)} for t in tallies]
            for name, tallies in parts.items()
        }


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a search found.

    Attributes:
        trials: Every setting that was tried.
        present: The configuration as it is.
        winner: The finalist with the highest median score before the split.
        price: Right answers that a second of training must be worth.
        gains: Score of the winner less that of the present configuration on the held-out part,
            seed by seed.
    """

    trials: tuple[Trial, ...]
    present: Contender
    winner: Contender
    price: float
    gains: tuple[float, ...]

    @property
    def verdict(self) -> Verdict:
        """Better only if it is so under every seed, and was better before the split, too."""
        ahead = _middle(self.winner, self.price) > _middle(self.present, self.price)
        if ahead and min(self.gains) > 0:
            return Verdict.BETTER
        return Verdict.UNCLEAR if ahead and median(self.gains) > 0 else Verdict.WORSE

    @property
    def reason(self) -> str:
        """The verdict in a sentence."""
        points, best, worst = (100 * f(self.gains) for f in (median, max, min))
        spread = f"{points:+.1f} points ({worst:+.1f} to {best:+.1f} over the seeds)"
        if _middle(self.winner, self.price) <= _middle(self.present, self.price):
            return "no setting that was tried beats the present configuration before the split"
        if self.verdict is Verdict.BETTER:
            return f"on the held-out rows the winner gains {spread}, under every seed"
        if self.verdict is Verdict.UNCLEAR:
            return f"on the held-out rows the winner gains {spread}, but not under every seed"
        return f"on the held-out rows the winner does not keep its promise: {spread}"

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        tried = [
            {"settings": t.settings, "error": t.play.error}
            | ({} if t.play.search is None else asdict(t.play.search))
            | ({} if t.play.search is None else {"score": t.score(self.price)})
            for t in self.trials
        ]
        return {
            "verdict": str(self.verdict),
            "reason": self.reason,
            "gains": list(self.gains),
            "price": self.price,
            "present": self.present.to_dict(self.price),
            "winner": self.winner.to_dict(self.price),
            "trials": tried,
        }


def finalists(trials: Sequence[Trial], price: float) -> list[Settings]:
    """Return the settings worth playing under more seeds: the best fifth of the trials.

    Raises:
        ConfigError: None of them could be played.
    """
    playable = [trial for trial in trials if trial.play.search is not None]
    if not playable:
        raise ConfigError(f"no trial could be played: {trials[0].play.error}")
    best = sorted(playable, key=lambda trial: -trial.score(price))
    distinct = list({tuple(sorted(t.settings.items())): t.settings for t in best}.values())
    return distinct[: math.ceil(len(trials) / _FINALISTS)]


def decide(trials: Sequence[Trial], contenders: Iterable[Contender], price: float) -> Outcome:
    """Choose the winner by what happened before the split, and judge it by what came after.

    Args:
        trials: Every setting that was tried.
        contenders: The present configuration, then the finalists.
        price: Right answers that a second of training must be worth.

    Raises:
        ConfigError: The present configuration, or every finalist, could not be played.
    """
    present, *others = contenders
    if present.error:
        raise ConfigError(f"the present configuration cannot be played: {present.error}")
    others = [other for other in others if not other.error]
    if not others:
        raise ConfigError("no finalist could be played under every seed")
    winner = max(others, key=lambda contender: _middle(contender, price))
    pairs = zip(winner.held_out, present.held_out, strict=True)
    gains = tuple(ours.score(price) - theirs.score(price) for ours, theirs in pairs)
    return Outcome(tuple(trials), present, winner, price, gains)


def _middle(contender: Contender, price: float) -> float:
    return median(tally.score(price) for tally in contender.searched)


def evidence(outcome: Outcome, before: Mapping[str, Any], rows: str) -> list[str]:
    """Return the lines of a comment for the tuned file.

    Args:
        outcome: What was found.
        before: Present values of the changed keys.
        rows: What was searched and what was held out, as a sentence.
    """
    changed = [
        f"  {key}: {before[key]} -> {value}" for key, value in outcome.winner.settings.items()
    ]
    return [
        f"{len(outcome.trials)} trials. {rows}",
        f"Accuracy held out, median (lowest to highest) of {len(outcome.gains)} seeds: "
        f"{spread([t.accuracy for t in outcome.winner.held_out])}, "
        f"before {spread([t.accuracy for t in outcome.present.held_out])}.",
        f"Verdict: {outcome.verdict}; {outcome.reason}.",
        "Changed:",
        *changed,
    ]


def spread(values: Sequence[float]) -> str:
    """Return a median and a range of shares, in percent.

    Example:
        >>> spread([0.5, 0.75, 0.7])
        '70.0 % (50.0 to 75.0)'
    """
    low, high = min(values), max(values)
    return f"{median(values):.1%} ({100 * low:.1f} to {100 * high:.1f})".replace("%", " %")
