"""The retraining methods, as data: what they draw from, what they train, what they protect."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from undrift.errors import TrainingError
from undrift.train.methods.block_selection import BanditBlockSelector, BlockSelector, HeadSelector
from undrift.train.methods.consolidation import AwareSynapses, ElasticWeights
from undrift.train.methods.dark_replay import DarkReplay
from undrift.train.methods.experience_replay import ReplaySampler
from undrift.train.methods.gradmatch import MatchingSampler
from undrift.train.methods.penalty import Penalty
from undrift.train.methods.protection import Protection
from undrift.train.methods.rho_loss import ReducibleLossSampler
from undrift.train.methods.sample_bandit import DoubtSampler
from undrift.train.methods.sampling import NewSampler, Sampler, TrustSampler
from undrift.train.settings import TrainSettings
from undrift.train.setup import Setup


@dataclass(frozen=True, slots=True)
class Method:
    """One way to retrain.

    Attributes:
        sampler: Makes what draws batches.
        blocks: Makes what chooses the blocks that train.
        penalty: Makes what is added to the loss.
        guided: The guiding loss is measured every round.
        paced: Batches are smaller where the budget is short (`schedule.paced`).
        min_epochs: Passes over the candidates that are made at least, whatever the plan's steps.
    """

    sampler: Callable[[Setup], Sampler] = Sampler
    blocks: Callable[[Setup], BlockSelector] = BlockSelector
    penalty: Callable[[Setup], Penalty] = lambda _: Penalty()
    guided: bool = False
    paced: bool = False
    min_epochs: int = 0

    def steps(self, planned: int, rows: int, batch_size: int) -> int:
        """Return the number of gradient steps for ``rows`` candidates."""
        return max(planned, -(-self.min_epochs * rows // batch_size))


METHODS: dict[str, Callable[[TrainSettings], Method]] = {
    "bandit": lambda settings: Method(
        sampler=DoubtSampler if settings.sample_selection else TrustSampler,
        blocks=BanditBlockSelector if settings.block_selection else BlockSelector,
        penalty=Protection,
        guided=settings.block_selection,
        paced=True,
    ),
    # Starts from the base weights: from scratch would need the recipe of the first training.
    "full": lambda _: Method(min_epochs=50),
    "finetune": lambda _: Method(sampler=NewSampler),
    "random": lambda _: Method(),
    "last_layer": lambda _: Method(sampler=TrustSampler, blocks=HeadSelector),
    "replay": lambda _: Method(sampler=ReplaySampler),
    "der++": lambda _: Method(sampler=NewSampler, penalty=DarkReplay),
    "ewc": lambda _: Method(sampler=NewSampler, penalty=ElasticWeights),
    "mas": lambda _: Method(sampler=NewSampler, penalty=AwareSynapses),
    "rho_loss": lambda _: Method(sampler=ReducibleLossSampler),
    "gradmatch": lambda _: Method(sampler=MatchingSampler),
}


def get_method(name: str, settings: TrainSettings) -> Method:
    """Return the method called ``name``, as configured.

    Raises:
        TrainingError: There is none.
    """
    if name not in METHODS:
        raise TrainingError(f"unknown method {name!r}; there are {', '.join(METHODS)}")
    return METHODS[name](settings)
