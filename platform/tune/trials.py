"""Ray Tune draws the settings and plays them, one process a core."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any, Protocol

from undrift.errors import PlatformError
from undrift.host import cluster
from undrift.tune.play import Memory, Play, Take
from undrift.tune.space import Domain, Settings, value_text
from undrift.tune.verdict import Contender, Trial

_REPORTS = 20  # of one play
_RETRIES = 2  # of a play whose process died

TakeOf = Callable[[dict[str, Any]], Take]


class Listener(Protocol):
    """Somebody who is told how far each play is."""

    def begin(self, what: str, plays: int) -> None:
        """So many plays come next."""

    def tell(self, name: str, share: float, found: Play | None) -> None:
        """A play has come so far, and at its end to this."""


@contextmanager
def started(parallel: int) -> Iterator[dict[str, float]]:
    """Run Ray, for so many plays at a time, which need nothing but a CPU each."""
    with _quietly(lambda: cluster.start_ray(parallel)):
        yield {}


@contextmanager
def joining() -> Iterator[dict[str, float]]:
    """Join the Ray cluster of the job that this process is, and play there.

    Ray Tune wants a disk that all nodes share, so plays stay on the node of the job: what they
    must ask for to do so is returned.

    Raises:
        PlatformError: That node has no CPU for a play.
    """
    with _quietly(lambda: cluster.join("auto")):
        import ray

        here = ray.get_runtime_context().get_node_id()
        node = next(node for node in ray.nodes() if node["NodeID"] == here)
        if node["Resources"].get("CPU", 0) < 1:
            raise PlatformError(
                "the node that runs this job has no CPU for a play (`ray start --num-cpus`)"
            )
        yield {f"node:{node['NodeManagerAddress']}": 1e-3}


@contextmanager
def _quietly(begin: Callable[[], object]) -> Iterator[None]:
    """Have Ray, but none of its remarks."""
    quiet = {
        "RAY_AIR_NEW_OUTPUT": "0",  # the new output prints even where verbose is 0
        "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
        "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C ends it all; finished plays are kept
        "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "600",
    }
    os.environ.update(quiet)
    try:
        begin()
        logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
        yield
    finally:
        import ray

        ray.shutdown()


class Tuning:
    """Ray Tune over the plays of one history.

    Args:
        memory: Plays, or remembers what was played.
        listener: Told of the progress.
        parallel: Plays at a time, at most; 0: as many as there are CPUs.
        asks: What a play asks Ray for besides a CPU.
    """

    def __init__(
        self,
        memory: Memory,
        listener: Listener,
        parallel: int = 0,
        asks: Mapping[str, float] | None = None,
    ) -> None:
        self.memory, self.listener = memory, listener
        self._parallel, self._asks = parallel, {"cpu": 1.0, **(asks or {})}

    def search(self, space: Mapping[str, Domain], trials: int, seed: int) -> list[Trial]:
        """Return so many settings, drawn at random, each played once up to the split."""
        drawn = {key: _drawn(domain) for key, domain in space.items()}
        self.listener.begin("searching", trials)
        done = self._run(drawn, _asked, samples=trials, seed=seed)
        return [Trial(dict(_asked(config).settings), play) for config, play in done]

    def repeat(self, settings: Sequence[Settings], seeds: int) -> list[Contender]:
        """Return each of the settings, played to the end under so many seeds."""
        from ray import tune

        takes = [Take(each, seed, whole=True) for each in settings for seed in range(seeds)]
        self.listener.begin("comparing", len(takes))
        grid = {"take": tune.grid_search(list(range(len(takes))))}
        done = self._run(grid, lambda config: takes[config["take"]])
        plays = {int(config["take"]): play for config, play in done}
        return [
            Contender(each, tuple(plays[i * seeds + seed] for seed in range(seeds)))
            for i, each in enumerate(settings)
        ]

    def _run(
        self, space: dict[str, Any], take_of: TakeOf, samples: int = 1, seed: int = 0
    ) -> list[tuple[dict[str, Any], Play]]:
        from ray import tune
        from ray.tune.search.basic_variant import BasicVariantGenerator

        trainable = tune.with_resources(
            tune.with_parameters(_play, memory=self.memory, take_of=take_of), self._asks
        )
        with tempfile.TemporaryDirectory(prefix="undrift-tune-") as scratch:
            tuner = tune.Tuner(
                trainable,
                param_space=space,
                tune_config=tune.TuneConfig(
                    num_samples=samples,
                    max_concurrent_trials=self._parallel or None,
                    search_alg=BasicVariantGenerator(random_state=seed),
                    reuse_actors=True,
                    trial_dirname_creator=lambda trial: trial.trial_id,
                ),
                run_config=tune.RunConfig(
                    name="plays",
                    storage_path=scratch,
                    verbose=0,
                    callbacks=[_relay(self.listener)],
                    failure_config=tune.FailureConfig(max_failures=_RETRIES),
                ),
            )
            found = tuner.fit()
        if found.errors:
            raise PlatformError(f"a play failed: {str(found.errors[0]).strip().splitlines()[-1]}")
        return [(each.config, Play.from_dict(each.metrics["play"])) for each in found]


def _play(config: dict[str, Any], memory: Memory, take_of: TakeOf) -> None:
    """Play once; runs in a process of Tune's."""
    from ray import tune

    take, stream = take_of(config), memory.history.stream
    rows = len(stream) if take.whole else memory.history.split
    told = 0

    def progress(done: int) -> None:
        nonlocal told
        if done - told >= rows / _REPORTS and done < rows:
            told = done
            tune.report({"share": done / rows})

    tune.report({"share": 1.0, "play": asdict(memory.play(take, progress))})


def _drawn(domain: Domain) -> Any:
    """Return the domain as Ray Tune has it."""
    from ray import tune

    if domain.options:
        return tune.choice(list(domain.options))
    whole = domain.kind.endswith("randint")
    low, high = (int(v) if whole else v for v in (domain.low, domain.high))
    return getattr(tune, domain.kind)(low, high)


def _asked(config: dict[str, Any]) -> Take:
    return Take({key: value_text(value) for key, value in config.items()})


def _relay(listener: Listener) -> Any:
    """Return a callback of Tune's that passes on what trials report."""
    from ray import tune

    class Relay(tune.Callback):  # type: ignore[misc]
        def on_trial_result(self, *_: Any, trial: Any, result: dict[str, Any], **__: Any) -> None:
            play = result.get("play")
            listener.tell(trial.trial_id, result["share"], play and Play.from_dict(play))

        def __reduce__(self) -> Any:
            """Tune keeps a copy for `Tuner.restore`, which is not used."""
            return tune.Callback, ()

    return Relay()
