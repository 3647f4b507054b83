"""How to retrain: the `train` section of the configuration."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from undrift.errors import ConfigError
from undrift.settings import Folder, Section
from undrift.train.budget import Budget

MethodName = Literal[
    "bandit",
    "full",
    "finetune",
    "random",
    "last_layer",
    "replay",
    "der++",
    "ewc",
    "mas",
    "rho_loss",
    "gradmatch",
]


def _budget(text: str) -> str:
    try:
        Budget.parse(text)
    except ConfigError as error:
        raise ValueError(str(error)) from error
    return text


def _dashboard(text: str) -> str:
    if text and not re.fullmatch(r"https?://[^/\s]+(/\S*)?", text):
        raise ValueError("the dashboard of a Ray cluster, as http://HEAD:8265")
    return text.rstrip("/")


SPAN = 4
"""Predictions that a retraining reads for each labelled row that it may use."""


class TrainSettings(Section):
    """How to retrain, and when a candidate is good enough."""

    method: MethodName = "bandit"
    """bandit: selected samples and blocks, with protection of what the model knows; full: many
    passes over everything labelled; finetune: the new regime only; random: bandit's budget, spent
    on samples taken at random; last_layer: random, but only the head trains;
    replay: half of each batch from a memory of older rows; der++: a memory, and what the base
    version said of it; ewc, mas: the new regime only, and important weights hold still; rho_loss:
    rows that are not learnt yet, but can be; gradmatch: a weighted subset with the gradient of
    all."""
    workers: int = Field(default=1, ge=1)
    """Training processes; their gradients are averaged."""
    use_gpu: bool | Literal["auto"] = "auto"
    """Train on GPUs; auto: where there is one."""
    steps: int = Field(default=600, ge=1)
    """Gradient steps of one retraining, if no budget is set; bandit also aims at as many under a
    budget of operations."""
    budget: Annotated[str, AfterValidator(_budget)] = ""
    """The most that one retraining may spend, set-up included, as 30s, 5min or 2.5TFLOP: it trains
    until that is spent."""
    batch_size: int = Field(default=64, ge=2)
    """Rows of one gradient step, over all workers; a retraining needs as many new labels. bandit
    takes fewer, down to 16, where a budget of operations would not last for `steps`."""
    learning_rate: float = Field(default=4e-3, gt=0.0, le=1.0)
    """Peak learning rate of AdamW; it rises over the first tenth of the run, then falls to zero."""
    sample_selection: bool = True
    """bandit: rows that the labels of like rows speak against come as often as a bandit finds the
    model to say as they do; else all rows are drawn by trust."""
    block_selection: bool = False
    """bandit: a bandit chooses which blocks of the model train in the second half of a run. It
    saves operations where the lower blocks of a large model need not move; on small ones it has
    gained nothing (docs/retraining.md)."""
    synapse_strength: float = Field(default=0.0, ge=0.0)
    """Weight of the penalty on moving important parameters, as 0.02; 0 turns it off. Beside older
    rows that are trained on again it has gained nothing (docs/retraining.md)."""
    neuron_strength: float = Field(default=0.0, ge=0.0)
    """Weight of the penalty on moving important activations; 0 turns it off. It makes every step
    answer 32 rows more, which costs more accuracy than it keeps where compute is short."""
    retention_share: float = Field(default=0.5, ge=0.0, lt=1.0)
    """How much older regimes count beside the newest, in batches and when a sample's use is
    measured; less, as far as newer rows contradict their labels."""
    max_pool_rows: int = Field(default=20_000, ge=100)
    """Labelled rows considered for one retraining; the newest are kept."""
    min_improvement: float = Field(default=0.01, ge=0.0, le=1.0)
    """Accuracy, or R2, that a candidate must gain on recent held-out rows, as a fraction."""
    max_retention_loss: float = Field(default=0.1, ge=0.0, le=1.0)
    """Accuracy, or R2, that a candidate may lose on older regimes that are still valid, as a
    fraction."""
    threads: int = Field(default=1, ge=1)
    """CPU threads of one worker."""
    nice: Annotated[int, Field(ge=0, le=19)] | Literal["idle"] = 10
    """CPU niceness of the workers, so that serving goes first. idle: they run only where nothing
    else wants the core; requests wait less, and a retraining for ever while all cores are busy
    (docs/neighbours.md)."""
    idle_s: float = Field(default=600.0, gt=0.0)
    """Seconds that workers started by a warning wait for the alarm."""
    keep_staged: bool = False
    """Keep the workers waiting at all times, not only from a warning on: the quickest answer to an
    alarm, for the price of their memory."""

    address: Annotated[str, AfterValidator(_dashboard)] = ""
    """Train as a job in another Ray cluster, whose dashboard this is, as `http://HEAD:8265`; empty:
    where the model is served. Both clusters reach the state: a path that they share, or a bucket
    (docs/away.md)."""
    token_file: Folder | None = None
    """File with that cluster's token, on the machine where the platform's trainer runs; null: as
    Ray's own variables say, RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH."""

    @property
    def rows_read(self) -> int:
        """Predictions that a retraining reads, counted back from the newest labelled one."""
        return SPAN * self.max_pool_rows
