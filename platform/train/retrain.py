"""One retraining: from a base version and a plan to new weights and an audit log."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from undrift.errors import TrainingError
from undrift.events import DriftKind
from undrift.model import find_head, forward_with_embedding, load_weights
from undrift.records import Reference
from undrift.train.blocks import Blocks
from undrift.train.comm import Comm, SingleProcess
from undrift.train.importance import Importance, protection
from undrift.train.methods import get_method
from undrift.train.plan import RetrainPlan
from undrift.train.pool import Chosen, Pool, choose
from undrift.train.scoring import score
from undrift.train.selection import Batch, BlockSelector, Choice, StratumSampler
from undrift.train.settings import TrainSettings

_ROUND = 10  # steps between two looks at the guiding loss and two choices of a block
_GUIDE_NEW, _GUIDE_OLD = 256, 128  # rows of the guiding loss
_MAX_NORM = 1.0  # gradients are clipped to this norm
# The rate rises over this share of the steps: a confident model that is suddenly wrong everywhere
# starts with gradients that can silence its ReLUs for good.
_WARM_UP = 0.1


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a retraining stands, once a round.

    Attributes:
        step: Gradient steps made, of ``steps``.
        loss: Mean training loss of the round.
        guide_loss: Loss on the guiding rows.
        flops: Operations spent so far, over all workers.
    """

    step: int
    steps: int
    loss: float
    guide_loss: float
    flops: float


@dataclass(frozen=True, slots=True)
class TrainResult:
    """What a retraining made, and how.

    Attributes:
        state_dict: The candidate's weights, on the CPU.
        chosen: The rows that were used, and those held out.
        choices: Every choice of a bandit.
        blocks: Names of the blocks, the arms of the block bandit.
        steps: Gradient steps made.
        flops: Operations spent in forward and backward passes, over all workers.
        seconds: Wall time.
        metrics: Figures for the manifest.
    """

    state_dict: dict[str, torch.Tensor]
    chosen: Chosen
    choices: tuple[Choice, ...]
    blocks: tuple[str, ...]
    steps: int
    flops: float
    seconds: float
    metrics: dict[str, float]

    def audit(self) -> dict[str, Any]:
        """Return every choice of the two bandits, by column, as plain JSON values."""
        arms = {"sample": self.chosen.strata, "block": self.blocks}
        return {
            bandit: {
                "arms": list(names),
                "step": [c.step for c in self.choices if c.bandit == bandit],
                "arm": [c.arm for c in self.choices if c.bandit == bandit],
                "probability": [
                    round(c.probability, 5) for c in self.choices if c.bandit == bandit
                ],
                "reward": [round(c.reward, 4) for c in self.choices if c.bandit == bandit],
            }
            for bandit, names in arms.items()
        }


def retrain(
    model: nn.Module,
    base_state: Mapping[str, torch.Tensor],
    pool: Pool,
    reference: Reference,
    plan: RetrainPlan,
    *,
    settings: TrainSettings,
    comm: Comm | None = None,
    device: torch.device | str = "cpu",
    progress: Callable[[Progress], None] | None = None,
) -> TrainResult:
    """Retrain a model from its base version.

    All workers call this with the same arguments but ``comm``; they draw the same batches, each
    trains on its part of every batch, and gradients and rewards are averaged, so the number of
    workers does not change the outcome beyond rounding.

    Args:
        model: A model of the right architecture; its weights are overwritten, and parameters
            that require no gradient stay as they are.
        base_state: Weights of the base version.
        pool: Labelled rows.
        reference: Reference of the base version.
        plan: What to do.
        settings: How to do it.
        comm: The other workers; none by default.
        device: Where to train.
        progress: Called once a round.

    Raises:
        TrainingError: The pool cannot be trained on, or training diverged.
        ModelError: The weights do not fit, or the model has no linear head.
    """
    started = time.monotonic()
    required = [(p, p.requires_grad) for p in model.parameters()]
    comm = comm or SingleProcess()
    try:
        run = _Run(model, base_state, pool, reference, plan, settings, comm, device)
        while run.step < run.steps:
            report = run.round()
            if progress is not None:
                progress(report)
        return run.result(time.monotonic() - started)
    finally:
        for parameter, needed in required:
            parameter.requires_grad_(needed)
            parameter.grad = None


