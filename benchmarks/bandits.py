"""Regret of the bandit policies on stationary, switching and drifting problems, beside two rivals.

Every policy meets the same rewards: a table of what each arm would earn in each round is drawn per
seed, and a policy sees the entries that it chose. Policies with a published rule for their
parameters get the number of rounds and switches. The rivals, where they are installed, play the
same tables in the same run. The results replace the lower part of docs/bandits.md.

    pip install river mabwiser
    python benchmarks/bandits.py            # four minutes on one core; --seeds 5 takes two
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import undrift.bandits as ub

DOC = Path(__file__).parents[1] / "docs" / "bandits.md"
MARK = "<!-- what follows is written by benchmarks/bandits.py -->\n"


@dataclass(frozen=True)
class Problem:
    """A table of rewards (rounds, arms), the means behind it, and contexts if there are any."""

    means: np.ndarray
    rewards: np.ndarray
    switches: int
    batch: int = 1
    contexts: np.ndarray | None = None

    @property
    def arms(self) -> int:
        return self.means.shape[1]


def coins(means: np.ndarray, rng: np.random.Generator, **options: Any) -> Problem:
    return Problem(means, (rng.random(means.shape) < means).astype(float), **options)


def stationary(rng: np.random.Generator) -> Problem:
    means = rng.permutation(np.linspace(0.3, 0.7, 10))
    return coins(np.tile(means, (4000, 1)), rng, switches=0)


def switching(rng: np.random.Generator) -> Problem:
    parts = [rng.permutation(np.linspace(0.1, 0.9, 10)) for _ in range(4)]
    return coins(np.repeat(parts, 1000, axis=0), rng, switches=3)


def published(rng: np.random.Generator) -> Problem:
    """The first experiment of Garivier and Moulines: one arm is the best for a while."""
    means = np.tile([0.5, 0.3, 0.4], (10_000, 1))
    means[3000:5000, 2] = 0.9
    return coins(means, rng, switches=2)


def drifting(rng: np.random.Generator) -> Problem:
    """Like the strata of a retraining: 36 arms, 600 steps, four choices a step.

    Spread, noise and the ten steps or so after which an advantage is over are those of rewards
    recorded for all strata along real retrainings.
    """
    steps, arms, kept = 600, 36, 0.9
    walk = np.empty((steps, arms))
    walk[0] = rng.normal(size=arms)
    for t in range(1, steps):
        walk[t] = kept * walk[t - 1] + np.sqrt(1 - kept**2) * rng.normal(size=arms)
    lasting = rng.normal(size=arms)
    means = np.clip(0.5 + 0.2 * lasting + 0.25 * walk, 0.0, 1.0).repeat(4, axis=0)
    rewards = np.clip(means + 0.2 * rng.normal(size=means.shape), 0.0, 1.0)
    return Problem(means, rewards, switches=60, batch=4)


def linear(rng: np.random.Generator, parts: int = 1) -> Problem:
    rounds, arms, features = 2000, 5, 5
    contexts = np.column_stack([rng.uniform(-1, 1, (rounds, features)), np.ones(rounds)])
    slopes = rng.normal(size=(parts, arms, features))
    slopes *= 0.4 / np.abs(slopes).sum(axis=2, keepdims=True)
    of_round = slopes[np.arange(rounds) * parts // rounds]
    means = 0.5 + np.einsum("naf,nf->na", of_round, contexts[:, :-1])
    return coins(means, rng, switches=parts - 1, contexts=contexts)


def linear_switching(rng: np.random.Generator) -> Problem:
    return linear(rng, parts=3)


PROBLEMS: dict[str, Callable[[np.random.Generator], Problem]] = {
    "stationary": stationary,
    "switching": switching,
    "Garivier, Moulines": published,
    "drifting, batches of 4": drifting,
}
CONTEXTUAL = {"linear": linear, "linear, switching": linear_switching}

# A player takes a problem and a seed and returns the arms that it chose.
Player = Callable[[Problem, int], np.ndarray]


def ours(build: Callable[[Problem, int], ub.Policy]) -> Player:
    return lambda problem, seed: (
        ub.play(build(problem, seed), problem.rewards, batch=problem.batch).arms
    )


def exp3(p: Problem, seed: int) -> ub.Policy:
    k, rounds = p.arms, len(p.means)
    return ub.EXP3(k, gamma=min(1.0, np.sqrt(k * np.log(k) / ((np.e - 1) * rounds))), seed=seed)


def exp3s(p: Problem, seed: int) -> ub.Policy:
    k, rounds = p.arms, len(p.means)
    inner = k * (max(1, p.switches) * np.log(k * rounds) + np.e) / ((np.e - 1) * rounds)
    return ub.EXP3S(k, gamma=min(1.0, np.sqrt(inner)), alpha=1 / rounds, seed=seed)


def discounted_ucb(p: Problem, seed: int) -> ub.Policy:
    discount = 1 - np.sqrt(max(1, p.switches) / len(p.means)) / 4
    return ub.DiscountedUCB(p.arms, discount=discount, seed=seed)


def window_ucb(p: Problem, seed: int) -> ub.Policy:
    rounds = len(p.means)
    window = round(2 * np.sqrt(rounds * np.log(rounds) / max(1, p.switches)))
    return ub.SlidingWindowUCB(p.arms, window=window, seed=seed)


def thompson(p: Problem, seed: int) -> ub.Policy:
    return ub.Thompson(p.arms, floor=0.01, seed=seed)


def discounted_thompson(p: Problem, seed: int, share: float = 0.5) -> ub.Policy:
    """No rule is published: memory a quarter of the time between switches, half of the noise."""
    discount = 1 - 4 * (p.switches + 1) / len(p.means)
    noise = share * (0.5 if p.batch == 1 else 0.2)
    return ub.DiscountedThompson(p.arms, discount=discount, noise=noise, floor=0.01, seed=seed)


def linear_thompson(forgets: bool) -> Player:
    def play(p: Problem, seed: int) -> np.ndarray:
        assert p.contexts is not None
        discount = 1 - 4 * (p.switches + 1) / len(p.means) if forgets else 1.0
        policy = ub.LinearThompson(
            p.arms, p.contexts.shape[1], discount=discount, floor=0.01, seed=seed
        )
        arms = np.empty(len(p.means), dtype=np.int64)
        for t, context in enumerate(p.contexts):
            arms[t], probability = policy.select(context)
            policy.update(int(arms[t]), p.rewards[t, arms[t]], probability, context)
        return arms

    return play


def river_player(build: Callable[..., Any], **options: Any) -> Player:
    def play(p: Problem, seed: int) -> np.ndarray:
        policy, choices, arms = build(seed=seed, **options), list(range(p.arms)), []
        for start in range(0, len(p.means), p.batch):
            rows = range(start, start + p.batch)
            arms += [policy.pull(choices) for _ in rows]
            for t in rows:
                policy.update(arms[t], p.rewards[t, arms[t]])
        return np.array(arms)

    return play


def river_linear(p: Problem, seed: int) -> np.ndarray:
    from river import bandit

    assert p.contexts is not None
    policy, choices, arms = bandit.LinUCBDisjoint(seed=seed), list(range(p.arms)), []
    for context, rewards in zip(p.contexts, p.rewards, strict=True):
        named = dict(enumerate(context))
        arms.append(policy.pull(choices, context=named))
        policy.update(arms[-1], named, rewards[arms[-1]])
    return np.array(arms)


def mabwiser_player(policy: str, **options: Any) -> Player:
    def play(p: Problem, seed: int) -> np.ndarray:
        from mabwiser.mab import MAB, LearningPolicy

        rule = getattr(LearningPolicy, policy)(**options)
        mab = MAB(list(range(p.arms)), rule, seed=seed)
        arms = list(range(p.arms))  # it wants a first reward of every arm
        x = None if p.contexts is None else p.contexts
        first = [p.rewards[t, t] for t in arms]
        mab.fit(arms, first) if x is None else mab.fit(arms, first, x[: p.arms])
        while len(arms) < len(p.means):
            rows = range(len(arms), min(len(arms) + p.batch, len(p.means)))
            asked = [() if x is None else (x[[t]],) for t in rows]
            chosen = [mab.predict(*context) for context in asked]
            for t, arm, context in zip(rows, chosen, asked, strict=True):
                mab.partial_fit([arm], [p.rewards[t, arm]], *context)
            arms += chosen
        return np.array(arms)

    return play


def players() -> Iterator[tuple[str, Player]]:
    yield "uniform", ours(lambda p, seed: ub.EXP3(p.arms, gamma=1.0, seed=seed))
    yield "EXP3", ours(exp3)
    yield "EXP3.S", ours(exp3s)
    yield "UCB1", ours(lambda p, seed: ub.UCB1(p.arms, seed=seed))
    yield "discounted UCB", ours(discounted_ucb)
    yield "sliding-window UCB", ours(window_ucb)
    yield "Thompson", ours(thompson)
    yield "discounted Thompson", ours(discounted_thompson)
    yield "the same, all of the noise", ours(partial(discounted_thompson, share=1.0))
    if importlib.util.find_spec("river"):
        from river import bandit, proba

        yield "River UCB", river_player(bandit.UCB, delta=1)
        yield "River Exp3", river_player(bandit.Exp3, gamma=0.1)
        beta = proba.Beta()
        yield "River Thompson", river_player(bandit.ThompsonSampling, reward_obj=beta)
    if importlib.util.find_spec("mabwiser"):
        yield "MABWiser UCB1", mabwiser_player("UCB1", alpha=1)


def contextual_players() -> Iterator[tuple[str, Player]]:
    yield "linear Thompson", linear_thompson(forgets=False)
    yield "linear Thompson, discounted", linear_thompson(forgets=True)
    yield "discounted Thompson, context unseen", ours(discounted_thompson)
    if importlib.util.find_spec("river"):
        yield "River LinUCBDisjoint", river_linear
    if importlib.util.find_spec("mabwiser"):
        yield "MABWiser LinUCB", mabwiser_player("LinUCB", alpha=1)
        yield "MABWiser LinTS", mabwiser_player("LinTS", alpha=0.25)


def spread(values: list[float], form: str = ".0f") -> str:
    middle = statistics.median(values)
    return f"{middle:{form}} ({min(values):{form}} to {max(values):{form}})"


def regret_table(
    problems: dict[str, Callable[[np.random.Generator], Problem]],
    competitors: Iterator[tuple[str, Player]],
    seeds: int,
) -> Iterator[str]:
    yield "| policy | " + " | ".join(problems) + " | CPU µs a choice |"
    yield "|---|" + "---|" * (len(problems) + 1)
    for name, player in competitors:
        cells, cost = [], []
        for number, draw in enumerate(problems.values()):
            regrets = []
            for seed in range(seeds):
                problem = draw(np.random.default_rng([seed, number]))
                try:
                    started = time.process_time()
                    arms = player(problem, seed)
                except (OverflowError, ValueError) as error:
                    print(f"  {name} on problem {number}, seed {seed}: {error!r}")
                    break
                cost.append(1e6 * (time.process_time() - started) / len(arms))
                regrets.append(float(ub.dynamic_regret(problem.means, arms)[-1]))
            cells.append(spread(regrets) if len(regrets) == seeds else "fails")
        line = f"| {name} | " + " | ".join(cells) + f" | {statistics.median(cost):.0f} |"
        print(line, flush=True)
        yield line


def evaluation_table(seeds: int) -> Iterator[str]:
    """The value of the uniform policy, estimated from logs of policies that learnt."""
    loggers: dict[str, Callable[[Problem, int], ub.Policy]] = {
        "EXP3.S": lambda p, seed: ub.EXP3S(p.arms, seed=seed),
        "sliding-window UCB, floor 0.1": lambda p, seed: ub.SlidingWindowUCB(
            p.arms, floor=0.1, seed=seed
        ),
        "discounted Thompson, floor 0.05": lambda p, seed: ub.DiscountedThompson(
            p.arms, noise=0.5, seed=seed
        ),
    }
    estimators = {
        "IPS": ub.inverse_propensity,
        "SNIPS": ub.self_normalized,
        "doubly robust": lambda log, to: ub.doubly_robust(log, to, past_means(log, to)),
    }
    yield "| log of | estimator | rms error | stated error | within 1.96 of it | effective |"
    yield "|---|---|---|---|---|---|"
    for name, build in loggers.items():
        found: dict[str, list[tuple[float, ub.Estimate]]] = {e: [] for e in estimators}
        for seed in range(seeds):
            problem = stationary(np.random.default_rng([seed, 99]))
            log = ub.play(build(problem, seed), problem.rewards[:2000])
            target = np.full(problem.arms, 1 / problem.arms)
            for estimator, estimate in estimators.items():
                result = estimate(log, target)
                found[estimator].append((result.value - problem.means[0].mean(), result))
        for estimator, results in found.items():
            errors = np.array([miss for miss, _ in results])
            stated = np.array([e.standard_error for _, e in results])
            covered = (np.abs(errors) < 1.96 * stated).mean()
            effective = statistics.median(e.effective for _, e in results)
            yield (
                f"| {name} | {estimator} | {np.sqrt((errors**2).mean()):.4f} | "
                f"{np.median(stated):.4f} | {covered:.0%} | {effective:.0f} of {len(log)} |"
            )


def past_means(log: ub.Log, target: np.ndarray) -> np.ndarray:
    """Predict for each row the mean of each arm's earlier rewards: the row's own is not in it."""
    mine = log.arms[:, None] == np.arange(len(target))
    count = np.cumsum(mine, axis=0) - mine
    total = np.cumsum(mine * log.rewards[:, None], axis=0) - mine * log.rewards[:, None]
    return (total + 0.5) / (count + 1.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=10)
    seeds = parser.parse_args().seeds
    rivals = [
        f"{name} {importlib.metadata.version(name)}"
        for name in ("river", "mabwiser")
        if importlib.util.find_spec(name)
    ]
    lines = [
        f"{seeds} seeds; rivals: {', '.join(rivals) or 'none installed'}.",
        "",
        "Regret against the best arm of each round, at the end: median (lowest to highest).",
        "",
        *regret_table(PROBLEMS, players(), seeds),
        "",
        "The same with contexts.",
        "",
        *regret_table(CONTEXTUAL, contextual_players(), seeds),
        "",
        "Mean reward of the uniform policy on the stationary problem, from 2,000 logged choices of "
        f"policies that learnt as they went; {20 * seeds} logs each.",
        "",
        *evaluation_table(20 * seeds),
    ]
    print("\n".join(lines))
    text = DOC.read_text(encoding="utf-8")
    head, found, _ = text.partition(MARK)
    assert found, f"{DOC} lacks the line {MARK!r}"
    DOC.write_text(head + MARK + "\n" + "\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