class _Run:
    """The state of one retraining."""

    def __init__(
        self,
        model: nn.Module,
        base_state: Mapping[str, torch.Tensor],
        pool: Pool,
        reference: Reference,
        plan: RetrainPlan,
        settings: TrainSettings,
        comm: Comm,
        device: torch.device | str,
    ) -> None:
        method = get_method(plan.method)
        load_weights(model, base_state)
        self.model, self.settings, self.comm = model.to(device), settings, comm
        self.plan, self.method = plan, method
        torch.manual_seed(plan.seed)  # dropout and the like
        self.chosen = choose(
            pool,
            kind=plan.kind,
            regime_start=plan.regime_start,
            settings=settings,
            seed=plan.seed,
        )
        _, self.head = find_head(model)
        self.x = torch.as_tensor(pool.x, device=device)
        self.y = torch.as_tensor(pool.y, device=device)
        self._check_labels()
        self.blocks = Blocks(model, self.x[:2])
        self.sampler = method.sampler(self.chosen, plan.seed)
        self._set_guide()
        self._set_protection(reference, device)
        parameters = [p for block in self.blocks.all for p in block.parameters]
        self.optimizer = torch.optim.AdamW(parameters, lr=settings.learning_rate, weight_decay=0.0)
        self.steps = method.steps(plan.steps, len(self.chosen.index), settings.batch_size)
        rounds = -(-self.steps // _ROUND)
        self.selector = (
            BlockSelector(len(self.blocks), rounds, plan.seed) if method.selects_blocks else None
        )
        self.step, self.flops = 0, 0.0
        self.generator = torch.Generator().manual_seed(plan.seed)
        self.blocks.activate(0)
        self.guide_loss = self._look()
        self.first_guide_loss = self.guide_loss

    def _check_labels(self) -> None:
        classes, largest = self.head.out_features, int(self.y.max())
        if largest >= classes or int(self.y.min()) < 0:
            raise TrainingError(
                f"the pool has label {largest}, but the model's head has {classes} classes "
                f"(0 to {classes - 1}); extend the model or drop those labels"
            )

    def _set_guide(self) -> None:
        """Fix the rows whose loss guides the bandits: rows of the new regime, and rows to remember.

        The former are held out: on rows that are trained on, the loss falls whatever is chosen.
        Nothing is fitted to them but choices among tens of strata, so the gate may use them too.
        """
        rng = np.random.default_rng([self.plan.seed, 2])
        new = self.chosen.validation[-_GUIDE_NEW:]
        old = self.chosen.index[~self.chosen.new]
        share = self.settings.retention_share
        if self.plan.kind is DriftKind.CONCEPT or not len(old):
            old, share = old[:0], 0.0
        old = rng.choice(old, min(_GUIDE_OLD, len(old)), replace=False)
        self.guide_new = torch.as_tensor(new)
        self.guide = torch.as_tensor(np.concatenate([new, old]))
        each = [(1.0 - share) / len(new), share / max(1, len(old))]
        weights = np.repeat(each, [len(new), len(old)])
        self.guide_weight = torch.as_tensor(weights, dtype=torch.float32, device=self.x.device)

    def _set_protection(self, reference: Reference, device: torch.device | str) -> None:
        settings = self.settings
        self.importance: Importance | None = None
        self.protected = 0.0
        if not self.method.protects or not len(reference):
            return
        if settings.synapse_strength == settings.neuron_strength == 0.0:
            return
        output, _ = score(self.model, self.x[self.guide_new].cpu().numpy(), device=device)
        accuracy = float((output.argmax(axis=1) == self.y[self.guide_new].cpu().numpy()).mean())
        before = float((reference.output.argmax(axis=1) == reference.y).mean())
        classes = self.head.out_features
        self.protected = protection(self.plan.kind, accuracy, before, classes)
        if self.protected > 0.0:
            self.importance = Importance(self.model, torch.as_tensor(reference.x, device=device))

    def _look(self) -> float:
        """Measure the guiding loss, and keep its gradient at the head."""
        self.model.eval()
        with torch.no_grad():
            logits, embedding = forward_with_embedding(self.model, self.head, self.x[self.guide])
            target = self.y[self.guide]
            losses = F.cross_entropy(logits, target, reduction="none")
            residual = _residual(logits, target) * self.guide_weight[:, None]
            self.guide_gradient = residual.T @ _with_bias(embedding)
            loss = float((losses * self.guide_weight).sum())
        self.flops += len(self.guide) * self.blocks.step_flops(len(self.blocks)) * self.comm.world
        return loss

    def round(self) -> Progress:
        """Choose a block, make up to ten steps, and reward the choice."""
        lowest = self.selector.choose() if self.selector is not None else 0
        self.model.train()
        self.blocks.activate(lowest)
        for block in self.blocks.all[:lowest]:
            for parameter in block.parameters:
                self.optimizer.state.pop(parameter, None)
        count = min(_ROUND, self.steps - self.step)
        losses = [self._step(lowest) for _ in range(count)]
        mean_loss = torch.stack(losses).mean()
        buffers = [b for b in self.model.buffers() if b.is_floating_point()]
        self.comm.mean_([mean_loss, *buffers])
        before, self.guide_loss = self.guide_loss, self._look()
        self._check_finite(float(mean_loss))
        if self.selector is not None:
            share = self.blocks.step_flops(lowest) / self.blocks.step_flops(0)
            self.selector.learn(self.step, before - self.guide_loss, share)
        return Progress(self.step, self.steps, float(mean_loss), self.guide_loss, self.flops)

    def _step(self, lowest: int) -> torch.Tensor:
        batch = self.sampler.draw(self.settings.batch_size)
        mine = slice(self.comm.rank, None, self.comm.world)
        rows = torch.as_tensor(batch.index[mine])
        rehearsed = (
            self.importance.rehearse(self.generator) if self.importance is not None else None
        )
        loss = self._loss(batch, rows, rehearsed, mine)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        active = [p for b in self.blocks.all[lowest:] for p in b.parameters if p.grad is not None]
        gradients = [p.grad for p in active if p.grad is not None]
        self.comm.mean_(gradients)
        nn.utils.clip_grad_norm_(active, _MAX_NORM)
        done = self.step / self.steps
        rate = self.settings.learning_rate * min(1.0, (done + 1e-3) / _WARM_UP) * (1.0 - done)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        self.step += 1
        extra = len(rehearsed) if rehearsed is not None and self._neurons else 0
        self.flops += (len(batch.index) + extra) * self.blocks.step_flops(lowest)
        return loss.detach()

    @property
    def _neurons(self) -> bool:
        return self.importance is not None and self.settings.neuron_strength > 0.0

    def _loss(
        self, batch: Batch, rows: torch.Tensor, rehearsed: torch.Tensor | None, mine: slice
    ) -> torch.Tensor:
        """Return this worker's loss; its mean over the workers is the loss of the batch."""
        x, own = self.x[rows], None
        if rehearsed is not None and self._neurons and self.importance is not None:
            own = rehearsed[mine]
            x = torch.cat([x, self.importance.x[own]])
        recording = self.importance.recording() if own is not None and self.importance else None
        with recording or nullcontext({}) as activations:
            logits, embedding = forward_with_embedding(self.model, self.head, x)
        n = len(rows)
        losses = F.cross_entropy(logits[:n], self.y[rows], reduction="none")
        self._learn(batch, logits[:n].detach(), embedding[:n].detach(), mine)
        loss = losses.sum() * (self.comm.world / len(batch.index))
        if self.importance is not None:
            if self.settings.synapse_strength > 0.0:
                weight = self.protected * self.settings.synapse_strength
                loss = loss + weight * self.importance.synapse()
            if own is not None and rehearsed is not None:
                weight = self.protected * self.settings.neuron_strength * self.comm.world
                loss = loss + weight * self.importance.neuron(activations, own, len(rehearsed))
        return loss

    def _learn(
        self, batch: Batch, logits: torch.Tensor, embedding: torch.Tensor, mine: slice
    ) -> None:
        """Give every row of the batch its first-order decrease of the guiding loss."""
        if not isinstance(self.sampler, StratumSampler):
            return
        residual = _residual(logits, self.y[torch.as_tensor(batch.index[mine])])
        scores = torch.zeros(len(batch.index), device=logits.device)
        scores[mine] = ((residual @ self.guide_gradient) * _with_bias(embedding)).sum(dim=1)
        scores[mine] *= self.comm.world
        self.comm.mean_([scores])
        self._check_finite(float(scores.sum()))
        self.sampler.learn(self.step, batch, scores.cpu().numpy().astype(np.float64))

    def _check_finite(self, loss: float) -> None:
        if not (math.isfinite(loss) and math.isfinite(self.guide_loss)):
            raise TrainingError(
                f"training diverged at step {self.step} (loss {loss:.3g}, guiding loss "
                f"{self.guide_loss:.3g}); lower train.learning_rate, or look for broken inputs"
            )

    def result(self, seconds: float) -> TrainResult:
        """Return the candidate."""
        self.model.eval()
        choices: list[Choice] = []
        if isinstance(self.sampler, StratumSampler):
            choices += self.sampler.log
        if self.selector is not None:
            choices += self.selector.log
        state = {
            name: tensor.detach().to("cpu", copy=True).contiguous()
            for name, tensor in self.model.state_dict().items()
        }
        if not all(bool(torch.isfinite(t).all()) for t in state.values() if t.is_floating_point()):
            raise TrainingError("training ended with weights that are not finite")
        return TrainResult(
            state_dict=state,
            chosen=self.chosen,
            choices=tuple(choices),
            blocks=tuple(block.name for block in self.blocks.all),
            steps=self.step,
            flops=self.flops,
            seconds=seconds,
            metrics={
                "first_guide_loss": self.first_guide_loss,
                "guide_loss": self.guide_loss,
                "protection": self.protected,
                "candidates": float(len(self.chosen.index)),
                "candidates_new": float(self.chosen.new.sum()),
            },
        )


def _residual(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Return the gradient (n, c) of the cross-entropy with respect to the logits."""
    return logits.softmax(dim=1) - F.one_hot(target, logits.shape[1]).to(logits.dtype)


def _with_bias(embedding: torch.Tensor) -> torch.Tensor:
    return torch.cat([embedding, embedding.new_ones(len(embedding), 1)], dim=1)
